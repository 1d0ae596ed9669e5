package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
)

const (
	greeting = `< 220 one ESMTP
> EHLO gw.test
< 250-one
< 250 PIPELINING
`
	message = `> MAIL FROM:<s@example.org>
> RCPT TO:<a@inside.test>
> DATA
< 250 ok
< 250 ok
< 354 go on
* data
< 250 2.0.0 queued
`
)

func job(hosts ...string) Job {
	return Job{
		Route: Route{Hosts: hosts}, ReversePath: mail.Address{Local: "s", Domain: "example.org"},
		Recipients: []mail.Address{{Local: "a", Domain: "inside.test"}}, Content: hello,
	}
}

// deliver hands a message to "one" and expects a status.
func deliver(t *testing.T, ctx context.Context, r *Relay, want Status) Outcome {
	t.Helper()
	out, late := r.Deliver(ctx, job("one"))
	if out[0].Status != want || (late != nil) != (want == Waiting) {
		t.Errorf("outcome %+v, want %s", out[0], want)
	}
	return out[0]
}

// What becomes of a connection between two messages.
func TestReuse(t *testing.T) {
	tests := []struct {
		name     string
		pause    time.Duration
		sessions []string
	}{
		{"used again, without RSET", defaultIdle - time.Millisecond, []string{greeting + message + message}},
		{"closed by us after 30 s", defaultIdle + time.Millisecond, []string{greeting + message, greeting + message}},
		{"closed by the server", time.Second, []string{greeting + message + "* close", greeting + message}},
		{"closed by the server at MAIL", time.Second, []string{greeting + message + "> MAIL FROM:<s@example.org>\n* close", greeting + message}},
		{"closed by the server at DATA", time.Second, []string{greeting + message + `> MAIL FROM:<s@example.org>
> RCPT TO:<a@inside.test>
> DATA
< 250 ok
< 250 ok
* close`, greeting + message}},
		{"421 at MAIL", time.Second, []string{greeting + message + "> MAIL FROM:<s@example.org>\n< 421 4.4.2 idle\n* close", greeting + message}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t, test.sessions...)
				r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
				deliver(t, t.Context(), r, Taken)
				time.Sleep(test.pause)
				deliver(t, t.Context(), r, Taken)
				r.Close()
				n.finish()
			})
		})
	}
}

// A connection that was used before and does not answer is down like any other:
// trying again would cost the same time once more.
func TestReuseSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, greeting+message+"> MAIL FROM:<s@example.org>\n* cut")
		r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		start := time.Now()
		deliver(t, t.Context(), r, Down)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("took %s", took)
		}
		r.Close()
		n.finish()
	})
}

// The replacement of a connection that was closed may fail as well.
func TestReuseGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, greeting+message+"* close")
		r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		if o := deliver(t, t.Context(), r, Down); !strings.Contains(o.Err.Error(), "refused") {
			t.Error(o.Err)
		}
		if h := r.nextHops[only(r)]; h.open != 0 || h.opening != 0 {
			t.Errorf("%d connections are counted", h.open)
		}
		r.Close()
		n.finish()
	})
}

func only(r *Relay) key {
	for k := range r.nextHops {
		return k
	}
	return key{}
}

// Replies that nobody asked for would be read as answers to the next message.
func TestReuseDesynchronised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, greeting+strings.TrimSuffix(message, "< 250 2.0.0 queued\n")+`* raw "250 2.0.0 queued\r\n250 2.0.0 once more\r\n"`+"\n* eof", greeting+message)
		r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		deliver(t, t.Context(), r, Taken)
		r.Close()
		n.finish()
	})
}

// pipes dials servers that take everything, and counts them.
type pipes struct {
	pause   time.Duration // before the answer to the final dot
	dialled atomic.Int32
	servers sync.WaitGroup
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	p.dialled.Add(1)
	ours, theirs := net.Pipe()
	p.servers.Go(func() { swallow(slowConn{theirs, p.pause}) })
	return ours, nil
}

// slowConn is late with everything that contains "queued".
type slowConn struct {
	net.Conn
	pause time.Duration
}

func (c slowConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "queued") {
		time.Sleep(c.pause)
	}
	return c.Conn.Write(b)
}

