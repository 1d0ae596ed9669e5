package gateway

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/gateway/mail"
)

// "An inside 250 becomes our 250, an inside 550 our 550": nothing is written.
func TestThrough(t *testing.T) {
	w := newWorld(t, "one.example")
	w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0 OK (")
	got := w.hops["one.example"].received()
	if len(got) != 1 || got[0].from != "a@sender.example" || got[0].rcpts[0] != "b@one.example" {
		t.Fatalf("inside got %+v", got)
	}
	if !strings.HasSuffix(got[0].content, letter) {
		t.Errorf("the message was changed below the new fields:\n%s", got[0].content)
	}
	if w.spool.Len() != 0 {
		t.Error("something was spooled")
	}
}

// The table of "Next hops" (CONTRACT, section 4): answers of two insides, and
// what the client is told, what waits, and what is kept as undeliverable.
func TestNextHops(t *testing.T) {
	const (
		taken   = ""
		later   = "451 4.2.0 come back"
		refused = "550 5.1.1 no such user"
		down    = "421 4.3.2 closing"
	)
	for _, c := range []struct {
		name          string
		one, two      string // what the insides say to RCPT
		spool4xx      bool
		reply         string
		waits         int
		undeliverable int
	}{
		{"both taken", taken, taken, false, "250 2.0.0", 0, 0},
		{"one taken, one later", taken, later, false, "250 2.0.0", 1, 0},
		{"one taken, one down", taken, down, false, "250 2.0.0", 1, 0},
		{"one taken, one refused", taken, refused, false, "250 2.0.0", 0, 1},
		{"all refused: the first one's words", refused, "554 5.2.2 full", false, "550 5.1.1 (", 0, 0},
		{"one 4xx passes, whatever the others said", refused, later, false, "451 4.2.0 (", 0, 0},
		{"one 4xx passes beside one that is down", down, later, false, "451 4.2.0 (", 0, 0},
		{"4xx is spooled where that is wanted", refused, later, true, "250 2.0.0", 1, 1},
		{"down is spooled", down, down, false, "250 2.0.0", 2, 0},
		{"down is spooled, refused is undeliverable", down, refused, false, "250 2.0.0", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example", "two.example")
			w.hops["one.example"].answer("RCPT", c.one)
			w.hops["two.example"].answer("RCPT", c.two)
			for d := range w.hops {
				w.change(d, func(d *Domain) { d.Pass = !c.spool4xx })
			}
			w.want("reply", w.send("a@sender.example", "b@one.example", "c@two.example"), c.reply)
			if n := w.spool.Len(); n != c.waits {
				t.Errorf("%d wait, want %d", n, c.waits)
			}
			kept := w.keeper.all()
			if len(kept) != c.undeliverable {
				t.Fatalf("%d kept, want %d", len(kept), c.undeliverable)
			}
			for _, k := range kept {
				if k.verdict.Class != mail.ClassUndeliverable || !strings.Contains(k.verdict.Reason, "550 5.1.1 no such user") {
					t.Errorf("kept as %s, %q", k.verdict.Class, k.verdict.Reason)
				}
			}
		})
	}
}

// The inside's words come behind our id, printable and bounded.
func TestInsideWords(t *testing.T) {
	w := newWorld(t, "one.example")
	w.hops["one.example"].answer(".", "554 5.6.0 "+strings.Repeat("x", 900))
	got := w.send("a@sender.example", "b@one.example")
	if !strings.HasPrefix(got, "554 5.6.0 (") || len(got) > 450 {
		t.Errorf("reply of %d octets: %.60q…", len(got), got)
	}
}

// A reply of ours has an enhanced code of its own class, whatever the inside's has.
func TestEnhancedCode(t *testing.T) {
	for inside, want := range map[string]string{
		"550 5.1.1 no": "550 5.1.1 (", "550 no": "550 5.0.0 (", "550 4.2.2 no": "550 5.0.0 (", "451 no": "451 4.0.0 (", "451 4.3.0 no": "451 4.3.0 (",
	} {
		w := newWorld(t, "one.example")
		w.hops["one.example"].answer(".", inside)
		w.want(inside, w.send("a@sender.example", "b@one.example"), want)
	}
}

// "The inside down": the sender is told 250 only when the message is on disk, and
// it is delivered when the inside is back.
func TestDownAndBack(t *testing.T) {
	w := newWorld(t, "one.example")
	in := w.hops["one.example"]
	address := in.address
	in.halt()
	w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
	if w.spool.Len() != 1 {
		t.Fatal("nothing is spooled")
	}
	in.start(t, address)
	w.runSpool()
	w.eventually("delivery", func() bool { return len(in.received()) == 1 && w.spool.Len() == 0 })
}

// A spool that can't be written: 452, and nothing is kept.
func TestSpoolFails(t *testing.T) {
	w := newWorld(t, "one.example", "two.example")
	w.hops["one.example"].halt()
	w.judge = byLocal
	w.keeper.fail = errDisk
	w.want("nothing could be kept", w.send("a@sender.example", "quarantine@one.example", "b@two.example"), "452 4.3.1")
	if len(w.hops["two.example"].received()) != 0 {
		t.Error("handed on, although what was to be kept before could not be")
	}
}

