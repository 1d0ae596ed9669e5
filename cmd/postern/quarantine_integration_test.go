//go:build integration

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/filters/filtertest"
)

// keeping is a configuration that keeps GTUBE instead of refusing it.
func keeping(in *inside, more string) string {
	return domain(in, more) + "[score.symbols]\nGTUBE = 10\n"
}

func ids(list []object) (texts []string) {
	for _, o := range list {
		texts = append(texts, o.text("id"))
	}
	slices.Sort(texts)
	return texts
}

// The quarantine's commands, while the gateway runs and while it does not.
func TestIntegrationQuarantineCommands(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, keeping(in, ""))
	w.start()
	spam := message("=?utf-8?Q?Gr=C3=BC=C3=9Fe_an_Anna?=", filtertest.GTUBE()+"\n"+awkward)
	virus := attached("invoice", "invoice.txt", filtertest.EICAR())
	spamID := idOf(t, w.send(toAnna, spam, "250 2.0.0 "))
	virusID := idOf(t, w.send(envelope{"mallory@other.example", []string{"bob@example.com", "carl@example.com"}}, virus, "250 2.0.0 "))
	in.none(t)
	for _, running := range []bool{true, false} {
		if !running {
			if code := w.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		}
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			w := w.with(t)
			w.testLists(t, spamID, virusID)
			for id, content := range map[string][]byte{spamID: spam, virusID: virus} {
				if raw := w.must("quarantine", "show", id, "--raw"); raw != string(content) {
					t.Errorf("show --raw of %s differs: %q", id, raw)
				}
				if text := w.must("quarantine", "show", id); !strings.Contains(text, id) {
					t.Errorf("show: %q", text)
				}
			}
			w.testReleases(t, in, spamID, spam)
		})
	}
	w.must("quarantine", "delete", spamID) // nothing runs
	w.start()
	if list := w.objects("quarantine", "list"); !slices.Equal(ids(list), []string{virusID}) {
		t.Errorf("after delete: %v", list)
	}
	w.must("quarantine", "delete", virusID)
	if list := w.objects("quarantine", "list"); len(list) > 0 {
		t.Errorf("after delete: %v", list)
	}
}

func (w *world) testLists(t *testing.T, spamID, virusID string) {
	all := []string{spamID, virusID}
	slices.Sort(all)
	today := time.Now().Format(time.DateOnly)
	for _, q := range []struct {
		args string
		want []string
	}{
		{"", all},
		{"--rcpt anna@example.com", []string{spamID}},
		{"--rcpt carl@example.com", []string{virusID}},
		{"--rcpt example.com", all},
		{"--rcpt nobody@example.com", nil},
		{"--sender mallory@other.example", []string{virusID}},
		{"--sender sender.example", []string{spamID}},
		{"--since 1h", all},
		{"--since 7d", all},
		{"--since " + today, all},
		{"--since 0s", nil},
		{"--reason spam", []string{spamID}},
		{"--reason virus", []string{virusID}},
		{"--reason policy", nil},
		{"--reason virus --rcpt anna@example.com", nil},
	} {
		list := w.objects(append([]string{"quarantine", "list"}, strings.Fields(q.args)...)...)
		if got := ids(list); !slices.Equal(got, q.want) {
			t.Errorf("list %s: %v, want %v", q.args, list, q.want)
		}
		for _, o := range list {
			o.has(t, "id time sender recipients subject size class reason symbols score")
		}
	}
	if o := w.objects("quarantine", "list", "--reason", "spam")[0]; o.text("subject") != "Grüße an Anna" || o["score"] != 10.0 || !slices.Contains(o.texts("symbols"), "GTUBE") {
		t.Errorf("%v", o)
	}
	w.mustFail("quarantine", "list", "--since", "yesterday-ish")
	for _, verb := range []string{"show", "release", "delete"} {
		for _, id := range []string{"absent", "../../etc/passwd", "0000000000000000000000"} {
			w.mustFail("quarantine", verb, id)
		}
	}
}

// testReleases releases a kept message, which stays kept.
func (w *world) testReleases(t *testing.T, in *inside, id string, content []byte) {
	for _, r := range []struct {
		args []string
		to   string
	}{{nil, "anna@example.com"}, {[]string{"--to", "carl@example.com"}, "carl@example.com"}} {
		in.clear()
		w.must(append([]string{"quarantine", "release", id}, r.args...)...)
		if a := in.only(t); !bytes.Equal(a.content, content) || !slices.Equal(a.to, []string{r.to}) || a.from != toAnna.from {
			t.Errorf("released from %s to %s:\n%q", a.from, a.to, a.content)
		}
	}
	in.set(nil, func(arrival) string { return "550 5.7.1 no" })
	w.mustFail("quarantine", "release", id)
	in.set(nil, nil)
	w.mustFail("quarantine", "release", id, "--to", "no address")
}

