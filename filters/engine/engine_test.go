package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
)

func TestParseAddress(t *testing.T) {
	tests := []struct{ in, network, address string }{
		{"tcp:127.0.0.1:3310", "tcp", "127.0.0.1:3310"},
		{"tcp:[::1]:3310", "tcp", "[::1]:3310"},
		{"tcp:clamd.internal:3310", "tcp", "clamd.internal:3310"},
		{"unix:/run/clamav/clamd.ctl", "unix", "/run/clamav/clamd.ctl"},
		{"", "", ""},
		{"tcp:", "", ""},
		{"tcp:host", "", ""},
		{"tcp::3310", "", ""},
		{"tcp:host:", "", ""},
		{"unix:", "", ""},
		{"unix:relative", "", ""},
		{"/run/clamd.ctl", "", ""},
		{"udp:host:1", "", ""},
	}
	for _, test := range tests {
		network, address, err := ParseAddress(test.in)
		if network != test.network || address != test.address || (err == nil) != (test.network != "") {
			t.Errorf("%q: %q, %q, %v", test.in, network, address, err)
		}
	}
}

func TestNew(t *testing.T) {
	for _, addresses := range [][]string{nil, {"nowhere"}, {"unix:/a", "nowhere"}} {
		if _, err := New(Config{Addresses: addresses}); err == nil {
			t.Errorf("%q taken", addresses)
		}
	}
}

// daemon is an engine within the test. Its functions run in the order of time
// that the test gives them.
type daemon struct {
	mu      sync.Mutex
	down    bool          // refuses connections
	silent  bool          // accepts and never answers
	dies    bool          // ends the connection after the request
	dials   int           // connections that were tried
	answers time.Duration // how long an answer takes
}

func (d *daemon) set(change func(*daemon)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *daemon) dialed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

// dial is a net.Dialer's.
func (d *daemon) dial(context.Context, string, string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.down {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	go d.serve(server, d.silent, d.dies, d.answers)
	return client, nil
}

func (d *daemon) serve(c net.Conn, silent, dies bool, answers time.Duration) {
	defer c.Close()
	b := make([]byte, 100)
	if _, err := c.Read(b); err != nil || dies {
		return
	}
	if silent {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	time.Sleep(answers)
	_, _ = io.WriteString(c, "!")
}

// talk is a session and a probe.
func talk(c net.Conn) error {
	if _, err := io.WriteString(c, "?"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// newEngine is an engine at those daemons.
func newEngine(t *testing.T, connections int, daemons ...*daemon) *Engine {
	t.Helper()
	c := Config{Connections: connections, Probe: talk}
	for i := range daemons {
		c.Addresses = append(c.Addresses, fmt.Sprintf("unix:/%d", i))
	}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range daemons {
		e.peers[i].dial = d.dial
	}
	return e
}

// do is Do with a time-out of 30 s.
func do(t *testing.T, e *Engine, use Session) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return e.Do(ctx, use)
}

// Three refused connections in a row, then nobody tries for five seconds, then
// one probe decides.
func TestAwayAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{down: true}
		e := newEngine(t, 0, d)
		for i := range maxFailures {
			if err := do(t, e, talk); err == nil || errors.Is(err, ErrAway) {
				t.Fatalf("failure %d: %v", i, err)
			}
		}
		for range 10 {
			if err := do(t, e, talk); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("not away: %v", err)
			}
		}
		if n := d.dialed(); n != maxFailures {
			t.Errorf("%d connections tried", n)
		}
		time.Sleep(awayTime)
		if err := do(t, e, talk); !errors.Is(err, ErrAway) || d.dialed() != maxFailures+1 {
			t.Errorf("%v after %d connections", err, d.dialed())
		}
		d.set(func(d *daemon) { d.down = false })
		if err := do(t, e, talk); !errors.Is(err, ErrAway) {
			t.Errorf("asked before its time: %v", err)
		}
		time.Sleep(awayTime)
		if err := do(t, e, talk); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
}

func TestSuccessBetweenFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		e := newEngine(t, 0, d)
		for range 5 {
			for range maxFailures - 1 {
				_ = do(t, e, func(net.Conn) error { return errors.New("garbage") })
			}
			if err := do(t, e, talk); err != nil {
				t.Fatalf("away, though not three in a row: %v", err)
			}
		}
	})
}

