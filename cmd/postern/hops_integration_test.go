//go:build integration

package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/filters/filtertest"
)

// The server inside says whom it has; what it said is known for a while.
func TestIntegrationVerify(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	in.set(func(address string) string {
		switch local, _, _ := strings.Cut(address, "@"); {
		case local == "strange":
			return "553 5.7.0 not today"
		case local == "busy":
			return "451 4.3.0 later"
		case local != "anna":
			return "550 5.1.1 who?"
		}
		return ""
	}, nil)
	w := newWorld(t, fmt.Sprintf(`[domains."example.com"]
deliver_to = [%q]
[domains."backup.example"]
deliver_to = [%q]
backup = true
`, in.address, in.address))
	w.start()
	c := w.dial(false)
	c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
	c.expect(t, "250", "RCPT TO:<anna@example.com>")
	c.expect(t, "550 5.1.1 ", "RCPT TO:<bob@example.com>")
	c.expect(t, "451 4.4.3 ", "RCPT TO:<strange@example.com>")
	c.expect(t, "451 4.4.3 ", "RCPT TO:<busy@example.com>")
	c.expect(t, "250", "RCPT TO:<postmaster@example.com>")
	in.stop()
	c.expect(t, "250", "RSET")
	c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
	c.expect(t, "250", "RCPT TO:<anna@example.com>") // known
	c.expect(t, "550 5.1.1 ", "RCPT TO:<bob@example.com>")
	c.expect(t, "450 4.1.1 ", "RCPT TO:<new@example.com>")
	c.expect(t, "250", "RCPT TO:<new@backup.example>")
	in.start()

	// Who harvests addresses is hung up on; others are not.
	harvester := w.dial(false)
	harvester.expect(t, "250", "MAIL FROM:<>")
	for i := range 9 {
		harvester.expect(t, "550 5.1.1 ", "RCPT TO:<guess%d@example.com>", i)
	}
	harvester.expect(t, "421 4.7.0 ", "RCPT TO:<guess9@example.com>")
	if _, closed := harvester.rest(); !closed {
		t.Error("not hung up on")
	}
	c.expect(t, "250", "RCPT TO:<anna@example.com>")
}

// Next hops are tried in their order, also by LMTP, and what one can't take is
// refused while the sender listens.
func TestIntegrationNextHops(t *testing.T) {
	t.Parallel()
	first, second, plain := newInside(t), newInside(t), newInside(t)
	plain.offers = "PIPELINING\nSIZE 5000"
	w := newWorld(t, fmt.Sprintf(`[domains."example.com"]
deliver_to = [%q, %q]
recipients = "any"
[domains."lmtp.example"]
deliver_to = ["lmtp://%s"]
recipients = "any"
[domains."plain.example"]
deliver_to = [%q]
recipients = "any"
`, first.address, second.address, second.address, plain.address))
	w.start()
	content := message("next hops", awkward)
	w.send(toAnna, content, "250 2.0.0 ")
	added(t, first.only(t).content, content)
	first.stop()
	w.send(toAnna, content, "250 2.0.0 ")
	added(t, second.only(t).content, content)
	second.clear()

	w.send(envelope{"a@sender.example", []string{"x@lmtp.example", "y@lmtp.example"}}, content, "250 2.0.0 ")
	if a := second.only(t); !a.lmtp || len(a.to) != 2 {
		t.Errorf("by LMTP: %v, to %q", a.lmtp, a.to)
	}

	// All of the domains in one transaction: each next hop gets its own.
	first.start()
	first.clear()
	second.clear()
	w.send(envelope{"a@sender.example", []string{"anna@example.com", "x@lmtp.example", "p@plain.example"}}, content, "250 2.0.0 ")
	for name, in := range map[string]*inside{"anna@example.com": first, "x@lmtp.example": second, "p@plain.example": plain} {
		if a := in.only(t); !slices.Equal(a.to, []string{name}) {
			t.Errorf("%s got %q", name, a.to)
		}
	}

	c := w.dial(false)
	c.expect(t, "250", "MAIL FROM:<a@sender.example> SIZE=6000")
	c.expect(t, "552 5.3.4 ", "RCPT TO:<p@plain.example>")
	c.expect(t, "250", "RSET")
	c.expect(t, "250", "MAIL FROM:<ü@sender.example> SMTPUTF8")
	c.expect(t, "550 5.6.7 ", "RCPT TO:<p@plain.example>")
	c.expect(t, "250", "RCPT TO:<añna@example.com>")
	c.expect(t, "354", "DATA")
	c.expect(t, "250 2.0.0 ", "Subject: ü\r\n\r\nü\r\n.")
	w.send(envelope{"a@sender.example", []string{"p@plain.example"}}, append(content, make8bit(4000)...), "552 5.3.4 ")
}

