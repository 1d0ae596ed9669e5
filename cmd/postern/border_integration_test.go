//go:build integration

package main_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
)

// relayForms are recipients by which one tries to relay through a border, and
// what it says to each: "" is any 5xx.
var relayForms = []struct{ form, want string }{
	// elsewhere, plainly and in disguise
	{"<victim@elsewhere.example>", "550 5.7.1 "},
	{"<victim@sub.example.com>", "550 5.7.1 "},
	{"<victim@notexample.com>", "550 5.7.1 "},
	{"<victim@example.com.elsewhere.example>", "550 5.7.1 "},
	{"<victim@example.co>", "550 5.7.1 "},
	{"<victim@example.comm>", "550 5.7.1 "},
	{"<victim@com>", "550 5.7.1 "},
	{"<victim@localhost>", "550 5.7.1 "},
	{"<victim@mx.example.com>", "550 5.7.1 "},
	{"<victim@[127.0.0.1]>", "550 5.7.1 "},
	{"<victim@[IPv6:::1]>", "550 5.7.1 "},
	{"<victim@[198.51.100.7]>", "550 5.7.1 "},
	{"<victim@127.0.0.1>", "550 5.7.1 "},
	{"<victim@2130706433>", "550 5.7.1 "},
	// ours at the end, somebody else's within
	{"<victim%elsewhere.example@example.com>", "550 5.1.3 "},
	{"<elsewhere.example!victim@example.com>", "550 5.1.3 "},
	{"<victim@elsewhere.example@example.com>", "550 5.1.3 "},
	{"<\"victim@elsewhere.example\"@example.com>", "550 5.1.3 "},
	{"<\"victim%elsewhere.example\"@example.com>", "550 5.1.3 "},
	{"<\"elsewhere.example!victim\"@example.com>", "550 5.1.3 "},
	{"<@example.com:victim@elsewhere.example>", ""},
	{"<@elsewhere.example:victim@example.com>", "550 5.1.3 "},
	{"<@a.example,@b.example:victim@example.com>", "550 5.1.3 "},
	{"<victim%elsewhere.example%example.com@example.com>", "550 5.1.3 "},
	// somebody else's at the end, ours within
	{"<victim%example.com@elsewhere.example>", "550 5.7.1 "},
	{"<example.com!victim@elsewhere.example>", "550 5.7.1 "},
	{"<\"victim@example.com\"@elsewhere.example>", "550 5.7.1 "},
	{"<victim@example.com@elsewhere.example>", ""},
	// no domain
	{"<victim>", ""},
	{"<\"victim@elsewhere.example\">", ""},
	{"<victim%elsewhere.example>", ""},
	{"<elsewhere.example!victim>", ""},
	{"<>", ""},
	{"<@example.com>", ""},
	{"<@>", ""},
	// what is no address
	{"<victim@example.com,victim@elsewhere.example>", ""},
	{"<victim@example.com> <victim@elsewhere.example>", ""},
	{"<victim@elsewhere.example(example.com)>", ""},
	{"<victim@example.com\x00@elsewhere.example>", ""},
	{"<victim\x00@example.com>", ""},
	{"<vic tim@example.com>", ""},
	{"<victim@exa mple.com>", ""},
	{"<victim@example..com>", ""},
	{"<victim@-example.com>", ""},
	{"<victim@example.com> NOTIFY=NEVER", ""},
	{"<victim@example.com> SIZE=1", ""},
	{"<victim@example.com>>", ""},
	{"victim@elsewhere.example", ""},
}

// Nobody relays through the border, whoever they say they are.
func TestIntegrationRelayForms(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nper_client = 500\n")
	w.start()
	for _, sender := range []string{"", "spammer@sender.example", "postmaster@example.com", "x@[127.0.0.1]"} {
		var c *client
		for i, f := range relayForms {
			if i%10 == 0 { // a session ends after too many refusals
				c = w.dial(i%20 == 0)
				c.expect(t, "250", "MAIL FROM:<%s>", sender)
			}
			r, err := c.cmd("RCPT TO:%s", f.form)
			switch {
			case err != nil:
				t.Fatalf("from %q, %q: %v", sender, f.form, err)
			case r[0] != '5' || !strings.HasPrefix(r, f.want):
				t.Errorf("from %q, %q: %q, want %q", sender, f.form, r, f.want)
			}
		}
	}
	in.none(t)
}

