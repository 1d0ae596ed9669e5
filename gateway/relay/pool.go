package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"postern/gateway/mail"
	"postern/gateway/relay/client"
)

// maxNextHops bounds how many next hops are remembered that have no connection.
const maxNextHops = 4096

// conn is a session with a next hop.
type conn struct {
	*client.Conn
	key     key
	name    string    // host:port
	version int       // of the configuration it was made under
	uses    int       // transactions begun
	idle    time.Time // since when
}

// hopError is why a host, as a whole, did not take part. No final dot was sent.
type hopError struct {
	status Status
	reply  mail.Reply // zero where it said nothing
	err    error
}

func (e *hopError) Error() string { return e.err.Error() }

func (e *hopError) Unwrap() error { return e.err }

// asHopError words an error of a session as one of the host. A 5yz before the
// first RCPT is not about the message but about us, and so is a 421.
func asHopError(err error) error {
	var known *hopError
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &hopError{status: Down, err: err}
	var refusal *client.Refusal
	if errors.As(err, &refusal) {
		e.reply = refusal.Reply
		if e.reply.Transient() && e.reply.Code != 421 {
			e.status = Later
		}
	}
	return e
}

// nextHop is what is known of one next hop. Relay.mu guards it.
type nextHop struct {
	idle    []*conn // the longest unused first
	open    int     // connections, idle, in use, and being opened
	opening int     // of them
	waiters []chan grant
	failed  error // of the last attempt to open a connection; nil where it went well
	reaper  *time.Timer

	caps  Capabilities
	known bool
}

// grant is what a waiter gets: a connection, the right to open one where both
// fields are nil, or neither.
type grant struct {
	conn *conn
	err  error
}

// refuseWaiters tells all that wait that there is nothing to wait for.
func (h *nextHop) refuseWaiters(err error) {
	for _, w := range h.waiters {
		w <- grant{err: err}
	}
	h.waiters = nil
}

// give hands g to who has waited the longest.
func (h *nextHop) give(g grant) bool {
	if len(h.waiters) == 0 {
		return false
	}
	h.waiters[0] <- g
	h.waiters = h.waiters[1:]
	return true
}

// nextHop finds or makes the entry for k. Relay.mu is held.
func (r *Relay) nextHop(k key) *nextHop {
	if h := r.nextHops[k]; h != nil {
		return h
	}
	if len(r.nextHops) >= maxNextHops {
		for other, h := range r.nextHops {
			if h.open == 0 && len(h.waiters) == 0 {
				delete(r.nextHops, other)
				break
			}
		}
	}
	h := &nextHop{}
	r.nextHops[k] = h
	return h
}

// get is a connection to t: an unused one, else a new one, else the next that
// is given back. Callers are served in the order in which they came.
func (r *Relay) get(ctx context.Context, t target) (*conn, error) {
	c, err := r.claim(ctx, t.key)
	if err != nil {
		return nil, &hopError{status: Down, err: err}
	}
	if c == nil {
		return r.open(ctx, t)
	}
	if !c.Usable() {
		return r.renew(ctx, t, c)
	}
	r.remember(t.entry, c.Capabilities)
	return c, nil
}

// claim is an unused connection, or, where it is nil, the right to open one.
func (r *Relay) claim(ctx context.Context, k key) (*conn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	h := r.nextHop(k)
	if n := len(h.idle); n > 0 {
		c := h.idle[n-1]
		h.idle = h.idle[:n-1]
		r.mu.Unlock()
		return c, nil
	}
	if h.failed != nil && h.opening > 0 {
		// One that finds out whether the host is back is enough: behind a host
		// that swallows packets nobody would get to the next one of the route.
		defer r.mu.Unlock()
		return nil, h.failed
	}
	if h.open < r.config.Connections {
		h.open++
		h.opening++
		r.mu.Unlock()
		return nil, nil
	}
	w := make(chan grant, 1)
	h.waiters = append(h.waiters, w)
	r.mu.Unlock()
	return r.queue(ctx, k, w)
}

