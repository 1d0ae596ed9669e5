package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func minutes(ns ...int) (ds []time.Duration) {
	for _, n := range ns {
		ds = append(ds, time.Duration(n)*time.Minute)
	}
	return ds
}

func schedule(ns ...int) func(*Config) {
	return func(c *Config) { c.Retry = func(string) []time.Duration { return minutes(ns...) } }
}

func lifetime(d time.Duration) func(*Config) {
	return func(c *Config) { c.Lifetime = func(string) time.Duration { return d } }
}

// start runs s and returns what stops it.
func start(t *testing.T, s *Spool, d Deliverer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, d) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("run:", err)
		}
	}
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestScheduleOfAnItem(t *testing.T) {
	for _, c := range []struct {
		name     string
		retry    []int
		lifetime time.Duration
		want     string // minutes at which it is attempted
		given    string
	}{
		{"the last step again and again", []int{1, 5, 15}, 0, "0 1 6 21 36 51", "[]"},
		{"a last attempt at the end", []int{1, 5, 15}, 30 * time.Minute, "0 1 6 21 30", "[a]"},
		{"a lifetime shorter than the first step", []int{5}, time.Minute, "0 1", "[a]"},
		{"a default", nil, 0, "0 1 6 21", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openOn(t, newMemFS(), schedule(c.retry...), lifetime(c.lifetime))
				d := &script{deliver: deferred}
				stop := start(t, s, d)
				begin := time.Now()
				put(t, s, itemOf("a"))
				after(59 * time.Minute)
				stop()
				var got []string
				for _, at := range d.times { // Run is over
					got = append(got, fmt.Sprint(int(at.Sub(begin).Minutes())))
				}
				equal(t, "attempts", strings.Join(got, " "), c.want)
				equal(t, "given up", d.gave(), c.given)
			})
		})
	}
}

func TestWhatAnAttemptLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		s := openOn(t, m, schedule(1, 5))
		stop := start(t, s, &script{deliver: func(it *Item) Attempt {
			a := deferred(it)
			a.Dispositions[1].Done = true
			return a
		}})
		put(t, s, itemOf("a", "1@x.example", "2@x.example", "3@x.example"))
		synctest.Wait()
		stop()
		for _, s := range []*Spool{s, openOn(t, m)} {
			it := s.List()[0]
			equal(t, "recipients", it.Recipients, "[1@x.example 3@x.example]")
			equal(t, "attempts", it.Attempts, 1)
			equal(t, "reply", it.LastReply+" of "+it.NextHop, "451 4.7.1 later of inside:25")
			equal(t, "next", time.Until(it.Next), time.Minute)
		}
	})
}

func TestNextInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := openOn(t, newMemFS()), &script{}
		stop := start(t, s, d)
		it := itemOf("a")
		it.Next = time.Now().Add(time.Hour)
		put(t, s, it)
		after(time.Hour - 1)
		equal(t, "before", d.tried(), []string{})
		after(1)
		equal(t, "at the time", d.tried(), []string{"a"})
		equal(t, "left", s.Len(), 0)
		stop()
	})
}

func TestGiveUpThatFailsKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(1), lifetime(90*time.Second))
		var works atomic.Bool
		var seen atomic.Pointer[Item]
		d := &script{deliver: deferred, giveUp: func(it *Item) error {
			if !works.Load() {
				return errors.New("no room for a report")
			}
			seen.Store(it)
			return nil
		}}
		stop := start(t, s, d)
		put(t, s, itemOf("a"))
		after(150 * time.Second)
		equal(t, "items", s.Len(), 1)
		works.Store(true)
		after(time.Minute)
		equal(t, "items", s.Len(), 0)
		equal(t, "asked", len(d.gave()), 3)
		equal(t, "told", fmt.Sprint(seen.Load().LastReply, seen.Load().Recipients, seen.Load().Attempts), "451 4.7.1 later[a@inside.example] 5")
		stop()
	})
}