// What could not be handed on is taken back from the quarantine too: the sender
// comes again.
func TestTakenBack(t *testing.T) {
	w := newWorld(t, "one.example")
	w.judge = byLocal
	w.hops["one.example"].answer(".", "451 4.3.0 later")
	w.want("reply", w.send("a@sender.example", "strip@one.example"), "451 4.3.0")
	if kept := w.keeper.all(); len(kept) != 0 {
		t.Errorf("%d originals stayed", len(kept))
	}
}

// The actions for several recipients with verdicts of their own.
func TestActions(t *testing.T) {
	for _, c := range []struct {
		name      string
		rcpts     []string
		reply     string
		delivered int
		kept      int
	}{
		{"accept", []string{"accept"}, "250", 1, 0},
		{"tag", []string{"tag"}, "250", 1, 0},
		{"strip keeps the original", []string{"strip"}, "250", 1, 1},
		{"quarantine", []string{"quarantine"}, "250", 0, 1},
		{"reject", []string{"reject"}, "550 5.7.1", 0, 0},
		{"all reject", []string{"reject-1", "reject-2"}, "550 5.7.1", 0, 0},
		{"reject for some is kept for those", []string{"reject", "accept"}, "250", 1, 1},
		{"reject and quarantine", []string{"reject", "quarantine"}, "250", 0, 2},
		{"one group defers: nothing is done for any", []string{"accept", "defer", "quarantine"}, "451 4.7.1", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.judge = byLocal
			var rcpts []string
			for _, r := range c.rcpts {
				rcpts = append(rcpts, r+"@one.example")
			}
			got := w.send("a@sender.example", rcpts...)
			w.want("reply", got, c.reply)
			if !strings.Contains(got, "(") {
				t.Errorf("%q does not carry the id", got)
			}
			if n := len(w.hops["one.example"].received()); n != c.delivered {
				t.Errorf("%d delivered, want %d", n, c.delivered)
			}
			if n := len(w.keeper.all()); n != c.kept {
				t.Errorf("%d kept, want %d", n, c.kept)
			}
		})
	}
}

// The kept original is the message as it was received, byte for byte.
func TestKeptOriginal(t *testing.T) {
	w := newWorld(t, "one.example")
	w.judge = byLocal
	w.send("a@sender.example", "quarantine@one.example")
	if kept := w.keeper.all(); len(kept) != 1 || kept[0].content != letter {
		t.Errorf("kept %+v", kept)
	}
}

// mode = "spool" takes first, always.
func TestModeSpool(t *testing.T) {
	w := newWorld(t, "one.example")
	w.change("one.example", func(d *Domain) { d.Spool = true })
	w.hops["one.example"].answer(".", "550 5.7.1 no")
	w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
	w.runSpool()
	w.eventually("undeliverable", func() bool { return len(w.keeper.all()) == 1 && w.spool.Len() == 0 })
}

// A sender of ours is told by a DSN; a stranger is not.
func TestUndeliverable(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		w := newWorld(t, "one.example", "two.example")
		w.hops["one.example"].answer("RCPT", "550 5.1.1 no such user")
		w.runSpool()
		w.want("reply", w.send("boss@two.example", "b@one.example", "c@two.example"), "250 2.0.0")
		two := w.hops["two.example"]
		w.eventually("DSN", func() bool { return len(two.received()) == 2 })
		dsn := two.received()[1]
		if dsn.from != "" || dsn.rcpts[0] != "boss@two.example" || !strings.Contains(dsn.content, "multipart/report") ||
			!strings.Contains(dsn.content, "b@one.example") {
			t.Errorf("DSN from %q to %q:\n%s", dsn.from, dsn.rcpts, dsn.content)
		}
		if len(w.keeper.all()) != 0 {
			t.Error("kept as well")
		}
	})
	t.Run("null reverse-path", func(t *testing.T) {
		w := newWorld(t, "one.example", "two.example")
		w.hops["one.example"].answer("RCPT", "550 5.1.1 no such user")
		w.want("reply", w.send("", "b@one.example", "c@two.example"), "250 2.0.0")
		if len(w.keeper.all()) != 1 || w.spool.Len() != 0 {
			t.Errorf("%d kept, %d wait", len(w.keeper.all()), w.spool.Len())
		}
	})
	t.Run("stranger of whom only an engine says SPF pass", func(t *testing.T) {
		w := newWorld(t, "one.example", "two.example")
		w.found = []mail.Result{{Filter: "spamassassin", Symbol: "SPF_PASS"}}
		w.hops["one.example"].answer("RCPT", "550 5.1.1 no such user")
		w.want("reply", w.send("a@sender.example", "b@one.example", "c@two.example"), "250 2.0.0")
		if len(w.keeper.all()) != 1 || w.spool.Len() != 0 {
			t.Errorf("%d kept, %d wait", len(w.keeper.all()), w.spool.Len())
		}
	})
	t.Run("stranger with SPF pass", func(t *testing.T) {
		w := newWorld(t, "one.example", "two.example")
		w.found = []mail.Result{{Filter: "mailauth", Symbol: "SPF_PASS"}}
		w.hops["one.example"].answer("RCPT", "550 5.1.1 no such user")
		w.want("reply", w.send("a@sender.example", "b@one.example", "c@two.example"), "250 2.0.0")
		items := w.spool.List()
		if len(items) != 1 || items[0].Route != "sender.example" || !items[0].ReversePath.IsZero() {
			t.Errorf("spool holds %+v", items)
		}
	})
}