func TestUses(t *testing.T) {
	for messages, want := range map[int]int32{maxUses: 1, maxUses + 1: 2} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{}
			r := New(Config{Dial: p.dial, Resolver: fakeResolver{}})
			for range messages {
				deliver(t, t.Context(), r, Taken)
			}
			r.Close()
			p.servers.Wait()
			if got := p.dialled.Load(); got != want {
				t.Errorf("%d connections for %d messages, want %d", got, messages, want)
			}
		})
	}
}

func TestConnectionsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{pause: time.Second}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}, Connections: 2})
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		start := time.Now()
		for i := range 6 {
			all.Go(func() {
				deliver(t, t.Context(), r, Taken)
				mu.Lock()
				order = append(order, fmt.Sprint(i/2, time.Since(start)))
				mu.Unlock()
			})
			synctest.Wait()
		}
		all.Wait()
		want := []string{"0 1s", "0 1s", "1 2s", "1 2s", "2 3s", "2 3s"}
		if !slices.Equal(order, want) || p.dialled.Load() != 2 {
			t.Errorf("served %v over %d connections, want %v over 2", order, p.dialled.Load(), want)
		}
		r.Close()
		p.servers.Wait()
	})
}

// Who waits for a connection waits no longer than its context, and Close ends it.
func TestWaitForConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{pause: time.Minute}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}, Connections: 1})
		var all sync.WaitGroup
		all.Go(func() { deliver(t, t.Context(), r, Taken) })
		synctest.Wait()
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if o := deliver(t, ctx, r, Down); !strings.Contains(o.Err.Error(), "all connections are in use") {
				t.Error(o.Err)
			}
		})
		all.Go(func() {
			if o := deliver(t, t.Context(), r, Down); !errors.Is(o.Err, ErrClosed) {
				t.Error(o.Err)
			}
		})
		time.Sleep(10 * time.Second)
		r.Close()
		if o := deliver(t, t.Context(), r, Down); !errors.Is(o.Err, ErrClosed) {
			t.Error(o.Err)
		}
		all.Wait()
		p.servers.Wait()
	})
}

// A connection that is given back at the moment its waiter leaves is not lost.
func TestWaiterLeavesWithGrant(t *testing.T) {
	p := &pipes{}
	r := New(Config{Connections: 1, Dial: p.dial})
	k := key{hop: hop{network: "tcp", host: "one", port: "25"}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	session, err := r.config.connect(t.Context(), k, "one:25")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for _, g := range []grant{{}, {conn: &conn{Conn: session, key: k}}, {err: ErrClosed}} {
		for range 20 { // the select below has to take either way
			h := &nextHop{open: 1}
			r.nextHops[k] = h
			if g.conn == nil && g.err == nil {
				h.opening = 1
			}
			w := make(chan grant, 1)
			w <- g
			c, err := r.queue(ctx, k, w)
			switch {
			case err == nil && c == nil: // got the right
				r.opened(k, nil, nil)
			case err == nil:
				r.put(c)
			}
			if len(h.idle) != h.open-h.opening && g.err == nil {
				t.Fatalf("%d idle of %d", len(h.idle), h.open)
			}
			if h.reaper != nil {
				h.reaper.Stop()
			}
		}
	}
}

// Behind a host that swallows packets only one caller at a time finds that out
// anew; all others go on to the next host at once.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{}
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "hole:25" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return p.dial(ctx, network, address)
		}
		r := New(Config{Dial: dial, Resolver: fakeResolver{}, Connections: 2})
		var all sync.WaitGroup
		try := func(want time.Duration) {
			all.Go(func() {
				start := time.Now()
				if out, _ := r.Deliver(t.Context(), job("hole", "one")); out[0].Status != Taken || time.Since(start) != want {
					t.Errorf("%+v after %s, want %s", out[0], time.Since(start), want)
				}
			})
			synctest.Wait()
		}
		for range 4 { // two that try, two that wait for them
			try(10 * time.Second)
		}
		all.Wait()
		try(10 * time.Second)
		for range 3 {
			try(0)
		}
		all.Wait()
		r.Close()
		p.servers.Wait()
	})
}

func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, greeting+message, strings.Replace(greeting, "gw.test", "new.test", 1)+message)
		r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		r.Configure(Config{Hostname: "new.test", Dial: n.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		r.Close()
		n.finish()
	})
}