// many puts n items of one route.
func many(t *testing.T, s *Spool, prefix, route string, n int) {
	for i := range n {
		it := itemOf(fmt.Sprintf("%s%03d", prefix, i), "r@"+route)
		it.Content = contentOf("x")
		put(t, s, it)
	}
}

func TestDownRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(1, 5, 15))
		var up atomic.Bool
		var now, most atomic.Int32
		d := &script{deliver: func(it *Item) Attempt {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			if !up.Load() {
				return downFor(it)
			}
			return served(it)
		}}
		many(t, s, "i", "inside.example", 50)
		stop := start(t, s, d)
		after(2 * time.Second)
		equal(t, "those in flight when it went down", len(d.tried()), 10)
		after(time.Minute)
		equal(t, "first probe", len(d.tried()), 11)
		after(5 * time.Minute)
		equal(t, "second probe", len(d.tried()), 12)
		put(t, s, itemOf("new", "r@inside.example"))
		after(14 * time.Minute)
		equal(t, "nothing between", len(d.tried()), 12)
		equal(t, "each probe another item", len(slices.Compact(slices.Sorted(slices.Values(d.tried())))), 12)
		up.Store(true)
		most.Store(0)
		after(2 * time.Minute)
		equal(t, "left", s.Len(), 0)
		equal(t, "at once", most.Load(), 10)
		equal(t, "attempts", len(d.tried()), 12+51)
		stop()
	})
}

// An item's own 4xx says that the route is up.
func TestProbeThatIsDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(1))
		var n atomic.Int32
		d := &script{}
		d.deliver = func(it *Item) Attempt {
			if n.Add(1) == 1 {
				return downFor(it)
			}
			if it.ID == "i001" {
				return deferred(it)
			}
			return served(it)
		}
		many(t, s, "i", "inside.example", 3)
		s.cfg.Connections = 1
		stop := start(t, s, d)
		after(time.Minute)
		equal(t, "left", ids(s.List()), []string{"i001"})
		after(time.Minute)
		equal(t, "attempts", len(d.tried()), 5)
		stop()
	})
}

func TestLifetimeOnADownRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(60), lifetime(90*time.Minute))
		d := &script{deliver: downFor}
		stop := start(t, s, d)
		many(t, s, "a", "inside.example", 20)
		after(80 * time.Minute)
		many(t, s, "b", "inside.example", 20)
		equal(t, "given up before", d.gave(), []string{})
		before := len(d.tried())
		after(11 * time.Minute)
		equal(t, "given up", len(d.gave()), 20)
		equal(t, "attempts for that", len(d.tried())-before, 0)
		equal(t, "left", s.Len(), 20)
		after(90 * time.Minute)
		equal(t, "left", s.Len(), 0)
		stop()
	})
}

// Expired items get a last attempt when the route is up again before their turn.
func TestExpiredButUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), lifetime(time.Minute), func(c *Config) { c.Connections = 1 })
		s.mu.Lock()
		now := s.clock.now()
		s.mu.Unlock()
		many(t, s, "a", "inside.example", 3)
		s.mu.Lock()
		r := s.routes["inside.example"]
		s.setDown(r, false)
		s.sweep(r, now+time.Hour)
		equal(t, "expired", len(r.expired), 3)
		s.mu.Unlock()
		if err := s.Delete("a001"); err != nil {
			t.Fatal(err)
		}
		s.Up("inside.example")
		d := &script{}
		stop := start(t, s, d)
		equal(t, "attempts", d.tried(), []string{"a000", "a002"})
		equal(t, "given up", d.gave(), []string{})
		stop()
	})
}

func TestRoutesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), func(c *Config) { c.Connections, c.Total = 4, 4 })
		d := &script{deliver: func(it *Item) Attempt { time.Sleep(time.Second); return served(it) }}
		many(t, s, "big", "big.example", 500)
		stop := start(t, s, d)
		after(10500 * time.Millisecond)
		before := len(d.tried())
		put(t, s, itemOf("s1", "r@small.example"), itemOf("s2", "r@small.example"), itemOf("t1", "r@other.example"))
		after(time.Second)
		small := func() []string {
			list := slices.DeleteFunc(d.tried()[before:], func(id string) bool { return strings.HasPrefix(id, "big") })
			slices.SortFunc(list, func(a, b string) int { return strings.Compare(a[1:]+a, b[1:]+b) })
			return list
		}
		equal(t, "attempts in the next second", len(d.tried())-before, 4)
		equal(t, "of them", small(), []string{"s1", "t1", "s2"})
		stop()
	})
}

func TestTotalAndConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), func(c *Config) { c.Connections, c.Total = 2, 5 })
		hold := make(chan struct{})
		d := &script{deliver: func(it *Item) Attempt { <-hold; return served(it) }}
		many(t, s, "a", "a.example", 3)
		stop := start(t, s, d)
		equal(t, "of one route", len(d.tried()), 2)
		many(t, s, "b", "b.example", 3)
		many(t, s, "c", "c.example", 3)
		synctest.Wait()
		equal(t, "in all", len(d.tried()), 5)
		close(hold)
		synctest.Wait()
		equal(t, "left", s.Len(), 0)
		stop()
	})
}

func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		s, d := openOn(t, m, schedule(1), lifetime(time.Hour)), &script{}
		stop := start(t, s, d)
		it := itemOf("a", "1@x.example", "2@x.example")
		it.Held = true
		put(t, s, it)
		after(3 * time.Hour)
		equal(t, "attempts", d.tried(), []string{})
		equal(t, "held", s.List()[0].Held, true)
		if err := s.Retry("a"); !errors.Is(err, ErrHeld) {
			t.Fatal("retry:", err)
		}
		if err := s.Retry(""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "attempts", d.tried(), []string{})
		again, dd := openOn(t, m.killed()), &script{}
		stopAgain := start(t, again, dd)
		equal(t, "attempts after a restart", dd.tried(), []string{"a"})
		stopAgain()
		if err := s.Resolve("a", dispositions([]string{"2@x.example"})); err != nil {
			t.Fatal(err)
		}
		equal(t, "left", s.List()[0].Recipients, "[1@x.example]")
		equal(t, "at once", d.tried(), []string{})
		after(time.Minute)
		equal(t, "by schedule", d.tried(), []string{"a"})
		if err := s.Resolve("a", nil); !errors.Is(err, ErrNotFound) {
			t.Fatal("resolve:", err)
		}
		stop()
	})
}

func TestHeldByAnAttempt(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint("early=", early), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				s := openOn(t, m, schedule(1))
				answer := func() {
					if err := s.Resolve("a", dispositions([]string{"2@x.example"})); err != nil {
						t.Error(err)
					}
				}
				d := &script{}
				d.deliver = func(it *Item) Attempt {
					if len(d.tried()) > 1 {
						return served(it)
					}
					if early {
						answer()
					}
					return Attempt{Held: true, Dispositions: dispositions([]string{"1@x.example"})}
				}
				stop := start(t, s, d)
				put(t, s, itemOf("a", "1@x.example", "2@x.example", "3@x.example"))
				synctest.Wait()
				if !early {
					equal(t, "held", s.List()[0].Held, true)
					after(time.Hour)
					equal(t, "left", s.List()[0].Recipients, "[2@x.example 3@x.example]")
					answer()
				}
				for _, s := range []*Spool{s, openOn(t, m.killed())} {
					equal(t, "left", s.List()[0].Recipients, "[3@x.example]")
					equal(t, "held", s.List()[0].Held, false)
				}
				after(time.Minute)
				equal(t, "left", s.Len(), 0)
				equal(t, "attempts", len(d.tried()), 2)
				stop()
			})
		})
	}
}

