//go:build integration

package main_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// An inside that takes its time over the final dot keeps nobody waiting beyond
// limits.reply, and gets the message once.
func TestIntegrationSlowInside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, late string // the inside's late answer
		from       string
		check      func(t *testing.T, w *world, in *inside, content []byte, id string)
	}{
		{"taken late", "250 2.0.0 taken", "alice@sender.example", func(t *testing.T, w *world, in *inside, content []byte, _ string) {
			checkAdded(t, in.only(t).content, content, "ESMTP")
		}},
		{"refused late", "550 5.7.1 spam", "alice@sender.example", func(t *testing.T, w *world, in *inside, content []byte, id string) {
			in.none(t)
			kept := w.objects("quarantine", "list", "--reason", "undeliverable")
			if len(kept) != 1 || kept[0].text("class") != "undeliverable" || !strings.Contains(kept[0].text("reason"), "550 5.7.1 spam") {
				t.Fatalf("kept: %v", kept)
			}
			if raw := w.must("quarantine", "show", "--raw", kept[0].text("id")); !strings.HasSuffix(raw, string(content)) {
				t.Errorf("what is kept is not what came:\n%s", raw)
			}
		}},
		{"refused late, from one of ours", "550 5.7.1 spam", "bob@example.com", func(t *testing.T, w *world, in *inside, content []byte, id string) {
			in.set(nil, nil)
			checkDSN(t, in.only(t), "bob@example.com", "anna@example.com", "550 5.7.1 spam")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := newInside(t)
			w := newWorld(t, domain(in, "")+"[limits]\nreply = \"2s\"\n[delivery]\nretry = [\"200ms\"]\n")
			w.start()
			answer := make(chan string)
			in.set(nil, func(a arrival) string {
				if a.from == "" { // a report on it
					return ""
				}
				return <-answer
			})
			content := message("slow", "Hello\n")
			began := time.Now()
			id := idOf(t, w.send(envelope{test.from, toAnna.to}, content, "250 2.0.0 "))
			if took := time.Since(began); took < 1500*time.Millisecond {
				t.Errorf("taken after %v, before limits.reply", took)
			}
			// The inside has all and may yet take it: whatever is tried now would be
			// a second copy.
			if list := w.objects("queue", "list"); len(list) != 1 || list[0].text("id") != id {
				t.Fatalf("queue: %v", list)
			}
			w.must("queue", "retry")
			time.Sleep(time.Second) // five times delivery.retry: a wrong attempt would come
			if n := in.attempts(); n != 1 {
				t.Errorf("%d attempts while the answer is out", n)
			}
			answer <- test.late
			eventually(t, "the queue is empty", func() bool { return len(w.objects("queue", "list")) == 0 })
			test.check(t, w, in, content, id)
			if test.from == toAnna.from && in.attempts() != 1 {
				t.Errorf("%d attempts", in.attempts())
			}
			found := w.objects("track", id)
			if len(found) != 1 || !strings.Contains(fmt.Sprint(found[0]["deliveries"]), test.late) {
				t.Errorf("track does not say what the inside said in the end: %v", found)
			}
		})
	}
}

