package recipients

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
)

var anna = mail.Address{Local: "anna", Domain: "example.com"}

// inside answers every question with one reply, and counts the questions.
type inside struct {
	reply Reply
	asked atomic.Int32
}

func (i *inside) ask(context.Context, mail.Address) Reply {
	i.asked.Add(1)
	return i.reply
}

func says(code int, enhanced string) Reply {
	return Reply{Reply: mail.Reply{Code: code, Enhanced: enhanced, Text: "x"}}
}

var down = Reply{Down: true}

func newBook(t *testing.T, cfg Config) *Book {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for _, c := range []struct {
		name   string
		reply  Reply
		want   Answer
		kept   bool // the next question is not put
		alerts int
	}{
		{"taken", says(250, "2.1.5"), Known, true, 0},
		{"bad mailbox", says(550, "5.1.1"), Unknown, true, 0},
		{"bad syntax of mailbox", says(553, "5.1.3"), Unknown, true, 0},
		{"has moved", says(551, "5.1.6"), Unknown, true, 0},
		{"mailbox disabled", says(550, "5.2.1"), Unknown, true, 0},
		{"bare 550", says(550, ""), Unknown, true, 0},
		{"Exchange Online", says(550, "5.4.1"), Unknown, true, 0},
		{"another 5.4.1", says(554, "5.4.1"), Unsure, false, 1},
		{"another bare 5xx", says(554, ""), Unsure, false, 1},
		{"mailbox full", says(552, "5.2.2"), Unsure, false, 1},
		{"policy", says(550, "5.7.1"), Unsure, false, 1},
		{"greylisted", says(450, "4.2.0"), Unsure, false, 0},
		{"down", down, Away, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			alerts := 0
			b := newBook(t, Config{Alert: func(string, string) { alerts++ }})
			in := &inside{reply: c.reply}
			if got := b.Check(t.Context(), anna, in.ask); got != c.want {
				t.Errorf("Check = %v, want %v", got, c.want)
			}
			if alerts != c.alerts {
				t.Errorf("%d alerts, want %d", alerts, c.alerts)
			}
			in.reply = down
			if got := b.Check(t.Context(), anna, in.ask); c.kept && got != c.want {
				t.Errorf("while the inside is down: %v, want %v", got, c.want)
			} else if !c.kept && got != Away {
				t.Errorf("while the inside is down: %v, want Away: the answer was not to be kept", got)
			}
		})
	}
}

func TestHowLongAnswersAreGood(t *testing.T) {
	for _, c := range []struct {
		name  string
		first Reply
		after time.Duration
		want  Answer // with the inside down by then
	}{
		{"known, just before 7 days", says(250, ""), KnownFor - time.Second, Known},
		{"known, at 7 days", says(250, ""), KnownFor, Away},
		{"unknown, just before an hour", says(550, "5.1.1"), UnknownFor - time.Second, Unknown},
		{"unknown, at an hour", says(550, "5.1.1"), UnknownFor, Away},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			b := newBook(t, Config{Now: func() time.Time { return now }})
			in := &inside{reply: c.first}
			b.Check(t.Context(), anna, in.ask)
			now, in.reply = now.Add(c.after), down
			if got := b.Check(t.Context(), anna, in.ask); got != c.want {
				t.Errorf("after %v: %v, want %v", c.after, got, c.want)
			}
			b.asked.Wait()
		})
	}
}

// A known recipient is asked about again in the background, so that nobody waits
// and one who has left is refused.
func TestAskedAgainInTheBackground(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	b := newBook(t, Config{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	in := &inside{reply: says(250, "")}
	b.Check(t.Context(), anna, in.ask)
	mu.Lock()
	now = now.Add(AskAgainAfter)
	mu.Unlock()
	in.reply = says(550, "5.1.1")
	if got := b.Check(t.Context(), anna, in.ask); got != Known {
		t.Errorf("while it is asked again: %v, want Known", got)
	}
	b.asked.Wait()
	if got := b.Check(t.Context(), anna, in.ask); got != Unknown {
		t.Errorf("when it was asked again: %v, want Unknown", got)
	}
	if n := in.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestSeveralCallersAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, Config{})
		var asked atomic.Int32
		slow := func(context.Context, mail.Address) Reply {
			asked.Add(1)
			time.Sleep(time.Second)
			return says(250, "")
		}
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				if got := b.Check(t.Context(), anna, slow); got != Known {
					t.Errorf("Check = %v, want Known", got)
				}
			})
		}
		callers.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

// A client that hangs up does not spoil the answer for the others.
func TestQuestionOutlivesItsClient(t *testing.T) {
	b := newBook(t, Config{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	got := b.Check(gone, anna, func(ctx context.Context, _ mail.Address) Reply {
		if ctx.Err() != nil {
			return down
		}
		return says(250, "")
	})
	if got != Known {
		t.Errorf("Check = %v, want Known", got)
	}
}

func TestCaseDoesNotMatter(t *testing.T) {
	b := newBook(t, Config{})
	in := &inside{reply: says(250, "")}
	b.Check(t.Context(), anna, in.ask)
	in.reply = down
	if got := b.Check(t.Context(), mail.Address{Local: "ANNA", Domain: "Example.COM"}, in.ask); got != Known {
		t.Errorf("Check = %v, want Known", got)
	}
}

func TestCatchAll(t *testing.T) {
	for _, c := range []struct {
		name            string
		reply           Reply
		catchAll, tried bool
	}{
		{"takes any name", says(250, ""), true, true},
		{"knows its recipients", says(550, "5.1.1"), false, true},
		{"refuses us", says(550, "5.7.1"), false, false},
		{"greylists", says(450, ""), false, false},
		{"down", down, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, Config{})
			in := &inside{reply: c.reply}
			b.Try(t.Context(), "example.com", in.ask)
			catchAll, tried := b.CatchAll("example.com")
			if catchAll != c.catchAll || tried != c.tried {
				t.Errorf("CatchAll = %v, %v, want %v, %v", catchAll, tried, c.catchAll, c.tried)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := map[string]time.Time{}
	for i := range 1000 {
		bound(m, 100)
		m[string(rune('a'+i%26))+time.Duration(i).String()] = time.Time{}
	}
	if len(m) != 100 {
		t.Errorf("%d entries, want 100", len(m))
	}
}

// What is known survives a restart; what is not known any more does not.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients.db")
	leaving := mail.Address{Local: "left", Domain: "example.com"}
	for round, want := range []map[mail.Address]Answer{{}, {anna: Known, leaving: Known}, {anna: Known, leaving: Away}} {
		table, err := OpenTable(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		b := newBook(t, Config{Shelf: table})
		for rcpt, answer := range want {
			if got := b.Check(t.Context(), rcpt, (&inside{reply: down}).ask); got != answer {
				t.Errorf("round %d: %v is %v, want %v", round, rcpt, got, answer)
			}
		}
		switch round {
		case 0:
			in := &inside{reply: says(250, "")}
			b.Check(t.Context(), anna, in.ask)
			b.Check(t.Context(), leaving, in.ask)
		case 1:
			b.learn(leaving, says(550, "5.1.1"))
		}
		b.Save(t.Context())
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