// A late answer for an item that waits is as good, and leaves its schedule alone.
func TestResolveWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(10))
		d := &script{deliver: deferred}
		stop := start(t, s, d)
		put(t, s, itemOf("a", "1@x.example", "2@x.example"))
		after(4 * time.Minute)
		if err := s.Resolve("a", dispositions([]string{"1@x.example"})); err != nil {
			t.Fatal(err)
		}
		equal(t, "next", time.Until(s.List()[0].Next), 6*time.Minute)
		if err := s.Resolve("a", dispositions([]string{"2@x.example"})); err != nil {
			t.Fatal(err)
		}
		equal(t, "left", s.Len(), 0)
		stop()
	})
}

func TestRetryAndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, newMemFS(), schedule(60), func(c *Config) { c.Connections = 1 })
		d := &script{deliver: deferred}
		stop := start(t, s, d)
		many(t, s, "a", "a.example", 3)
		synctest.Wait()
		tried := func(what, want string) {
			t.Helper()
			synctest.Wait()
			equal(t, what, strings.Join(d.tried(), " "), want)
			d.mu.Lock()
			d.attempts = nil
			d.mu.Unlock()
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		tried("first", "a000 a001 a002")
		check(s.Retry("a001"))
		tried("retry one", "a001")
		check(s.Retry(""))
		tried("retry all", "a000 a001 a002")
		d.become(downFor)
		check(s.Retry(""))
		tried("down", "a000")
		check(s.Retry("a001"))
		tried("retry on a down route", "a001")
		after(59 * time.Minute)
		tried("its schedule begins anew with that probe", "")
		s.Up("nowhere.example")
		s.Up("a.example")
		tried("up, but it is not", "a002")
		d.become(served)
		s.Up("a.example")
		after(1)
		tried("up", "a000 a001 a002")
		if err := s.Retry("a001"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		stop()
	})
}

func TestDeleteDuringAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		s := openOn(t, m)
		hold := make(chan struct{})
		d := &script{deliver: func(it *Item) Attempt { <-hold; return deferred(it) }}
		stop := start(t, s, d)
		put(t, s, itemOf("a", "1@x.example", "2@x.example"))
		synctest.Wait()
		if err := s.Delete("a"); err != nil {
			t.Fatal(err)
		}
		equal(t, "listed", s.List(), []Item{})
		equal(t, "on disk", openOn(t, m.killed()).Len(), 0)
		if err := s.Put(t.Context(), itemOf("a")); !errors.Is(err, ErrExists) {
			t.Fatal("put of an id that is in use:", err)
		}
		close(hold)
		synctest.Wait()
		equal(t, "left", s.Len(), 0)
		put(t, s, itemOf("a"))
		stop()
		equal(t, "the new one's recipients", openOn(t, m.killed()).List()[0].Recipients, "[a@inside.example]")
	})
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name    string
		attempt func(ctx context.Context) bool // served
		took    time.Duration
		want    string
		left    int
	}{
		{"an attempt that ends", func(context.Context) bool { time.Sleep(5 * time.Second); return true }, 5 * time.Second, "<nil>", 0},
		{"one that ends with its context", func(ctx context.Context) bool { <-ctx.Done(); return false }, 20 * time.Second, "<nil>", 1},
		{"one that hangs", func(context.Context) bool { time.Sleep(time.Hour); return true }, 25 * time.Second, "stop the spool: 1 attempts still in flight", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				s := openOn(t, m, func(c *Config) { c.Drain = 20 * time.Second })
				put(t, s, itemOf("a"), itemOf("b", "r@b.example"))
				if err := s.Delete("b"); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx, obeying(c.attempt)) }()
				synctest.Wait()
				if err := s.Run(ctx, obeying(nil)); err == nil {
					t.Fatal("a second Run is an error")
				}
				cancel()
				begin := time.Now()
				equal(t, "error", <-done, c.want)
				equal(t, "took", time.Since(begin), c.took)
				left := openOn(t, m.killed()).List()
				equal(t, "left", len(left), c.left)
				for _, it := range left {
					equal(t, "an attempt that we cut doesn't count", it.Attempts, 0)
				}
				after(2 * time.Hour)
			})
		})
	}
}

type obeying func(ctx context.Context) bool

func (f obeying) Deliver(ctx context.Context, it *Item) Attempt {
	if f(ctx) {
		return served(it)
	}
	return Attempt{Down: true}
}