// checkDSN holds a report to RFC 3464.
func checkDSN(t *testing.T, a arrival, to, about, diagnostic string) {
	t.Helper()
	if a.from != "" || !slices.Equal(a.to, []string{to}) {
		t.Errorf("DSN from %q to %q", a.from, a.to)
	}
	for _, want := range []string{"multipart/report", "report-type=delivery-status", "Final-Recipient: rfc822;", about, "Action: failed", diagnostic, "Reporting-MTA: dns; mx.example.com"} {
		if !strings.Contains(strings.ReplaceAll(string(a.content), "rfc822; ", "rfc822;"), want) {
			t.Errorf("the DSN lacks %q:\n%s", want, a.content)
		}
	}
	if bytes.Contains(bytes.ReplaceAll(a.content, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("the DSN holds a bare LF")
	}
}

// While the inside is down its mail waits, is shown, and goes on when the inside
// is back.
func TestIntegrationQueue(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[delivery]\nretry = [\"1h\"]\n")
	w.start()
	in.stop()
	first, second := message("first", awkward), message("second", "Hello\n")
	id := idOf(t, w.send(toAnna, first, "250 2.0.0 "))
	other := idOf(t, w.send(envelope{"", []string{"anna@example.com", "bob@example.com"}}, second, "250 2.0.0 "))

	list := w.objects("queue", "list")
	if len(list) != 2 {
		t.Fatalf("queue: %v", list)
	}
	for _, o := range list {
		o.has(t, "id time sender recipients next_hop attempts next last_reply")
		if next, err := time.Parse(time.RFC3339, o.text("next")); err != nil || time.Until(next) < 30*time.Minute {
			t.Errorf("next: %v %v", o["next"], err)
		}
	}
	i := slices.IndexFunc(list, func(o object) bool { return o.text("id") == id })
	if i < 0 || list[i].text("sender") != toAnna.from || !slices.Equal(list[i].texts("recipients"), toAnna.to) || list[i]["attempts"].(float64) < 1 || !strings.Contains(list[i].text("next_hop"), in.address) {
		t.Errorf("queue: %v", list)
	}
	w.must("queue", "show", id)
	w.mustFail("queue", "show", "absent")
	w.mustFail("queue", "retry", "absent")
	w.mustFail("queue", "delete", "absent")
	if _, metrics := w.get("/metrics"); !strings.Contains(metrics, "\npostern_queue_messages 2\n") {
		t.Error("the metrics don't say that two wait")
	}

	// It waits across a restart too.
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if offline := w.objects("queue", "list"); len(offline) != 2 {
		t.Errorf("while nothing runs: %v", offline)
	}
	w.start()
	w.must("queue", "delete", other)
	in.start()
	w.must("queue", "retry", id)
	checkAdded(t, in.only(t).content, first, "ESMTP")
	eventually(t, "the queue is empty", func() bool { return len(w.objects("queue", "list")) == 0 })
	found := w.objects("track", id)
	if len(found) != 1 || !strings.Contains(fmt.Sprint(found[0]["deliveries"]), "250 2.0.0") {
		t.Errorf("track: %v", found)
	}
}

// What can't be delivered within the lifetime is reported to one of ours, and
// kept where a report would go to somebody who sent nothing.
func TestIntegrationLifetime(t *testing.T) {
	t.Parallel()
	away, here := newInside(t), newInside(t)
	w := newWorld(t, domain(away, "")+fmt.Sprintf("[domains.\"here.example\"]\ndeliver_to = [%q]\nrecipients = \"any\"\n", here.address)+
		"[delivery]\nretry = [\"300ms\"]\nlifetime = \"1s\"\n")
	w.start()
	away.stop()
	content := message("never", "Hello\n")
	for _, from := range []string{"alice@sender.example", "", "carl@here.example"} {
		w.send(envelope{from, toAnna.to}, content, "250 2.0.0 ")
	}
	checkDSN(t, here.only(t), "carl@here.example", "anna@example.com", "5.4.7")
	eventually(t, "the queue is empty", func() bool { return len(w.objects("queue", "list")) == 0 })
	kept := w.objects("quarantine", "list", "--reason", "undeliverable")
	var senders []string
	for _, k := range kept {
		senders = append(senders, k.text("sender"))
	}
	if slices.Sort(senders); !slices.Equal(senders, []string{"", "alice@sender.example"}) {
		t.Errorf("kept: %v", kept)
	}
	// Once the inside is back what is kept can still be had.
	away.start()
	w.must("quarantine", "release", kept[0].text("id"))
	if a := away.only(t); !bytes.HasSuffix(a.content, content) {
		t.Errorf("released:\n%s", a.content)
	}
}

// What the inside says stands at the border: its refusal and, as configured, its
// "later".
func TestIntegrationRefusedInside(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	in.set(func(address string) string {
		return map[string]string{"full@example.com": "452 4.2.2 mailbox full", "gone@example.com": "550 5.2.1 mailbox\x07disabled"}[address]
	}, nil)
	to := func(list ...string) envelope { return envelope{"alice@sender.example", list} }
	content := message("x", "Hello\n")
	r := w.send(to("gone@example.com"), content, "550 5.2.1 (")
	if strings.Contains(r, "\x07") || !strings.Contains(r, "mailbox") {
		t.Errorf("%q", r)
	}
	w.send(to("full@example.com"), content, "452 4.2.2 (")
	w.send(to("full@example.com", "gone@example.com"), content, "452 4.2.2 (")
	if list := w.objects("queue", "list"); len(list) > 0 {
		t.Errorf("kept although refused: %v", list)
	}
	// One is taken: the others are ours.
	w.send(to("anna@example.com", "full@example.com", "gone@example.com"), content, "250 2.0.0 ")
	if a := in.only(t); !slices.Equal(a.to, []string{"anna@example.com"}) {
		t.Errorf("taken for %s", a.to)
	}
	if list := w.objects("queue", "list"); len(list) != 1 || !slices.Equal(list[0].texts("recipients"), []string{"full@example.com"}) {
		t.Errorf("queue: %v", list)
	}
	if kept := w.objects("quarantine", "list"); len(kept) != 1 || !slices.Equal(kept[0].texts("recipients"), []string{"gone@example.com"}) || kept[0].text("class") != "undeliverable" {
		t.Errorf("quarantine: %v", kept)
	}
}
