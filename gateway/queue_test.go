package gateway

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/relay"
)

// silent makes an inside keep its answer to the final dot to itself until the
// returned function is called.
func (s *insideServer) silent() (speak func()) {
	quiet := make(chan struct{})
	s.hook(func(verb string) bool {
		if verb == "." {
			<-quiet
		}
		return true
	})
	return func() { close(quiet) }
}

// Close waits for an answer that is out, as long as its patience lasts: then
// nothing is delivered twice by the next start.
func TestCloseWaitsForAnswers(t *testing.T) {
	w := newWorld(t, "one.example")
	w.settings.Reply = 200 * time.Millisecond
	speak := w.hops["one.example"].silent()
	w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
	closed := make(chan struct{})
	go func() { w.g.Close(t.Context()); close(closed) }()
	select {
	case <-closed:
		t.Error("closed while the answer was out")
	case <-time.After(50 * time.Millisecond):
	}
	speak()
	<-closed
	if n := w.spool.Len(); n != 0 {
		t.Errorf("%d wait, want 0: the answer was there", n)
	}
}

func TestCloseEndsItsWait(t *testing.T) {
	w := newWorld(t, "one.example")
	w.settings.Reply = 200 * time.Millisecond
	defer w.hops["one.example"].silent()()
	w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.g.Close(ctx)
	w.g.Close(ctx) // again, as at the end of a house
	if items := w.spool.List(); len(items) != 1 || !items[0].Held {
		t.Errorf("spool holds %+v, want the held item", items)
	}
}

// answers may begin while somebody waits for their end.
func TestAnswers(t *testing.T) {
	var a answers
	<-a.none()
	a.begin()
	a.begin()
	none := a.none()
	a.end()
	select {
	case <-none:
		t.Error("none, and one is out")
	default:
	}
	a.end()
	<-none
	<-a.none()
}

// A late 2xx for an item that can't be read any more ends it all the same: it
// would be sent again at the next start.
func TestLateAnswerForADamagedItem(t *testing.T) {
	for _, c := range []struct {
		answer string
		wait   int
	}{
		{"250 2.0.0 at last", 0},
		{"554 5.6.0 never", 1}, // nobody can be told now: it is not dropped
	} {
		t.Run(c.answer, func(t *testing.T) {
			w := newWorld(t, "one.example")
			w.settings.Reply = 200 * time.Millisecond
			in := w.hops["one.example"]
			in.answer(".", c.answer)
			speak := in.silent()
			w.want("reply", w.send("a@sender.example", "b@one.example"), "250 2.0.0")
			w.damageSpool()
			speak()
			w.eventually("the answer is dealt with", func() bool { return len(w.held()) == 0 && w.spool.Len() == c.wait })
		})
	}
}

func (w *world) held() (ids []string) {
	for _, it := range w.spool.List() {
		if it.Held {
			ids = append(ids, it.ID)
		}
	}
	return ids
}