// An engine that hangs costs the time-out once, all others are turned down after
// one failed probe.
func TestHangingEngineCostsItsTimeoutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{silent: true}
		e := newEngine(t, 0, d)
		began := time.Now()
		for range 20 {
			if err := do(t, e, talk); err == nil {
				t.Fatal("an answer")
			}
		}
		if took := time.Since(began); took != 30*time.Second+probeTime {
			t.Errorf("20 messages took %v", took)
		}
		if n := d.dialed(); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// One slow message does not send the engine away: it answers the probe.
func TestSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{silent: true}
		e := newEngine(t, 0, d)
		if err := do(t, e, talk); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		d.set(func(d *daemon) { d.silent = false })
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := do(t, e, talk); err != nil {
					t.Errorf("turned down: %v", err)
				}
			})
		}
		all.Wait()
		if n := d.dialed(); n != 1+1+5 {
			t.Errorf("%d connections for two messages, one probe, and four more", n)
		}
	})
}

// A caller that gives up waiting for the probe goes at once; the probe goes on.
func TestCancelledWhileProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{silent: true}
		e := newEngine(t, 0, d)
		_ = do(t, e, talk)
		d.set(func(d *daemon) { d.silent, d.answers = false, probeTime/2 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := e.Do(ctx, talk); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := do(t, e, talk); err != nil {
			t.Error(err)
		}
	})
}

func TestNextAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &daemon{down: true}, &daemon{}
		e := newEngine(t, 0, first, second)
		for range 10 {
			if err := do(t, e, talk); err != nil {
				t.Fatal(err)
			}
		}
		if first.dialed() != maxFailures || second.dialed() != 10 {
			t.Errorf("%d and %d connections", first.dialed(), second.dialed())
		}
		second.set(func(d *daemon) { d.down = true })
		err := do(t, e, talk)
		if err == nil || !strings.Contains(err.Error(), "/0: ") || !strings.Contains(err.Error(), "/1: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("not both addresses on one line: %v", err)
		}
	})
}

// The first address hangs, and leaves the second its share of the time.
func TestShareOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, 0, &daemon{silent: true}, &daemon{answers: 14 * time.Second})
		began := time.Now()
		if err := do(t, e, talk); err != nil || time.Since(began) != 29*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{answers: time.Second}
		e := newEngine(t, 2, d)
		began := time.Now()
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				if err := do(t, e, talk); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("6 sessions of 1 s on 2 connections took %v", took)
		}
	})
}

// Who waits for a connection in vain does not hold that against the engine.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{answers: 10 * time.Second}
		e := newEngine(t, 1, d)
		go func() { _ = do(t, e, talk) }()
		synctest.Wait()
		for range maxFailures + 1 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := e.Do(ctx, talk); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if err := do(t, e, talk); err != nil {
			t.Error(err)
		}
	})
}

func TestCancelledIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{silent: true}
		e := newEngine(t, 0, d)
		for range maxFailures + 1 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			began := time.Now()
			if err := e.Do(ctx, talk); err == nil || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if err := e.Do(ctx, talk); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		d.set(func(d *daemon) { d.silent = false })
		if err := do(t, e, talk); err != nil || d.dialed() != maxFailures+2 {
			t.Errorf("%v after %d connections", err, d.dialed())
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &daemon{down: true}, &daemon{silent: true}
		e := newEngine(t, 0, first, second)
		for range maxFailures {
			_ = do(t, e, talk)
		}
		if err := e.Ping(t.Context()); err == nil {
			t.Error("a pong from nowhere")
		}
		first.set(func(d *daemon) { d.down = false })
		if err := e.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := do(t, e, talk); err != nil {
			t.Errorf("it answered, and counts as away: %v", err)
		}
	})
}

