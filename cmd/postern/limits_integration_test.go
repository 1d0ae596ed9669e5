//go:build integration

package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sized is a message of exactly n octets, as RFC 1870 counts them.
func sized(n int) []byte {
	head := message("sized", "")
	lines := bytes.Repeat([]byte(".a line of sixty-four octets, with a dot that is stuffed on wire\r\n"), n/66)
	if left := n - len(head) - len(lines); left < 0 {
		lines = lines[:len(lines)/66*66+left/66*66-66]
	}
	rest := n - len(head) - len(lines)
	return append(append(head, lines...), strings.Repeat("x", rest-2)+"\r\n"...)
}

// A message of exactly the limit passes, and the next octet does not.
func TestIntegrationMessageSize(t *testing.T) {
	t.Parallel()
	const limit = 300_000
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nmessage_size = \"300KB\"\n")
	w.start()
	for _, secure := range []bool{false, true} {
		c := w.dial(secure)
		if r := c.expect(t, "250", "EHLO x"); !strings.Contains(r, fmt.Sprintf("SIZE %d", limit)) {
			t.Errorf("EHLO says %q", r)
		}
		in.clear()
		exact := sized(limit)
		if len(exact) != limit {
			t.Fatalf("the test's message has %d octets", len(exact))
		}
		if r, err := c.transaction(toAnna, exact); err != nil || !strings.HasPrefix(r, "250 2.0.0 ") {
			t.Fatalf("at the limit: %q %v", r, err)
		}
		added(t, in.only(t).content, exact)
		in.clear()
		if r, err := c.transaction(toAnna, append(exact, "\r\n"...)); err != nil || !strings.HasPrefix(r, "552 5.3.4 ") {
			t.Errorf("over the limit: %q %v", r, err)
		}
		// The session goes on.
		c.expect(t, "250", "MAIL FROM:<a@sender.example> SIZE=%d", limit)
		c.expect(t, "250", "RSET")
		c.expect(t, "552 5.3.4 ", "MAIL FROM:<a@sender.example> SIZE=%d", limit+1)
		c.expect(t, "552 5.3.4 ", "MAIL FROM:<a@sender.example> SIZE=99999999999999999999")
		in.none(t)
	}
}

// No line is too long for us.
func TestIntegrationLongLine(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	content := message("long", strings.Repeat("0123456789", 10_000)+"\n."+strings.Repeat("x", 99_999)+"\nend\n")
	content = append([]byte("X-Long: "+strings.Repeat("y", 100_000)+"\r\n"), content...)
	w.send(toAnna, content, "250 2.0.0 ")
	added(t, in.only(t).content, content)
}

// The recipient after the last is told "later", and the others stand.
func TestIntegrationRecipientsLimit(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nrecipients = 5\n")
	w.start()
	c := w.dial(false)
	c.expect(t, "250", "MAIL FROM:<>")
	for i := range 5 {
		c.expect(t, "250", "RCPT TO:<r%d@example.com>", i)
	}
	for range 3 {
		c.expect(t, "452 4.5.3 ", "RCPT TO:<r6@example.com>")
	}
	c.expect(t, "354", "DATA")
	c.expect(t, "250 2.0.0 ", "Subject: x\r\n\r\nx\r\n.")
	if a := in.only(t); len(a.to) != 5 {
		t.Errorf("%d recipients: %v", len(a.to), a.to)
	}
}

// A flood costs the flooder and nobody else.
func TestIntegrationConnections(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nconnections = 6\nper_client = 4\n")
	w.start()
	var flood []*client
	open := func(from, want string) *client {
		t.Helper()
		c, banner, err := connect(w.mx, from)
		if err != nil || !strings.HasPrefix(banner, want) {
			t.Fatalf("from %s: %q %v, want %q", from, banner, err, want)
		}
		t.Cleanup(c.close)
		if want != "220" {
			if _, closed := c.rest(); !closed {
				t.Errorf("from %s: turned away and not closed", from)
			}
		}
		return c
	}
	for range 4 {
		flood = append(flood, open("127.0.0.2", "220"))
	}
	open("127.0.0.2", "421 4.3.2")
	other := open("127.0.0.3", "220") // another client has its place
	open("127.0.0.3", "220")
	open("127.0.0.4", "421 4.3.2") // no more for anybody
	other.expect(t, "250", "EHLO x")
	if r, err := other.transaction(toAnna, message("x", "x\n")); err != nil || !strings.HasPrefix(r, "250") {
		t.Errorf("%q %v", r, err)
	}
	flood[0].expect(t, "221", "QUIT")
	eventually(t, "there is room again", func() bool {
		c, banner, err := connect(w.mx, "127.0.0.4")
		if err == nil {
			c.close()
		}
		return err == nil && strings.HasPrefix(banner, "220")
	})
	if found := w.objects("track", "127.0.0.2"); len(found) == 0 {
		t.Error("who was turned away is not recorded")
	}
}

