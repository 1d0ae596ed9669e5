//go:build integration

package main_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// plain is message number i of a load; every twentieth is too large to stay in
// memory.
func plain(i int) []byte {
	m := message(fmt.Sprintf("number %d", i), "Hello\n")
	if i%20 == 0 {
		m = append(m, bytes.Repeat([]byte("a line of sixty-four octets, many of which make a large message\r\n"), 6000)...)
	}
	return m
}

// unsteady starts and stops the server inside at random until it is told to
// end, and leaves it running.
func unsteady(in *inside) (end func()) {
	var over atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		for !over.Load() {
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			in.stop()
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			in.start()
		}
	})
	return func() { over.Store(true); done.Wait() }
}

// spooling is the configuration of a gateway that tries again soon.
func spooling(in *inside, mode string) string {
	return domain(in, "") + fmt.Sprintf("[delivery]\nmode = %q\nretry = [\"300ms\", \"1s\"]\n", mode)
}

// drained waits until nothing is in the queue any more.
func (w *world) drained() {
	w.t.Helper()
	until := time.Now().Add(patience)
	for {
		w.must("queue", "retry")
		list := w.objects("queue", "list")
		switch {
		case len(list) == 0:
			return
		case time.Now().After(until):
			w.t.Fatalf("%d messages still wait; the first: %v", len(list), list[0])
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// arrivals are the times at which each of a load's messages arrived.
func arrivals(t *testing.T, in *inside) map[int][]time.Time {
	t.Helper()
	times := map[int][]time.Time{}
	for _, a := range in.all() {
		n := numberOf(t, string(a.content))
		if added(t, a.content, plain(n)); t.Failed() {
			t.FailNow()
		}
		times[n] = append(times[n], a.at)
	}
	return times
}

// A crash at any moment loses no message that was taken, and doubles none but
// those that were on their way to the server inside at that moment.
func TestIntegrationCrash(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"through", "spool"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			in := newInside(t)
			w := newWorld(t, spooling(in, mode))
			l := startLoad(w, 4, plain)
			end := unsteady(in)
			crashes := w.crashOften(in, 20)
			end()
			replies := l.stop()
			w.start()
			w.drained()
			if kept := w.objects("quarantine", "list"); len(kept) > 0 {
				t.Errorf("%d messages are kept; the first: %v", len(kept), kept[0])
			}
			checkLoad(t, replies, arrivals(t, in), crashes)
		})
	}
}

// crashOften kills the gateway at random moments, some of them while it starts,
// and returns when that was.
func (w *world) crashOften(in *inside, rounds int) (crashes []time.Time) {
	w.t.Helper()
	for round := range rounds {
		if round%4 == 3 {
			w.spawn()
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		} else {
			w.start()
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		}
		w.kill()
		// What the dead one sent last may still be in the inside's buffers.
		eventually(w.t, "the inside has read all of it", in.quiet)
		crashes = append(crashes, time.Now())
	}
	return crashes
}

// checkLoad holds what arrived to what was promised.
func checkLoad(t *testing.T, replies map[int]string, arrived map[int][]time.Time, crashes []time.Time) {
	t.Helper()
	taken, lost, doubled := 0, 0, 0
	for i, r := range replies {
		if !strings.HasPrefix(r, "250") {
			continue
		}
		taken++
		if len(arrived[i]) == 0 {
			lost++
			t.Errorf("message %d was taken (%s) and is lost", i, r)
		}
	}
	for i, times := range arrived {
		if len(times) < 2 {
			continue
		}
		doubled++
		for n := range times[1:] {
			if !crashBetween(crashes, times[n], times[n+1]) {
				t.Errorf("message %d came at %v and %v, with no crash between", i, times[n], times[n+1])
			}
		}
	}
	// One session a sender, and the ten connections by which a spool empties.
	if most := len(crashes) * (4 + 10); doubled > most {
		t.Errorf("%d messages came twice, more than can have been on their way", doubled)
	}
	t.Logf("%d messages, %d taken, %d arrived, %d lost, %d came twice after %d crashes", len(replies), taken, len(arrived), lost, doubled, len(crashes))
	if taken < 20 {
		t.Errorf("only %d messages were taken", taken)
	}
}

func crashBetween(crashes []time.Time, a, b time.Time) bool {
	for _, c := range crashes {
		if c.After(a) && c.Before(b) {
			return true
		}
	}
	return false
}

