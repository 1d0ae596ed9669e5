//go:build integration

package main_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/filters/filtertest"
)

// attached is a message with an attachment.
func attached(subject, name, attachment string) []byte {
	return []byte("From: Alice <alice@sender.example>\r\nTo: anna@example.com\r\nSubject: " + subject + "\r\n" +
		"Date: Sat, 21 Nov 2026 10:00:00 +0100\r\nMessage-ID: <a1@sender.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee attachment\r\n" +
		"--b\r\nContent-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(attachment)) + "\r\n--b--\r\n")
}

// scam is what SpamAssassin's own rules give many points.
var scam = message("Your lottery prize", `DEAR FRIEND,

I am Barrister John Williams, attorney to the late Mr. Smith. I have a business proposal:
the transfer of the sum of US$ 25,500,000.00 (Twenty five million five hundred thousand
United States Dollars) into your bank account. This transaction is 100% risk free. Please
send your full name, address, phone number and bank account number. Viagra, Cialis, no
prescription needed. Reply urgently and confidentially.
`)

func engines(clamd, spamd *filtertest.Daemon) string {
	return fmt.Sprintf("[filters.clamav]\naddress = %q\n[filters.spamassassin]\naddress = %q\n", clamd.Unix, spamd.TCP)
}

// A virus is kept, a spam refused or marked, and scan says the same of each, all
// with the real engines; and with spamd away mail goes on.
func TestIntegrationEngines(t *testing.T) {
	t.Parallel()
	clamd, spamd := filtertest.StartClamd(t, filtertest.Clamd{}), filtertest.StartSpamd(t)
	in := newInside(t)
	w := newWorld(t, domain(in, "")+engines(clamd, spamd)+"[score]\nquarantine = 100\nreject = 500\n")
	w.start()
	t.Run("virus", func(t *testing.T) { w.with(t).testVirus(t, in) })
	t.Run("refused spam", func(t *testing.T) {
		w := w.with(t)
		r := w.send(toAnna, message("gtube", filtertest.GTUBE()+"\n"), "550 5.7.1 ")
		if strings.Contains(r, "GTUBE") {
			t.Errorf("the stranger is told why: %q", r)
		}
		in.none(t)
		if found := w.objects("track", idOf(t, r)); len(found) != 1 || found[0].text("action") != "reject" {
			t.Errorf("track: %v", found)
		}
	})
	t.Run("marked spam", func(t *testing.T) { w.with(t).testMarked(t, in) })
	t.Run("scan", func(t *testing.T) { w.with(t).testScan(t) })
	t.Run("spamd stops", func(t *testing.T) {
		w := w.with(t)
		in.clear()
		spamd.Stop()
		w.send(toAnna, scam, "250 2.0.0 ")
		if fields := added(t, in.only(t).content, scam); fields["X-Spam-Flag"][0] != "NO" {
			t.Errorf("a silent spamd's mail bears %v", fields)
		}
	})
}

func (w *world) testVirus(t *testing.T, in *inside) {
	virus := attached("a virus", "picture.jpg", filtertest.EICAR())
	id := idOf(t, w.send(toAnna, virus, "250 2.0.0 "))
	in.none(t)
	kept := w.objects("quarantine", "list", "--reason", "virus")
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	kept[0].has(t, "id time sender recipients subject size class reason symbols score")
	if kept[0].text("class") != "virus" || kept[0].text("id") != id || !slices.Contains(kept[0].texts("symbols"), "CLAMAV_VIRUS") {
		t.Errorf("kept: %v", kept)
	}
	if size := kept[0]["size"]; size != float64(len(virus)) {
		t.Errorf("size %v, want %d", size, len(virus))
	}
	if raw := w.must("quarantine", "show", id, "--raw"); raw != string(virus) {
		t.Errorf("show --raw differs:\n%q", raw)
	}
	w.mustFail("quarantine", "release", id)
	in.none(t)
	w.must("quarantine", "release", "--virus", id)
	if a := in.only(t); string(a.content) != string(virus) || a.from != toAnna.from || !slices.Equal(a.to, toAnna.to) {
		t.Errorf("released: %+v", a)
	}
	in.clear()
}

func (w *world) testMarked(t *testing.T, in *inside) {
	in.clear()
	w.send(toAnna, scam, "250 2.0.0 ")
	marked := strings.Replace(string(scam), "Subject: ", "Subject: [SPAM] ", 1)
	fields := added(t, in.only(t).content, []byte(marked))
	status := strings.Join(fields["X-Spam-Status"], "")
	found := regexp.MustCompile(`^Yes, score=(\d+\.\d) required=5\.0 tests=.*DEAR_FRIEND=\d`).FindStringSubmatch(status)
	if found == nil {
		t.Fatalf("X-Spam-Status: %q", status)
	}
	score, _ := strconv.ParseFloat(found[1], 64)
	want := map[string]string{
		"X-Spam-Flag": "YES", "X-Spam-Score": found[1], "X-Spam-Level": strings.Repeat("*", int(score)),
	}
	for name, value := range want {
		if got := strings.Join(fields[name], ""); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	in.clear()
}

// testScan holds scan --json to section 5 of the contract.
func (w *world) testScan(t *testing.T) {
	dir := folder(t)
	writeFile(t, filepath.Join(dir, "1.eml"), string(message("ham", "Hello\n")))
	writeFile(t, filepath.Join(dir, "2.eml"), string(attached("virus", "picture.jpg", filtertest.EICAR())))
	writeFile(t, filepath.Join(dir, "3.eml"), string(scam))
	writeFile(t, filepath.Join(dir, "4.eml"), string(attached("program", "run.exe", "MZ\x90\x00")))
	list := w.objects("scan", dir, "--client-ip", "198.51.100.7", "--helo", "mail.sender.example", "--from", toAnna.from, "--rcpt", "anna@example.com")
	want := []string{"accept", "quarantine", "tag", "strip"}
	if len(list) != len(want) {
		t.Fatalf("%d results: %v", len(list), list)
	}
	for i, o := range list {
		o.has(t, "path id action score required hits attachments auth elapsed_ms")
		if o.text("action") != want[i] || o.text("path") != filepath.Join(dir, fmt.Sprintf("%d.eml", i+1)) {
			t.Errorf("%d: %v, want %s", i, o, want[i])
		}
		auth, _ := o["auth"].(map[string]any)
		object(auth).has(t, "spf dkim dmarc arc")
	}
	hits, _ := list[1]["hits"].([]any)
	if i := slices.IndexFunc(hits, func(h any) bool { return h.(map[string]any)["symbol"] == "CLAMAV_VIRUS" }); i < 0 {
		t.Errorf("hits: %v", hits)
	} else {
		object(hits[i].(map[string]any)).has(t, "symbol score description evidence filter")
	}
	attachments, _ := list[3]["attachments"].([]any)
	if len(attachments) != 1 {
		t.Fatalf("attachments: %v", list[3])
	}
	a := object(attachments[0].(map[string]any))
	a.has(t, "name type true_type size sha256 path blocked reason")
	if a.text("name") != "run.exe" || a["blocked"] != true || a["size"] != 4.0 {
		t.Errorf("attachment: %v", a)
	}
	local := w.objects("scan", "--local", filepath.Join(dir, "3.eml"))
	if len(local) != 1 || local[0].text("action") != "accept" {
		t.Errorf("scan --local asked somebody: %v", local)
	}
	if _, errs, code := w.run("scan", filepath.Join(dir, "absent"), filepath.Join(dir, "1.eml")); code != 2 || !strings.HasPrefix(errs, "postern: ") {
		t.Errorf("scan of an absent file: exit code %d, %q", code, errs)
	}
}

// load are senders that go on until they are told to stop, each with a
// connection of its own, which it opens anew when it is lost.
type load struct {
	over    atomic.Bool
	senders sync.WaitGroup

	mu      sync.Mutex
	replies map[int]string // by number of message; "" is none
	dropped int            // sessions that ended within a transaction or between two
}

// startLoad starts n senders to the world; content makes message number i.
func startLoad(w *world, n int, content func(i int) []byte) *load {
	l := &load{replies: map[int]string{}}
	var number atomic.Int64
	for range n {
		l.senders.Go(func() {
			var c *client
			for !l.over.Load() {
				var err error
				if c == nil {
					if c, err = dial(w.mx); err != nil {
						c = nil
						pause()
						continue
					}
				}
				i := int(number.Add(1))
				r, err := c.transaction(toAnna, content(i))
				again := ""
				if err == nil && r[0] == '4' {
					again, _ = c.cmd("RSET") // where the transaction is still open
					pause()
				}
				if err != nil || strings.HasPrefix(r, "421") || strings.HasPrefix(again, "421") {
					c.close()
					c = nil
				}
				l.mu.Lock()
				l.replies[i] = r
				if err != nil {
					l.dropped++
				}
				l.mu.Unlock()
			}
			if c != nil {
				c.close()
			}
		})
	}
	return l
}

// stop waits for the senders and returns each message's reply.
func (l *load) stop() map[int]string {
	l.over.Store(true)
	l.senders.Wait()
	return l.replies
}

// count is how many replies so far begin with prefix.
func (l *load) count(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.replies {
		if r != "" && strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// numbered is message number i of a load: every third holds what only clamd
// knows for a virus.
func numbered(i int) []byte {
	if i%3 == 0 {
		return attached(fmt.Sprintf("number %d", i), "a.bin", filtertest.MarkTestFile)
	}
	return message(fmt.Sprintf("number %d", i), "Hello\n")
}

var subjectNumber = regexp.MustCompile(`(?m)^Subject: number (\d+)`)

func numberOf(t *testing.T, text string) int {
	t.Helper()
	found := subjectNumber.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("not one of the load's:\n%.500s", text)
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// While clamd is away nothing gets in unscanned; when it is back mail goes on by
// itself.
func TestIntegrationClamdStops(t *testing.T) {
	t.Parallel()
	clamd := filtertest.StartClamd(t, filtertest.Clamd{})
	in := newInside(t)
	w := newWorld(t, domain(in, "")+fmt.Sprintf("[filters.clamav]\naddress = %q\n", clamd.TCP))
	w.start()
	l := startLoad(w, 3, numbered)
	eventually(t, "mail is taken", func() bool { return l.count("250") >= 30 })
	clamd.Stop()
	eventually(t, "mail is put off", func() bool { return l.count("451 4.7.1") >= 30 })
	taken := l.count("250")
	clamd.Start()
	eventually(t, "mail is taken again", func() bool { return l.count("250") >= taken+30 })

	clean, infected := map[int]bool{}, map[int]bool{}
	for i, r := range l.stop() {
		switch {
		case strings.HasPrefix(r, "451 4.7.1 "):
		case !strings.HasPrefix(r, "250 2.0.0 "):
			t.Errorf("message %d: %q", i, r)
		case i%3 == 0:
			infected[i] = true
		default:
			clean[i] = true
		}
	}
	arrived := map[int]bool{}
	for _, a := range in.all() {
		arrived[numberOf(t, string(a.content))] = true
	}
	if !maps.Equal(arrived, clean) {
		t.Errorf("%d clean messages were taken, %d arrived", len(clean), len(arrived))
	}
	kept := map[int]bool{}
	for _, k := range w.objects("quarantine", "list", "--reason", "virus") {
		kept[numberOf(t, "Subject: "+k.text("subject"))] = true
	}
	if !maps.Equal(kept, infected) {
		t.Errorf("%d viruses were taken, %d are kept", len(infected), len(kept))
	}
}

// With on_error = "ignore" mail goes on without clamd. What is kept meanwhile is
// marked, and clamd sees it before it is released.
func TestIntegrationUnscanned(t *testing.T) {
	t.Parallel()
	clamd := filtertest.StartClamd(t, filtertest.Clamd{})
	clamd.Stop()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+fmt.Sprintf("[filters.clamav]\naddress = %q\non_error = \"ignore\"\n[score.symbols]\nGTUBE = 10\n", clamd.Unix))
	w.start()
	w.send(toAnna, message("clean", "Hello\n"), "250 2.0.0 ")
	in.only(t)
	in.clear()
	clean := idOf(t, w.send(toAnna, message("clean", filtertest.GTUBE()+"\n"), "250 2.0.0 "))
	virus := idOf(t, w.send(toAnna, message("virus", filtertest.GTUBE()+"\n"+filtertest.MarkTestFile+"\n"), "250 2.0.0 "))
	kept := w.objects("quarantine", "list")
	for _, k := range kept {
		if k.text("class") != "spam" || !slices.Equal(k.texts("unscanned"), []string{"clamav"}) {
			t.Errorf("kept: %v", k)
		}
	}
	if len(kept) != 2 || !strings.Contains(w.must("quarantine", "list"), "unscanned") {
		t.Errorf("kept: %v", kept)
	}
	w.mustFail("quarantine", "release", clean) // clamd still can't be asked
	in.none(t)
	clamd.Start()
	eventually(t, "the clean one is released", func() bool {
		_, _, code := w.run("quarantine", "release", clean)
		return code == 0
	})
	in.only(t)
	in.clear()
	if errs := w.mustFail("quarantine", "release", virus); !strings.Contains(errs, "virus") {
		t.Errorf("release of what clamd now calls a virus: %q", errs)
	}
	in.none(t)
	w.must("quarantine", "release", virus, "--virus")
	in.only(t)
}