// The same on real sockets: a deadline ends a session, a missing socket is an
// error.
func TestSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	e, err := New(Config{Addresses: []string{"unix:" + path + "x", "unix:" + path}, Probe: talk})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Do(ctx, talk); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// scan is Scan with a time-out of 30 s.
func scan(t *testing.T, e *Engine, c mail.Content, use Session) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return e.Scan(ctx, c, use)
}

// A message that the engine dies of twice does not come back to it; the others
// do.
func TestDiesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{dies: true}
		e := newEngine(t, 0, d)
		if err := scan(t, e, mail.Bytes("deadly"), talk); err == nil || errors.Is(err, ErrUnscannable) {
			t.Errorf("the first time: %v", err)
		}
		if err := scan(t, e, mail.Bytes("deadly"), talk); !errors.Is(err, ErrUnscannable) {
			t.Errorf("the second time: %v", err)
		}
		before := d.dialed()
		if err := scan(t, e, mail.Bytes("deadly"), talk); !errors.Is(err, ErrUnscannable) || d.dialed() != before {
			t.Errorf("the third time: %v, %d connections", err, d.dialed()-before)
		}
		d.set(func(d *daemon) { d.dies = false })
		if err := scan(t, e, mail.Bytes("harmless"), talk); err != nil {
			t.Error(err)
		}
		time.Sleep(suspicionEnd + time.Second)
		if err := scan(t, e, mail.Bytes("deadly"), talk); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}

// With two addresses a message that kills the first is not given to more than
// one other, and a message that is condemned there not to a third.
func TestDiesAtBothAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daemons := []*daemon{{dies: true}, {dies: true}, {}}
		e := newEngine(t, 0, daemons...)
		if err := scan(t, e, mail.Bytes("deadly"), talk); !errors.Is(err, ErrUnscannable) {
			t.Error(err)
		}
		if n := daemons[2].dialed(); n != 0 {
			t.Errorf("%d connections to the third", n)
		}
	})
}

func TestWeights(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		times int // until it is the message's fault; 0 is never
	}{
		{"cut off", io.ErrUnexpectedEOF, 2},
		{"gave up", fmt.Errorf("clamd: %w", ErrOnMessage), 2},
		{"timed out", os.ErrDeadlineExceeded, 4},
		{"not understood", errors.New("garbage"), 0},
		{"not read", fmt.Errorf("%w: %w", ErrContent, io.ErrUnexpectedEOF), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, 0, &daemon{})
				for i := range 10 {
					err := scan(t, e, mail.Bytes("message"), func(net.Conn) error { return test.err })
					if condemned := test.times > 0 && i+1 >= test.times; errors.Is(err, ErrUnscannable) != condemned {
						t.Errorf("time %d: %v", i+1, err)
					}
					time.Sleep(awayTime)
				}
			})
		})
	}
}

// A message that could not be read is not held against the engine.
func TestContentFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, 0, &daemon{}, &daemon{})
		calls := 0
		for range maxFailures + 1 {
			err := do(t, e, func(net.Conn) error { calls++; return ErrContent })
			if !errors.Is(err, ErrContent) {
				t.Error(err)
			}
		}
		if calls != maxFailures+1 {
			t.Errorf("%d calls", calls)
		}
		if err := do(t, e, talk); err != nil {
			t.Error(err)
		}
	})
}

func TestSuspectsAreBounded(t *testing.T) {
	var s suspects
	for i := range maxSuspects + 10 {
		s.strike(mail.Bytes(fmt.Sprint(i)), weightDied)
	}
	if len(s.list) != maxSuspects {
		t.Errorf("%d suspects", len(s.list))
	}
	if s.strike(mail.Bytes("9"), weightDied) {
		t.Error("the oldest is still known")
	}
	if !s.strike(mail.Bytes("11"), weightDied) {
		t.Error("one of the newer is forgotten")
	}
}

// broken is a content that can't be read.
type broken struct{ mail.Bytes }

func (broken) WriteTo(io.Writer) (int64, error) { return 0, io.ErrUnexpectedEOF }

func TestSuspectThatCannotBeRead(t *testing.T) {
	var s suspects
	s.strike(mail.Bytes("x"), weightDied)
	if s.strike(broken{}, condemnedAt) || s.condemned(broken{}) {
		t.Error("condemned without being known")
	}
}