// The whole content is inside, and the answer is late: the client is told 250,
// the same connection is waited on, and there is exactly one copy.
func TestLateAnswer(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		hangUp       bool
		copies, kept int
	}{
		{"late 2xx", "250 2.0.0 at last", false, 1, 0},
		{"late 4xx is tried again", "451 4.3.0 not now", false, 1, 0},
		{"late 5xx is undeliverable", "554 5.6.0 never", false, 0, 1},
		{"a dead connection is tried again", "", true, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.settings.Reply = 300 * time.Millisecond
			w.runSpool()
			in := w.hops["one.example"]
			release := make(chan struct{})
			var attempts atomic.Int32
			in.answer(".", c.answer)
			in.hook(func(verb string) bool {
				if verb != "." {
					return true
				}
				if attempts.Add(1) > 1 {
					return true
				}
				<-release
				return !c.hangUp
			})
			w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
			items := w.spool.List()
			if len(items) != 1 || !items[0].Held {
				t.Fatalf("spool holds %+v, want one held item", items)
			}
			time.Sleep(100 * time.Millisecond) // the schedule would have tried again five times
			if n := attempts.Load(); n != 1 {
				t.Errorf("%d attempts while the answer was out, want 1", n)
			}
			close(release)
			if strings.HasPrefix(c.answer, "4") {
				w.eventually("second attempt", func() bool { in.answer(".", ""); return len(in.received()) > 0 })
			}
			w.eventually("the end", func() bool { return w.spool.Len() == 0 })
			if n := len(in.received()); n != c.copies {
				t.Errorf("%d copies, want %d", n, c.copies)
			}
			if n := len(w.keeper.all()); n != c.kept {
				t.Errorf("%d kept, want %d", n, c.kept)
			}
		})
	}
}

// Fields of ours that a stranger wrote are gone, and a loop ends.
func TestTrace(t *testing.T) {
	w := newWorld(t, "one.example")
	ours := "Received: from x by mx.example.net (Postern) with ESMTP id 0 for <b@one.example>; Sun, 22 Nov 2026 10:00:00 +0000\r\n"
	other := "Received: from x by y with ESMTP id 0; Sun, 22 Nov 2026 10:00:00 +0000\r\n"
	for _, c := range []struct {
		name, head, reply string
	}{
		{"2 of ours", strings.Repeat(ours, 2), "250"},
		{"3 of ours for this recipient", strings.Repeat(ours, 3), "554 5.4.6"},
		{"50 hops", strings.Repeat(other, 50), "250"},
		{"51 hops", strings.Repeat(other, 51), "554 5.4.6"},
		{"3 of ours for another recipient", strings.Repeat(strings.ReplaceAll(ours, "<b@", "<c@"), 3), "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.want("reply", w.dial().send(c.head+letter, "a@sender.example", "b@one.example"), c.reply)
		})
	}
	got := w.dial().send("X-Spam-Flag: YES\r\nX-Postern-Id: forged\r\nAuthentication-Results: MX.example.net 1; spf=pass\r\n"+letter, "a@sender.example", "b@one.example")
	w.want("reply", got, "250")
	all := w.hops["one.example"].received()
	last := all[len(all)-1].content
	for _, forged := range []string{"X-Spam-Flag: YES", "forged", "spf=pass"} {
		if strings.Contains(last, forged) {
			t.Errorf("%q got through:\n%s", forged, last)
		}
	}
}

// Each message has its record, with what became of it.
func TestRecord(t *testing.T) {
	w := newWorld(t, "one.example")
	reply := w.send("a@sender.example", "b@one.example")
	w.eventually("record", func() bool { w.records.mu.Lock(); defer w.records.mu.Unlock(); return len(w.records.records) == 1 })
	r := w.records.records[0]
	if !strings.Contains(reply, r.ID) || r.Sender != "a@sender.example" || r.Recipients[0] != "b@one.example" || r.Subject != "hello" ||
		r.HELO != "client.example.org" || r.Client != "127.0.0.1" || len(r.Deliveries) != 1 || !strings.HasPrefix(r.Deliveries[0].Reply, "250") ||
		r.Size != int64(len(letter)) {
		t.Errorf("record %+v", r)
	}
}
