package gateway

import (
	"fmt"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// On mx a recipient is ours, or it is refused.
func TestRecipients(t *testing.T) {
	w := newWorld(t, "one.example", "two.example")
	w.change("two.example", func(d *Domain) {
		d.Verify = VerifyList
		d.Listed = map[string]bool{"bob@two.example": true, "odd%name@two.example": true}
	})
	for _, c := range []struct {
		path, reply string
	}{
		{"b@one.example", "250 2.1.5"},
		{"B@ONE.Example", "250 2.1.5"},
		{"b@elsewhere.example", "550 5.7.1"},
		{"b@sub.one.example", "550 5.7.1"},
		{"b@notone.example", "550 5.7.1"},
		{"b@[127.0.0.1]", "550 5.7.1"},
		{"b@localhost", "550 5.7.1"},
		{"b%elsewhere.example@one.example", "550 5.1.3"},
		{"elsewhere.example!b@one.example", "550 5.1.3"},
		{`"b@elsewhere.example"@one.example`, "550 5.1.3"},
		{"b@elsewhere.example@one.example", "550 5.1.3"},
		{"@one.example:b@elsewhere.example", "550 5.7.1"},
		{"@elsewhere.example:b@one.example", "550 5.1.3"},
		{"@elsewhere.example,@x.example:b@one.example", "550 5.1.3"},
		{"b@one.example@elsewhere.example", "550 5.7.1"},
		{"bob@two.example", "250 2.1.5"},
		{"carl@two.example", "550 5.1.1"},
		{"odd%name@two.example", "250 2.1.5"},
		{"odd%other@two.example", "550 5.1.3"},
		{"postmaster@two.example", "250 2.1.5"},
		{"abuse@two.example", "250 2.1.5"},
		{"Postmaster", "250 2.1.5"},
		{"postmaster@mx.example.net", "250 2.1.5"},
		{"root@mx.example.net", "550 5.7.1"},
	} {
		t.Run(c.path, func(t *testing.T) {
			cl := w.dial()
			cl.say("MAIL FROM:<a@sender.example>")
			w.want("RCPT", cl.say("RCPT TO:<%s>", c.path), c.reply)
		})
	}
	if len(w.records.refusals) == 0 {
		t.Error("refusals are not remembered")
	}
}

// The bare postmaster is somebody's.
func TestPostmaster(t *testing.T) {
	w := newWorld(t, "one.example")
	w.want("reply", w.send("a@sender.example", "postmaster"), "250")
	got := w.hops["one.example"].received()
	if len(got) != 1 || got[0].rcpts[0] != "postmaster@one.example" {
		t.Errorf("inside got %+v", got)
	}
}

// Mail for the bare postmaster is kept where the inside wants none for the one
// who stands in.
func TestPostmasterRefusedInside(t *testing.T) {
	w := newWorld(t, "one.example")
	w.hops["one.example"].answer("RCPT postmaster@one.example", "550 5.1.1 who")
	w.want("reply", w.send("a@sender.example", "postmaster"), "250")
	if kept := w.keeper.all(); len(kept) != 1 || kept[0].verdict.Class != mail.ClassUndeliverable {
		t.Errorf("kept %+v", kept)
	}
	w.want("a mailbox that the sender named", w.send("a@sender.example", "postmaster@one.example"), "550 5.1.1")
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name, inside string
		backup, down bool
		reply        string
	}{
		{"known", "250 2.1.5 ok", false, false, "250"},
		{"unknown", "550 5.1.1 who", false, false, "550 5.1.1"},
		{"inside refuses us", "550 5.7.1 not you", false, false, "451 4.4.3"},
		{"inside greylists", "450 4.2.0 later", false, false, "451 4.4.3"},
		{"inside down", "", false, true, "450 4.1.1"},
		{"inside down, we are its backup", "", true, true, "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.change("one.example", func(d *Domain) { d.Verify, d.Backup = VerifyAsk, c.backup })
			in := w.hops["one.example"]
			in.answer("RCPT", c.inside)
			in.answer("RCPT postmaster@one.example", "250 ok")
			if c.down {
				in.halt()
			}
			cl := w.dial()
			cl.say("MAIL FROM:<a@sender.example>")
			w.want("RCPT", cl.say("RCPT TO:<b@one.example>"), c.reply)
			w.want("postmaster", cl.say("RCPT TO:<postmaster@one.example>"), "250")
		})
	}
}