func make8bit(n int) []byte { return []byte(strings.Repeat("\xe9\xe8\r\n", n/4)) }

// Mail that goes round is stopped.
func TestIntegrationLoop(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	hop := "Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n"
	w.send(toAnna, []byte(strings.Repeat(hop, 50)+"\r\n"), "250")
	w.send(toAnna, []byte(strings.Repeat(hop, 51)+"\r\n"), "554 5.4.6 ")
	content := message("round", "x\n")
	for range 3 {
		in.clear()
		w.send(toAnna, content, "250")
		content = in.only(t).content
	}
	w.send(toAnna, content, "554 5.4.6 ")
	w.send(envelope{toAnna.from, []string{"bob@example.com"}}, content, "250") // for bob it is the first time
}

// A forbidden attachment is taken out, said so, and the original kept.
func TestIntegrationStrip(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+fmt.Sprintf(`[domains."strict.example"]
deliver_to = [%q]
recipients = "any"
attachments.action = "reject"
score.tag = 0.1
score.symbols.GTUBE = 1.0
[score.symbols]
GTUBE = 0.0
`, in.address))
	w.start()
	program := attached("invoice", "invoice.exe", "MZ\x90\x00 a program")
	id := idOf(t, w.send(toAnna, program, "250 2.0.0 "))
	got := string(in.only(t).content)
	if strings.Contains(got, "TVqQ") || !strings.Contains(got, "see attachment") {
		t.Errorf("not stripped:\n%s", got)
	}
	for _, want := range []string{"\r\nX-Postern-Stripped: ", "invoice.exe", id, "\r\nSubject: invoice\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	kept := w.objects("quarantine", "list", "--reason", "attachment")
	if len(kept) != 1 || kept[0].text("class") != "attachment" {
		t.Fatalf("kept: %v", kept)
	}
	in.clear()
	w.must("quarantine", "release", kept[0].text("id"))
	if a := in.only(t); string(a.content) != string(program) {
		t.Errorf("released:\n%s", a.content)
	}
	// Each domain has its own policy: what one refuses and another takes is kept
	// for the first.
	in.clear()
	w.send(envelope{"a@sender.example", []string{"x@strict.example"}}, program, "550 5.7.1 ")
	w.send(envelope{"a@sender.example", []string{"anna@example.com", "x@strict.example"}}, program, "250 2.0.0 ")
	if a := in.only(t); !slices.Equal(a.to, []string{"anna@example.com"}) {
		t.Errorf("delivered to %q", a.to)
	}
	if kept := w.objects("quarantine", "list", "--rcpt", "x@strict.example"); len(kept) != 1 {
		t.Errorf("kept for the strict: %v", kept)
	}
	in.clear()
	w.send(envelope{"a@sender.example", []string{"anna@example.com", "x@strict.example"}}, message("two policies", filtertest.GTUBE()+"\n"), "250 2.0.0 ")
	eventually(t, "both copies", func() bool { return len(in.all()) == 2 })
	for _, a := range in.all() {
		tagged := strings.Contains(string(a.content), "\r\nX-Spam-Flag: YES\r\n") && strings.Contains(string(a.content), "Subject: [SPAM] two")
		if strict := a.to[0] == "x@strict.example"; tagged != strict {
			t.Errorf("%q, tagged %v:\n%s", a.to, tagged, a.content)
		}
	}
}

// The log can be JSON, one line of which says that the gateway is ready.
func TestIntegrationJSONLog(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[log]\nformat = \"json\"\n")
	s := w.spawn()
	eventually(t, "ready", func() bool { return strings.Contains(s.log.String(), `"msg":"ready"`) })
	id := idOf(t, w.send(toAnna, message("logged", "x\n"), "250"))
	eventually(t, "the message's line", func() bool { return strings.Contains(s.log.String(), id) })
	lines := parseObjects(t, s.log.String())
	if n := len(slices.DeleteFunc(lines, func(o object) bool { return o.text("id") != id })); n != 1 {
		t.Errorf("%d lines of the message", n)
	}
}