func (obeying) GiveUp(context.Context, *Item) error { return nil }

func TestPanicOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		s := openOn(t, newMemFS(), func(c *Config) { c.Alarm = l.hear })
		d := &script{deliver: func(it *Item) Attempt {
			if it.ID == "bad" {
				panic("oh")
			}
			return served(it)
		}}
		stop := start(t, s, d)
		put(t, s, itemOf("bad"), itemOf("good"))
		synctest.Wait()
		equal(t, "left", ids(s.List()), []string{"bad"})
		equal(t, "alarms", len(l.heard()), 1)
		stop()
	})
}

// The wall clock may jump as it likes: nothing expires for that, and nothing lives
// for ever.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		m := newMemFS()
		wall := func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) } }
		restart := func() (*Spool, *script, func()) {
			s, d := openOn(t, m, schedule(60), lifetime(100*time.Hour), wall), &script{deliver: deferred}
			return s, d, start(t, s, d)
		}
		year := 365 * 24 * time.Hour
		s, d, stop := restart()
		it := itemOf("a")
		it.Time = s.cfg.Now()
		put(t, s, it)
		for i, j := range []time.Duration{year, -40 * year, 0} {
			jump.Store(int64(j))
			after(2 * time.Hour)
			equal(t, "attempts", len(d.tried()), 1+2*(i+1))
			equal(t, "given up in flight", d.gave(), []string{})
		}
		stop() // 6 of 100 hours are over
		for _, c := range []struct{ jump, age time.Duration }{
			{-50 * year, 6 * time.Hour}, // back: no time went by
			{60 * year, 30 * time.Hour}, // forward: a day at most
			{0, 30 * time.Hour},         // and back again
			{time.Hour, 31 * time.Hour}, // an hour off is an hour
		} {
			jump.Store(int64(c.jump))
			s, d, stop = restart()
			s.mu.Lock()
			equal(t, "age", (s.clock.now() - s.entries["a"].since).Round(time.Minute), c.age)
			s.mu.Unlock()
			stop()
			equal(t, "given up", d.gave(), []string{})
		}
		s, d, stop = restart()
		after(68 * time.Hour)
		equal(t, "given up too early", d.gave(), []string{})
		after(2 * time.Hour)
		equal(t, "given up in the end", d.gave(), []string{"a"})
		equal(t, "left", s.Len(), 0)
		stop()
	})
}

func TestTimeOfAnItem(t *testing.T) {
	for _, c := range []struct {
		name  string
		age   time.Duration
		given int
	}{
		{"just below its lifetime", 59 * time.Minute, 0},
		{"at its lifetime", 60 * time.Minute, 1},
		{"from the future", -1000 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, d := openOn(t, newMemFS(), lifetime(time.Hour), schedule(60)), &script{deliver: deferred}
				stop := start(t, s, d)
				it := itemOf("a")
				it.Time = time.Now().Add(-c.age)
				put(t, s, it)
				synctest.Wait()
				equal(t, "given up", len(d.gave()), c.given)
				after(time.Hour)
				equal(t, "left after an hour", s.Len(), 0)
				stop()
			})
		})
	}
}

// Without its clock file the spool believes the items.
func TestClockLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		s := openOn(t, m, schedule(60))
		put(t, s, itemOf("a"))
		stop := start(t, s, &script{deliver: deferred})
		after(10*time.Hour + time.Minute)
		stop()
		for name, damage := range map[string]func([]byte) []byte{
			"empty":   func([]byte) []byte { return nil },
			"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		} {
			var l listener
			c := m.killed()
			c.patch("/spool/clock", damage)
			s := openOn(t, c, func(c *Config) { c.Alarm = l.hear })
			s.mu.Lock()
			equal(t, name+": age", (s.clock.now() - s.entries["a"].since).Round(time.Hour), 10*time.Hour)
			s.mu.Unlock()
			equal(t, name+": alarms", len(l.heard()), 1)
		}
	})
}