// Silence ends a session, within a command and within the content.
func TestIntegrationSilence(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\ncommand = \"1s\"\ndata = \"1s\"\ntransaction = \"3s\"\n")
	w.start()
	for name, say := range map[string]func(c *client){
		"a command":      func(*client) {},
		"half a command": func(c *client) { fmt.Fprint(c.conn, "MAIL FROM:<a@sender") },
		"the content": func(c *client) {
			c.expect(t, "250", "MAIL FROM:<>")
			c.expect(t, "250", "RCPT TO:<anna@example.com>")
			c.expect(t, "354", "DATA")
			fmt.Fprint(c.conn, "Subject: never ends\r\n\r\nx\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := w.with(t).dial(false)
			say(c)
			if text, closed := c.rest(); !closed || !strings.HasPrefix(text, "421 4.4.2 ") {
				t.Errorf("%q, closed %v", text, closed)
			}
		})
	}
	t.Run("drop by drop", func(t *testing.T) {
		t.Parallel()
		c := w.with(t).dial(false)
		c.expect(t, "250", "MAIL FROM:<>")
		c.expect(t, "250", "RCPT TO:<anna@example.com>")
		c.expect(t, "354", "DATA")
		began := time.Now()
		for time.Since(began) < patience {
			if _, err := fmt.Fprint(c.conn, "x\r\n"); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
		t.Errorf("a content that never ends is still heard after %v", time.Since(began))
	})
	t.Cleanup(func() { in.none(t) })
}

// A certificate whose files change is shown to the next client.
func TestIntegrationCertificate(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	dir := folder(t)
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, "first.example", certificate, key)
	w := newWorld(t, domain(in, "")+fmt.Sprintf("[tls]\ncertificate = %q\nkey = %q\n", certificate, key))
	w.start()
	open := w.dial(true)
	shown := func() string {
		c := w.dial(true)
		defer c.close()
		return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if name := shown(); name != "first.example" {
		t.Fatalf("the certificate is %s", name)
	}
	began := time.Now()
	writeCertificate(t, "second.example", certificate, key)
	eventually(t, "the new certificate is shown", func() bool { return shown() == "second.example" })
	if took := time.Since(began); took > 15*time.Second { // 10, and some for a busy machine
		t.Errorf("shown after %v", took)
	}
	open.expect(t, "250", "NOOP")
}

// What a monitor asks.
func TestIntegrationMetrics(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := w.get(path); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	value := func(pattern string) float64 {
		_, text := w.get("/metrics")
		found := regexp.MustCompile(`(?m)^` + pattern + ` ([0-9.e+]+)$`).FindStringSubmatch(text)
		if found == nil {
			return 0
		}
		v, _ := strconv.ParseFloat(found[1], 64)
		return v
	}
	content := message("counted", "Hello\n")
	for range 3 {
		w.send(toAnna, content, "250")
	}
	w.send(envelope{"a@sender.example", []string{"x@elsewhere.example"}}, content, "550 5.7.1")
	for pattern, want := range map[string]float64{
		`postern_messages_total\{action="accept",reply="2xx"\}`: 3, `postern_recipients_refused_total\{reason="relay"\}`: 1,
		`postern_content_octets_total`: float64(3 * len(content)), `postern_message_seconds_count`: 3,
	} {
		if got := value(pattern); got != want {
			t.Errorf("%s is %v, want %v", pattern, got, want)
		}
	}
}