// damageSpool changes an octet of each content that waits.
func (w *world) damageSpool() {
	w.t.Helper()
	files, _ := filepath.Glob(filepath.Join(w.spoolDir, "items", "*", "*.mail"))
	if len(files) == 0 {
		w.t.Fatal("nothing waits")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		changed := strings.Replace(string(text), "Hello.", "Hallo.", 1)
		if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Of what becomes of those who stand in for the postmaster, a sender hears
// nothing: who they are is nobody's business.
func TestStandInsAreKept(t *testing.T) {
	for _, spool := range []bool{false, true} {
		w := newWorld(t, "one.example", "two.example")
		w.change("one.example", func(d *Domain) { d.Spool = spool })
		w.hops["one.example"].answer("RCPT", "550 5.1.1 who")
		w.runSpool()
		w.want("reply", w.send("boss@two.example", "postmaster", "b@one.example"), "250 2.0.0")
		two := w.hops["two.example"]
		w.eventually("report", func() bool { return len(two.received()) == 1 && w.spool.Len() == 0 })
		if report := two.received()[0].content; !strings.Contains(report, "b@one.example") || strings.Contains(report, "postmaster@one.example") {
			t.Errorf("spool %v: the report names the wrong ones:\n%s", spool, report)
		}
		kept := w.keeper.all()
		if len(kept) != 1 || kept[0].verdict.Recipients[0].String() != "postmaster@one.example" || kept[0].verdict.Class != mail.ClassUndeliverable {
			t.Errorf("spool %v: kept %+v", spool, kept)
		}
	}
}

// One whom the sender named before is the sender's recipient, whoever else that
// one stands in for.
func TestStandInThatWasNamed(t *testing.T) {
	w := newWorld(t, "one.example")
	w.hops["one.example"].answer("RCPT", "550 5.1.1 who")
	w.want("reply", w.send("a@sender.example", "postmaster@one.example", "postmaster"), "550 5.1.1")
}

// An engine that was silent sees undeliverable mail before it is released, too.
func TestUndeliverableIsUnscanned(t *testing.T) {
	for _, spool := range []bool{false, true} {
		w := newWorld(t, "one.example", "two.example")
		w.change("one.example", func(d *Domain) { d.Spool = spool })
		w.judge = func(_ []mail.Result, rcpts []mail.Address) []mail.Verdict {
			return []mail.Verdict{{Recipients: rcpts, Unscanned: []string{"clamav"}}}
		}
		w.hops["one.example"].answer("RCPT", "550 5.1.1 who")
		w.runSpool()
		w.want("reply", w.send("a@sender.example", "b@one.example", "c@two.example"), "250 2.0.0")
		w.eventually("kept", func() bool { return len(w.keeper.all()) == 1 })
		if v := w.keeper.all()[0].verdict; !slices.Equal(v.Unscanned, []string{"clamav"}) {
			t.Errorf("spool %v: unscanned %v", spool, v.Unscanned)
		}
		w.eventually("shown", func() bool {
			w.records.mu.Lock()
			defer w.records.mu.Unlock()
			return slices.ContainsFunc(w.records.deliveries, func(d mail.Delivery) bool {
				return d.Recipient == "b@one.example" && d.NextHop == "quarantine" && strings.Contains(d.Reply, "kept as")
			})
		})
	}
}

// The record of a message that was put off does not say that it was kept.
func TestRecordOfWhatWasTakenBack(t *testing.T) {
	w := newWorld(t, "one.example")
	w.judge = byLocal
	w.keeper.fail, w.keeper.after = errDisk, 1
	w.want("reply", w.send("a@sender.example", "quarantine-1@one.example", "quarantine-2@one.example"), "452 4.3.1")
	w.eventually("record", func() bool { w.records.mu.Lock(); defer w.records.mu.Unlock(); return len(w.records.records) == 1 })
	if d := w.records.records[0].Deliveries; len(d) != 0 || len(w.keeper.all()) != 0 {
		t.Errorf("deliveries %+v, %d kept", d, len(w.keeper.all()))
	}
}

// A release that can't be written to the queue does not say that it waits there.
func TestReleaseThatCannotWait(t *testing.T) {
	w := newWorld(t, "one.example", "two.example")
	w.hops["two.example"].halt()
	m := &mail.Message{ID: mail.NewID(time.Now()), Received: time.Now(), Content: mail.Bytes(letter)}
	for _, a := range []string{"b@one.example", "c@two.example"} {
		rcpt, err := mail.ParseAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		m.Envelope.Recipients = append(m.Envelope.Recipients, rcpt)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.hops["one.example"].hook(func(verb string) bool {
		if verb == "." {
			cancel() // from here on nothing can be written
		}
		return true
	})
	done, err := w.g.Release(ctx, m)
	if err == nil || len(done) != 1 || done[0].Recipient != "b@one.example" {
		t.Errorf("done %+v, %v", done, err)
	}
	done, err = w.g.Release(t.Context(), m)
	if err != nil || len(done) != 2 || !strings.HasPrefix(done[1].Reply, "waits in the queue") {
		t.Errorf("done %+v, %v", done, err)
	}
}

// A next hop that was down is told of after a while, and forgotten with its
// domain.
func TestHops(t *testing.T) {
	board := health.New(slog.New(slog.DiscardHandler))
	var alerts []health.Alert
	board.TellAlerts(func(a health.Alert) { alerts = append(alerts, a) })
	h := newHops(board)
	down := []relay.Outcome{{Status: relay.Down, Err: errors.New("no route")}}
	h.observe("one.example", down)
	h.observe("gone.example", down)
	h.check(time.Now().Add(alertAfter - time.Second))
	if len(alerts) != 0 {
		t.Errorf("alerts before their time: %v", alerts)
	}
	h.keep(map[string]Domain{"one.example": {}})
	h.check(time.Now().Add(alertAfter))
	if len(alerts) != 1 || !strings.Contains(alerts[0].Text, "one.example") || !strings.Contains(alerts[0].Text, "no route") {
		t.Errorf("alerts %v", alerts)
	}
	h.observe("one.example", []relay.Outcome{{Status: relay.Later}})
	if facts := board.Facts(); len(facts) != 1 || !facts[0].OK {
		t.Errorf("facts %+v", facts)
	}
}

// A filter of an early stage that overstays its time reads a message that nobody
// changes (the race detector says so).
func TestEarlyFilterOverstays(t *testing.T) {
	w := newWorld(t, "one.example")
	w.settings.Recipients = 100
	stop := make(chan struct{})
	defer close(stop)
	w.look = func(stage mail.Stage, m *mail.Message) {
		if stage != mail.StageConnect {
			return
		}
		go func() {
			for n := 0; ; n += len(m.Envelope.Recipients) + len(m.Header) {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	w.want("reply", w.send("a@sender.example", "b@one.example", "c@one.example"), "250 2.0.0")
}