// What became of a message is found by whatever is known of it, also where it
// was refused.
func TestIntegrationTrack(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, fmt.Sprintf("[domains.\"example.com\"]\ndeliver_to = [%q]\nrecipients = [\"anna@example.com\"]\n", in.address))
	w.start()
	id := idOf(t, w.send(toAnna, message("tracked mail", "Hello\n"), "250 2.0.0 "))
	c, _, err := connect(w.mx, "127.0.0.77")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.expect(t, "250", "EHLO odd.sender.example")
	c.expect(t, "250", "MAIL FROM:<relayer@sender.example>")
	c.expect(t, "550 5.7.1 ", "RCPT TO:<victim@elsewhere.example>")
	c.expect(t, "550 5.1.1 ", "RCPT TO:<nobody@example.com>")
	for _, running := range []bool{true, false} {
		if !running {
			w.stop()
		}
		for query, want := range map[string]string{
			id: "250 2.0.0", "anna@example.com": "250 2.0.0", "alice@sender.example": "250 2.0.0", "tracked": "250 2.0.0",
			"victim@elsewhere.example": "550 5.7.1", "elsewhere.example": "550 5.7.1", "nobody@example.com": "550 5.1.1",
			"127.0.0.77": "550 5.", "relayer@sender.example": "550 5.", time.Now().UTC().Format(time.DateOnly): "",
		} {
			found := w.objects("track", query)
			if len(found) == 0 {
				t.Errorf("track %s finds nothing (running %v)", query, running)
			}
			for _, o := range found {
				o.has(t, "id time client helo sender recipients action score hits reply deliveries")
				if !strings.HasPrefix(o.text("reply"), want) {
					t.Errorf("track %s: reply %q, want %q", query, o.text("reply"), want)
				}
			}
		}
		o := w.objects("track", id)[0]
		deliveries, _ := o["deliveries"].([]any)
		if len(deliveries) != 1 {
			t.Fatalf("%v", o)
		}
		d := object(deliveries[0].(map[string]any))
		d.has(t, "recipient next_hop time reply")
		if d.text("recipient") != "anna@example.com" || !strings.HasPrefix(d.text("reply"), "250") || o.text("client") != "127.0.0.1" || o.text("helo") != "client.sender.example" {
			t.Errorf("%v", o)
		}
		if found := w.objects("track", "stranger@nowhere.example"); len(found) > 0 {
			t.Errorf("track of nobody: %v", found)
		}
	}
}

// A backup that is made while the gateway runs brings everything back in
// another place.
func TestIntegrationBackup(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, keeping(in, ""))
	w.start()
	spam := message("kept", filtertest.GTUBE()+"\n"+awkward)
	kept := idOf(t, w.send(toAnna, spam, "250 2.0.0 "))
	passed := idOf(t, w.send(toAnna, message("passed", "Hello\n"), "250 2.0.0 "))
	in.stop()
	waiting := message("waiting", awkward)
	queued := idOf(t, w.send(toAnna, waiting, "250 2.0.0 "))
	file := filepath.Join(w.dir, "backup.tar")
	w.must("backup", file)
	w.send(toAnna, message("after the backup", "Hello\n"), "250 2.0.0 ") // still at work
	w.kill()

	other := newWorld(t, keeping(in, ""))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the backup, which holds mail, is open to others: %v %v", info.Mode(), err)
	}
	other.must("restore", file)
	if raw := other.must("quarantine", "show", "--raw", kept); raw != string(spam) {
		t.Errorf("the original differs: %q", raw)
	}
	if got := ids(other.objects("queue", "list")); !slices.Equal(got, []string{queued}) {
		t.Errorf("queue: %v", got)
	}
	for _, id := range []string{kept, passed, queued} {
		if found := other.objects("track", id); len(found) != 1 {
			t.Errorf("track %s: %v", id, found)
		}
	}
	in.clear()
	in.start()
	other.start()
	other.must("queue", "retry")
	checkAdded(t, in.only(t).content, waiting, "ESMTP")

	// A state that is there is not replaced unawares, and never while it is used.
	other.mustFail("restore", file, "--force")
	other.stop()
	other.mustFail("restore", file)
	other.must("restore", "--force", file)
	if got := ids(other.objects("queue", "list")); !slices.Equal(got, []string{queued}) {
		t.Errorf("queue after --force: %v", got)
	}
	half := filepath.Join(w.dir, "half.tar")
	writeFile(t, half, readFile(t, file)[:5000])
	other.mustFail("restore", "--force", half)
	if got := ids(other.objects("queue", "list")); !slices.Equal(got, []string{queued}) {
		t.Errorf("queue after half a backup: %v", got)
	}
	other.mustFail("restore", filepath.Join(w.dir, "absent.tar"))
}

// The state of a newer Postern is left alone.
func TestIntegrationNewerState(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	w.stop()
	version := filepath.Join(w.state, "VERSION")
	writeFile(t, version, "99\n")
	for _, command := range [][]string{{"serve"}, {"queue", "list"}, {"quarantine", "list"}, {"track", "x"}} {
		if errs := w.mustFail(command...); !strings.Contains(errs, "99") {
			t.Errorf("%s does not name the version: %q", command, errs)
		}
	}
	if text := readFile(t, version); text != "99\n" {
		t.Errorf("VERSION is now %q", text)
	}
}