// What looks strange and is ours is taken: an opaque local part, a listed
// recipient, postmaster.
func TestIntegrationOwnRecipients(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+fmt.Sprintf(`[domains."listed.example"]
deliver_to = [%q]
recipients = ["anna@listed.example", "anna%%branch@listed.example"]
`, in.address))
	w.start()
	good := []string{
		"anna@example.com", "ANNA@EXAMPLE.COM", "o'brien+tag=x@example.com", "|/bin/sh@example.com", "/etc/passwd@example.com",
		"\"quoted part\"@example.com", "\"a> SIZE=1 <b\"@example.com", "postmaster@example.com", "abuse@example.com", "Postmaster",
		"anna@listed.example", "anna%branch@listed.example", "postmaster@listed.example", "postmaster@mx.example.com", "abuse@mx.example.com",
	}
	c := w.dial(false)
	for _, rcpt := range good {
		in.clear()
		r, err := c.transaction(envelope{"a@sender.example", []string{rcpt}}, message("x", "x\n"))
		if err != nil || !strings.HasPrefix(r, "250 2.0.0 ") {
			t.Errorf("%s: %q %v", rcpt, r, err)
			continue
		}
		a := in.only(t)
		if _, domain, has := strings.Cut(rcpt, "@"); has && domain != "mx.example.com" && (len(a.to) != 1 || a.to[0] != rcpt && !strings.Contains(rcpt, "\"")) {
			t.Errorf("%s arrived for %q", rcpt, a.to)
		}
	}
	c.expect(t, "250", "MAIL FROM:<>")
	c.expect(t, "550 5.1.1 ", "RCPT TO:<bob@listed.example>")
	c.expect(t, "550 5.1.3 ", "RCPT TO:<bob%%branch@listed.example>")
}

// smuggled is what a second message within a first would be.
const smuggled = "MAIL FROM:<smuggler@sender.example>\r\nRCPT TO:<anna@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"

// strangeEnds are ends of a content that some server takes for one.
var strangeEnds = map[string]string{
	"LF.LF": "\n.\n", "LF.CRLF": "\n.\r\n", "CRLF.LF": "\r\n.\n", "CR.CR": "\r.\r", "CR.CRLF": "\r.\r\n", "CRLF.CR": "\r\n.\r",
	"LF.CR": "\n.\r", "CR.LF": "\r.\n", "CRCRLF.CRLF": "\r\r\n.\r\n", "CRLF.CRCRLF": "\r\n.\r\r\n", "LFCR.LFCR": "\n\r.\n\r",
	"CRLF NUL.CRLF": "\r\n\x00.\r\n", "CRLF.NUL CRLF": "\r\n.\x00\r\n", "CR NUL LF.CRLF": "\r\x00\n.\r\n", "CRLF.CR NUL LF": "\r\n.\r\x00\n",
	"NUL": "\x00", "a bare CR": "x\rx", "a bare LF": "x\nx",
}

// A content ends at CRLF.CRLF and nowhere else, and its octets are never read as
// commands.
func TestIntegrationSmuggling(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nper_client = 500\n")
	w.start()
	for _, secure := range []bool{false, true} {
		for name, end := range strangeEnds {
			// The octets behind come with the content, and once more in the hope
			// that a server has been confused.
			c := w.dial(secure)
			c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
			c.expect(t, "250", "RCPT TO:<anna@example.com>")
			c.expect(t, "354", "DATA")
			fmt.Fprintf(c.conn, "Subject: %s\r\n\r\nbefore%s%s%sQUIT\r\n", name, end, smuggled, smuggled)
			text, closed := c.rest()
			if !closed || !strings.HasPrefix(text, "550 5.6.0 ") || strings.Count(text, "\n") != 1 {
				t.Errorf("%s (TLS %v): %q, closed %v", name, secure, text, closed)
			}
		}
		// Behind a true end there are commands again.
		c := w.dial(secure)
		c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
		c.expect(t, "250", "RCPT TO:<anna@example.com>")
		c.expect(t, "354", "DATA")
		fmt.Fprint(c.conn, "Subject: x\r\n\r\nfirst\r\n.\r\nNOOP\r\nQUIT\r\n")
		if text, closed := c.rest(); !closed || strings.Count(text, "\n") != 3 || !strings.HasPrefix(text, "250 2.0.0 ") {
			t.Errorf("a true end (TLS %v): %q", secure, text)
		}
	}
	if list := in.all(); len(list) != 2 {
		t.Errorf("%d messages inside, want the two true ones", len(list))
	}
	if found := w.objects("track", "smuggler@sender.example"); len(found) > 0 {
		t.Errorf("the smuggled commands were carried out: %v", found)
	}
}