// A form that could make the inside relay is taken where the inside knows that
// very name, and not where it takes any.
func TestRoutedFormIsVerified(t *testing.T) {
	for _, c := range []struct {
		name, rcpt, any, reply string
	}{
		{"inside knows it", "250 ok", "550 5.1.1 who", "250"},
		{"inside does not", "550 5.1.1 who", "550 5.1.1 who", "550 5.1.3"},
		{"inside is a catch-all", "250 ok", "250 ok", "550 5.1.3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.change("one.example", func(d *Domain) { d.Verify = VerifyAsk })
			w.hops["one.example"].answer("RCPT", c.any)
			w.hops["one.example"].answer("RCPT x%y@one.example", c.rcpt)
			cl := w.dial()
			cl.say("MAIL FROM:<a@sender.example>")
			w.want("RCPT", cl.say("RCPT TO:<x%%y@one.example>"), c.reply)
		})
	}
}

// Ten unknown names end the session, and only this one.
func TestHarvesting(t *testing.T) {
	w := newWorld(t, "one.example")
	w.change("one.example", func(d *Domain) { d.Verify = VerifyList })
	c := w.dial()
	c.say("MAIL FROM:<a@sender.example>")
	for i := range maxUnknown - 1 {
		w.want("an unknown name", c.say("RCPT TO:<u%d@one.example>", i), "550 5.1.1")
	}
	w.want("the tenth", c.say("RCPT TO:<last@one.example>"), "421 4.7.0")
	if _, err := c.text.ReadLine(); err == nil {
		t.Error("the session goes on")
	}
	other := w.dial()
	other.say("MAIL FROM:<a@sender.example>")
	w.want("another session", other.say("RCPT TO:<u@one.example>"), "550 5.1.1")
}

func TestRecipientLimit(t *testing.T) {
	w := newWorld(t, "one.example")
	w.settings.Recipients = 3
	c := w.dial()
	c.say("MAIL FROM:<a@sender.example>")
	for i := range 3 {
		w.want("within the limit", c.say("RCPT TO:<u%d@one.example>", i), "250")
	}
	w.want("one beyond", c.say("RCPT TO:<u3@one.example>"), "452 4.5.3")
	w.want("the earlier ones stand", c.rest(letter), "250 2.0.0")
	if got := w.hops["one.example"].received(); len(got) != 1 || len(got[0].rcpts) != 3 {
		t.Errorf("inside got %+v", got)
	}
}

// rest sends DATA and the content.
func (c *client) rest(content string) string {
	c.t.Helper()
	if r := c.say("DATA"); r[0] != '3' {
		return r
	}
	fmt.Fprint(c.text.W, content, ".\r\n")
	_ = c.text.W.Flush()
	return c.reply()
}

// What the inside said it can't take is refused at RCPT.
func TestFits(t *testing.T) {
	w := newWorld(t, "one.example")
	w.hops["one.example"].ehlo = []string{"SIZE 1000"}
	w.send("a@sender.example", "b@one.example") // its EHLO is known now
	c := w.dial()
	c.say("MAIL FROM:<a@sender.example> SIZE=1000")
	w.want("at the inside's limit", c.say("RCPT TO:<b@one.example>"), "250")
	c.say("RSET")
	c.say("MAIL FROM:<a@sender.example> SIZE=1001")
	w.want("one beyond", c.say("RCPT TO:<b@one.example>"), "552 5.3.4")
	big := letter + strings.Repeat("x", 900) + "\r\n"
	w.want("after the dot it counts as refused", w.dial().send(big, "a@sender.example", "b@one.example"), "552 5.3.4")
}

func TestSMTPUTF8(t *testing.T) {
	for _, c := range []struct {
		name  string
		ehlo  []string
		down  bool
		reply string
	}{
		{"inside has it", []string{"SMTPUTF8"}, false, "250"},
		{"inside lacks it", nil, false, "550 5.6.7"},
		{"never seen and down", nil, true, "450 4.4.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.hops["one.example"].ehlo = c.ehlo
			if c.down {
				w.hops["one.example"].halt()
			}
			cl := w.dial()
			cl.say("MAIL FROM:<é@sender.example> SMTPUTF8")
			w.want("RCPT", cl.say("RCPT TO:<b@one.example>"), c.reply)
		})
	}
}

// What already reaches reject before DATA is refused there.
func TestRefusedEarly(t *testing.T) {
	w := newWorld(t, "one.example")
	w.judge = byLocal
	s := &session{gateway: w.g, settings: w.settings, message: &mail.Message{}, early: []mail.Result{{Symbol: "X"}}}
	for local, code := range map[string]int{"accept": 250, "reject": 550, "defer": 451} {
		if reply, _ := s.judgeEarly(mail.Address{Local: local, Domain: "one.example"}); reply.Code != code {
			t.Errorf("%s: %v, want %d", local, reply, code)
		}
	}
}