// Told to stop, the gateway ends what is under way and nothing is lost.
func TestIntegrationStopUnderLoad(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"through", "spool"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			in := newInside(t)
			w := newWorld(t, spooling(in, mode))
			w.start()
			l := startLoad(w, 4, plain)
			for round := range 3 {
				enough := l.count("250") + 40
				eventually(t, "mail is taken", func() bool { return l.count("250") >= enough })
				began := time.Now()
				if code := w.stop(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				if took := time.Since(began); took > 40*time.Second {
					t.Errorf("stopping took %v", took)
				}
				if round == 1 {
					in.stop()
				}
				w.start()
				if round == 1 {
					in.start()
				}
			}
			replies := l.stop()
			w.drained()
			checkLoad(t, replies, arrivals(t, in), nil)
			if l.dropped > 0 {
				t.Errorf("%d sessions were dropped without a word", l.dropped)
			}
		})
	}
}

// Silent clients and a silent inside don't keep the gateway from ending, and who
// was not told that their message was taken still has it.
func TestIntegrationStopWithSilence(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	hold := make(chan string)
	in.set(nil, func(arrival) string { return <-hold })
	defer close(hold)
	idle, sending, waiting := w.dial(true), w.dial(true), w.dial(true)
	for _, c := range []*client{sending, waiting} {
		c.expect(t, "250", "MAIL FROM:<alice@sender.example>")
		c.expect(t, "250", "RCPT TO:<anna@example.com>")
		c.expect(t, "354", "DATA")
	}
	fmt.Fprint(sending.conn, "Subject: cut\r\n\r\nnever ends")
	fmt.Fprint(waiting.conn, "Subject: whole\r\n\r\nwhole\r\n.\r\n")
	eventually(t, "the inside has the message", func() bool { return in.attempts() == 1 })
	began := time.Now()
	w.signal(syscall.SIGTERM)
	if text, closed := idle.rest(); !closed || !strings.HasPrefix(text, "421 4.3.2 ") {
		t.Errorf("an idle client hears %q", text)
	}
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("stopping took %v", took)
	}
	for name, c := range map[string]*client{"sending": sending, "waiting": waiting} {
		if text, _ := c.rest(); strings.HasPrefix(text, "2") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// A reload drops no session; a configuration with faults is not taken.
func TestIntegrationReload(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	settings := spooling(in, "through")
	w := newWorld(t, settings)
	w.start()
	w.signal(syscall.SIGHUP) // whoever says that it is ready is ready for this too
	open := w.dial(true)     // stays open over all reloads
	l := startLoad(w, 4, plain)
	for i := range 5 {
		name := fmt.Sprintf("new%d.example", i)
		w.configure(settings + fmt.Sprintf("[domains.%q]\ndeliver_to = [%q]\nrecipients = \"any\"\n", name, in.address))
		w.signal(syscall.SIGHUP)
		eventually(t, "the new configuration is in force", func() bool {
			open.expect(t, "250", "MAIL FROM:<>")
			r, err := open.cmd("RCPT TO:<x@%s>", name)
			open.expect(t, "250", "RSET")
			return err == nil && strings.HasPrefix(r, "250")
		})
		w.configure(settings + "[limits]\nrecipients = \"none\"\n")
		w.signal(syscall.SIGHUP)
		eventually(t, "the faults are logged", func() bool {
			return strings.Count(w.served.log.String(), "configuration not reloaded") > i
		})
	}
	if r, err := open.transaction(toAnna, plain(1)); err != nil || !strings.HasPrefix(r, "250") {
		t.Errorf("after the reloads: %q %v", r, err)
	}
	for i, r := range l.stop() {
		if !strings.HasPrefix(r, "250") {
			t.Errorf("message %d: %q", i, r)
		}
	}
	if l.dropped > 0 {
		t.Errorf("%d sessions were dropped", l.dropped)
	}
}

// Two gateways never use one state.
func TestIntegrationSecondServe(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, ""))
	w.start()
	other := newWorld(t, domain(in, ""))
	other.state = w.state
	other.configure(domain(in, ""))
	errs := other.mustFail("serve")
	if !strings.Contains(errs, "another Postern") || !strings.Contains(errs, w.state) {
		t.Errorf("the second one says %q", errs)
	}
	w.send(toAnna, plain(1), "250")
}