// queue waits for what w is given.
func (r *Relay) queue(ctx context.Context, k key, w chan grant) (*conn, error) {
	select {
	case g := <-w:
		return g.conn, g.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	h := r.nextHop(k)
	if i := slices.Index(h.waiters, w); i >= 0 {
		h.waiters = slices.Delete(h.waiters, i, i+1)
		r.mu.Unlock()
		return nil, fmt.Errorf("all connections are in use: %w", ctx.Err())
	}
	r.mu.Unlock()
	g := <-w // it came at the same time; what it brought goes on to the next
	switch {
	case g.conn != nil:
		r.put(g.conn)
	case g.err == nil:
		r.opened(k, nil, nil)
	}
	return nil, ctx.Err()
}

// open makes a connection for the right that claim gave.
func (r *Relay) open(ctx context.Context, t target) (*conn, error) {
	c, err := r.dial(ctx, t)
	if err != nil && over(ctx) {
		r.opened(t.key, nil, nil) // the caller's end says nothing of the host
		return nil, err
	}
	r.opened(t.key, c, err)
	if err != nil {
		return nil, err
	}
	r.remember(t.entry, c.Capabilities)
	return c, nil
}

// opened notes how an attempt to open a connection ended. With neither c nor
// err it only gives the right back.
func (r *Relay) opened(k key, c *conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.nextHop(k)
	h.opening--
	switch {
	case c != nil:
		h.failed = nil
		return
	case err != nil:
		h.failed = err
		h.refuseWaiters(err)
	}
	r.leave(h)
}

// leave gives a place back: to who waits for one, who then may open. Relay.mu
// is held.
func (r *Relay) leave(h *nextHop) {
	if h.give(grant{}) {
		h.opening++
		return
	}
	h.open--
}

// renew replaces a connection that turned out to be closed, in its place.
func (r *Relay) renew(ctx context.Context, t target, old *conn) (*conn, error) {
	_ = old.Close()
	r.mu.Lock()
	r.nextHop(t.key).opening++
	r.mu.Unlock()
	return r.open(ctx, t)
}

// put gives c back after a transaction.
func (r *Relay) put(c *conn) {
	r.mu.Lock()
	h := r.nextHop(c.key)
	if r.closed || !c.Usable() || c.uses >= maxUses || c.version != r.version {
		r.leave(h)
		r.mu.Unlock()
		if c.Usable() {
			go c.Quit()
		} else {
			_ = c.Close()
		}
		return
	}
	defer r.mu.Unlock()
	if h.give(grant{conn: c}) {
		return
	}
	c.idle = time.Now()
	h.idle = append(h.idle, c)
	if h.reaper == nil {
		h.reaper = time.AfterFunc(r.config.IdleTimeout, func() { r.reap(h) })
	}
}

// reap closes what was not used for too long.
func (r *Relay) reap(h *nextHop) {
	r.mu.Lock()
	limit := r.config.IdleTimeout
	n := 0
	for n < len(h.idle) && time.Since(h.idle[n].idle) >= limit {
		n++
	}
	old := slices.Clone(h.idle[:n])
	h.idle = slices.Delete(h.idle, 0, n)
	h.open -= n
	h.reaper = nil
	if len(h.idle) > 0 {
		h.reaper = time.AfterFunc(limit-time.Since(h.idle[0].idle), func() { r.reap(h) })
	}
	r.mu.Unlock()
	quitAll(old)
}

// takeIdle takes all unused connections out. Relay.mu is held.
func (r *Relay) takeIdle() (all []*conn) {
	for _, h := range r.nextHops {
		all = append(all, h.idle...)
		h.open -= len(h.idle)
		h.idle = nil
		if h.reaper != nil {
			h.reaper.Stop()
			h.reaper = nil
		}
	}
	return all
}

func quitAll(cs []*conn) {
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(c.Quit)
	}
	all.Wait()
}

// dial opens a connection to the first of the host's addresses that answers.
func (r *Relay) dial(ctx context.Context, t target) (*conn, error) {
	config, version := r.settings()
	addrs, err := t.addrs, error(nil)
	if addrs == nil {
		addrs, err = config.addresses(ctx, t.key.hop)
	}
	for _, addr := range addrs {
		var c *client.Conn
		if c, err = config.connect(ctx, t.key, addr); err == nil {
			return &conn{Conn: c, key: t.key, name: t.key.String(), version: version}, nil
		}
		if over(ctx) {
			break
		}
	}
	return nil, asHopError(err)
}

// connect opens a session with one address. A handshake that failed is only
// passed over where the policy leaves it open.
func (c Config) connect(ctx context.Context, k key, addr string) (*client.Conn, error) {
	o := client.Options{Dial: c.Dial, Hostname: c.Hostname, LMTP: k.lmtp, Timeouts: c.Timeouts}
	if k.network != "unix" && k.tls != TLSNone {
		// Without verification an attacker in between reads along; that is the
		// policy's choice, and still better than clear.
		o.TLS = &tls.Config{ServerName: k.host, RootCAs: c.RootCAs, InsecureSkipVerify: k.tls != TLSVerify}
		o.TLSRequired = k.tls != TLSMay
	}
	s, err := client.Dial(ctx, k.network, addr, o)
	if err != nil && !o.TLSRequired && errors.Is(err, client.ErrHandshake) && !over(ctx) {
		c.Log.Warn("next hop offers TLS and can't do it: going on in clear", "next_hop", k.String(), "error", err)
		o.TLS = nil
		s, err = client.Dial(ctx, k.network, addr, o)
	}
	return s, err
}

// over says that nothing more can be done within ctx. A read that was bounded
// by its deadline may end a moment before ctx itself does.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}