// A content whose end never came is never taken, however it was cut.
func TestIntegrationCut(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[limits]\nper_client = 500\n")
	w.start()
	whole := string(stuffed(message("cut", "Hello\n.\nthe end\n")))
	hangUps := map[string]func(*client){
		"close": func(c *client) { c.close() },
		"reset": func(c *client) { _ = rawConn(c).SetLinger(0); _ = rawConn(c).Close() },
		"half":  func(c *client) { _ = rawConn(c).CloseWrite(); _, _ = c.rest(); c.close() },
		"raw":   func(c *client) { _ = rawConn(c).Close() }, // under TLS: without close_notify
	}
	for _, hangUp := range hangUps {
		for _, secure := range []bool{false, true} {
			for _, at := range []int{0, 1, 40, len(whole) - 20, len(whole) - 5, len(whole) - 3, len(whole) - 2, len(whole) - 1} {
				c := w.dial(secure)
				c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
				c.expect(t, "250", "RCPT TO:<anna@example.com>")
				c.expect(t, "354", "DATA")
				fmt.Fprint(c.conn, whole[:at])
				hangUp(c)
			}
		}
	}
	// BDAT is not offered, and what comes behind it is not read as commands.
	c := w.dial(false)
	c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
	c.expect(t, "250", "RCPT TO:<anna@example.com>")
	fmt.Fprintf(c.conn, "BDAT %d LAST\r\n%s", 10*len(smuggled), smuggled)
	if text, closed := c.rest(); !closed || strings.Contains(text, "354") || text[0] != '5' {
		t.Errorf("BDAT: %q, closed %v", text, closed)
	}
	// All of the sessions are over once the last record says so.
	w.send(envelope{"alice@sender.example", []string{"last@example.com"}}, message("whole", "x\n"), "250")
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if a := in.only(t); a.to[0] != "last@example.com" {
		t.Errorf("a cut message was delivered:\n%s", a.content)
	}
	if list := w.objects("queue", "list"); len(list) > 0 {
		t.Errorf("queue: %v", list)
	}
	if list := w.objects("quarantine", "list"); len(list) > 0 {
		t.Errorf("quarantine: %v", list)
	}
}

func rawConn(c *client) *net.TCPConn {
	if secured, is := c.conn.(*tls.Conn); is {
		return secured.NetConn().(*net.TCPConn)
	}
	return c.conn.(*net.TCPConn)
}

// What was said before STARTTLS does not count after it.
func TestIntegrationStartTLSInjection(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	c := w.dial(false)
	fmt.Fprint(c.conn, "STARTTLS\r\n"+smuggled)
	if r, err := c.reply(); err == nil && strings.HasPrefix(r, "220") {
		secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		if secured.Handshake() == nil {
			s := newClient(secured)
			s.expect(t, "503", "RCPT TO:<anna@example.com>")
			s.expect(t, "250", "EHLO again")
			s.expect(t, "503", "DATA")
		}
	}
	// Protocols that are not ours.
	for _, hello := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "EHLO x\nMAIL FROM:<a@sender.example>\n"} {
		other, _, err := connect(w.mx, "")
		if err != nil {
			t.Fatal(err)
		}
		defer other.close()
		fmt.Fprint(other.conn, hello)
		if text, closed := other.rest(); !closed || strings.HasPrefix(text, "250") {
			t.Errorf("%q: %q, closed %v", hello, text, closed)
		}
	}
	in.none(t)
}