// Close ends what is waited for in the background, and waits for its end.
func TestCloseEndsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{pause: time.Minute}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}})
		j := job("one")
		j.Answer = time.Second
		out, late := r.Deliver(t.Context(), j)
		if out[0].Status != Waiting {
			t.Errorf("outcome %+v", out[0])
		}
		start := time.Now()
		r.Close()
		if got := <-late; len(got) != 1 || got[0].Status != Down || time.Since(start) != 0 {
			t.Errorf("late %+v after %s", got, time.Since(start))
		}
		p.servers.Wait()
	})
}

// A Deliver whose answer is late when the Relay is closed already still ends.
func TestLateAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{pause: time.Minute}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}})
		time.AfterFunc(time.Second, func() { r.Close() })
		j := job("one")
		j.Answer = 2 * time.Second
		out, late := r.Deliver(t.Context(), j)
		if got := <-late; out[0].Status != Waiting || len(got) != 1 || got[0].Status != Down {
			t.Errorf("outcome %+v, late %+v", out[0], got)
		}
		p.servers.Wait()
	})
}

// After a late answer the connection is as good as any.
func TestLateReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{pause: 2 * time.Second}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}, Connections: 1})
		j := job("one")
		j.Answer = time.Second
		_, late := r.Deliver(t.Context(), j)
		<-late
		deliver(t, t.Context(), r, Taken)
		if p.dialled.Load() != 1 {
			t.Errorf("%d connections", p.dialled.Load())
		}
		r.Close()
		p.servers.Wait()
	})
}

// The end of the caller's context ends everything before the final dot at once.
func TestCancel(t *testing.T) {
	for _, session := range []string{
		"* eof", "< 220 one\n> EHLO gw.test\n* eof", greeting + "> MAIL FROM:<s@example.org>\n* cut",
		greeting + strings.Split(message, "* data")[0] + "* sleep 1m\n* cut",
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t, session)
			r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			deliver(t, ctx, r, Down)
			if took := time.Since(start); took != time.Second {
				t.Errorf("took %s", took)
			}
			if h := r.nextHops[only(r)]; h.open != 0 || h.opening != 0 || h.failed != nil {
				t.Errorf("left behind: %+v", h)
			}
			r.Close()
			n.finish()
		})
	}
}

// A policy's connections are not those of another.
func TestPolicyKeepsConnectionsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{}
		r := New(Config{Dial: p.dial, Resolver: fakeResolver{}})
		deliver(t, t.Context(), r, Taken)
		j := job("one")
		j.Route.TLS = TLSEncrypt
		if out, _ := r.Deliver(t.Context(), j); out[0].Status != Down {
			t.Errorf("outcome %+v", out[0])
		}
		r.Close()
		p.servers.Wait()
	})
}

func TestNextHopsAreBounded(t *testing.T) {
	r := New(Config{})
	for i := range maxNextHops + 10 {
		r.remember(key{hop: hop{network: "tcp", host: fmt.Sprint(i)}}, Capabilities{})
	}
	if len(r.nextHops) != maxNextHops {
		t.Errorf("%d are remembered, want %d", len(r.nextHops), maxNextHops)
	}
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, strings.Replace(greeting, "PIPELINING", "SIZE 77", 1))
		r := New(Config{Hostname: "gw.test", Dial: n.dial, Resolver: fakeResolver{}})
		route := Route{Hosts: []string{"none", "one"}}
		if _, known := r.Capabilities(route); known {
			t.Error("known before anybody was asked")
		}
		for range 2 { // the second is answered from memory
			caps, err := r.Probe(t.Context(), route)
			if err != nil || caps != (Capabilities{Size: 77, SizeOffered: true}) {
				t.Errorf("%+v, %v", caps, err)
			}
		}
		if caps, known := r.Capabilities(route); !known || caps.Size != 77 {
			t.Errorf("%t %+v", known, caps)
		}
		if _, err := r.Probe(t.Context(), Route{Hosts: []string{"none"}}); err == nil || !strings.Contains(err.Error(), "none:25") {
			t.Error(err)
		}
		if _, err := r.Probe(t.Context(), Route{}); err == nil {
			t.Error("a route without hosts has no capabilities")
		}
		r.Close()
		n.finish()
	})
}
