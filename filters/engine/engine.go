// Package engine is the way to a daemon that judges messages: its addresses,
// how many connections are open at once, and when it counts as away.
//
// It knows no protocol; clamd's and spamd's are in the packages clamav and
// spamassassin. What they share is what must not differ: a dead engine costs
// its time-out once and not for every message, a living one is never skipped
// because of one slow message, and a message that an engine dies of does not
// come back to it for ever.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"postern/gateway/mail"
)

// Why an engine gave no answer, beside the errors of the connection itself.
var (
	// ErrAway: it failed a moment ago, and is left alone for now.
	ErrAway = errors.New("engine is away")
	// ErrBusy: all connections were in use until the caller's time was over.
	ErrBusy = errors.New("all connections to the engine are in use")
	// ErrUnscannable: the engine failed on this very message before, and is
	// not given it again. It is the message's fault, not the engine's.
	ErrUnscannable = errors.New("the engine failed on this message repeatedly")
	// ErrContent is to be wrapped by a session that could not read the
	// message. It is never held against the engine.
	ErrContent = errors.New("read content")
	// ErrOnMessage is to be wrapped by a session in which the engine lives, but
	// gave up on this message for want of something; it may go better next time.
	ErrOnMessage = errors.New("the engine gave up on the message")
)

// How long an engine is left alone, what it may take to answer a probe, and to
// be connected to. An engine stands near: more than that is an outage.
const (
	awayTime    = 5 * time.Second
	probeTime   = time.Second
	connectTime = 5 * time.Second
	maxFailures = 3 // in a row, until it counts as away
)

// Session speaks to the engine on one fresh connection, which has the caller's
// deadline and is closed afterwards. Its error means that the engine failed,
// unless it wraps ErrContent.
type Session func(net.Conn) error

// Config says where the engine is.
type Config struct {
	Addresses   []string // "tcp:host:port" or "unix:/path"; the first that works is used
	Connections int      // open at once, to all addresses together; 0 is 8
	Probe       Session  // asks whether it lives: cheap, and of no message
}

// Engine is a daemon at one or several addresses. It may be used by several
// goroutines at once.
type Engine struct {
	peers    []*peer
	slots    chan struct{}
	suspects suspects
}

// New reads the addresses. Nothing is connected to before it is needed, so that
// the gateway starts without its engines.
func New(c Config) (*Engine, error) {
	if len(c.Addresses) == 0 {
		return nil, errors.New("no address of an engine")
	}
	if c.Connections <= 0 {
		c.Connections = 8
	}
	e := &Engine{slots: make(chan struct{}, c.Connections)}
	for _, a := range c.Addresses {
		network, address, err := ParseAddress(a)
		if err != nil {
			return nil, err
		}
		e.peers = append(e.peers, &peer{network: network, address: address, probe: c.Probe, dial: dial})
	}
	return e, nil
}

// ParseAddress reads "tcp:host:port" or "unix:/path" into what net.Dial takes.
func ParseAddress(s string) (network, address string, err error) {
	network, address, _ = strings.Cut(s, ":")
	switch network {
	case "tcp":
		host, port, err := net.SplitHostPort(address)
		if err == nil && host != "" && port != "" {
			return network, address, nil
		}
	case "unix":
		if strings.HasPrefix(address, "/") {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("address %q: want tcp:host:port or unix:/path", s)
}

// Do lets use speak to the first address that does not fail, and waits for a
// free connection before. A caller that goes away is no failure of the engine.
func (e *Engine) Do(ctx context.Context, use Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	var all error
	for i, p := range e.peers {
		err := p.try(ctx, len(e.peers)-i, use)
		if err == nil {
			return nil
		}
		all = join(all, fmt.Errorf("%s: %w", p.address, err))
		if ctx.Err() != nil || errors.Is(err, ErrUnscannable) || errors.Is(err, ErrContent) {
			break
		}
	}
	return all
}

// join keeps the errors of all addresses on one line.
func join(all, err error) error {
	if all == nil {
		return err
	}
	return fmt.Errorf("%w; %w", all, err)
}

// Scan is Do for a session that shows the engine a message. What it died of or
// ran out of time over again and again is ErrUnscannable, and is not shown to it
// any more for a day.
func (e *Engine) Scan(ctx context.Context, c mail.Content, use Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.suspects.condemned(c) {
		return ErrUnscannable
	}
	return e.Do(ctx, func(conn net.Conn) error {
		err := use(conn)
		if w := weight(err); w > 0 && !errors.Is(ctx.Err(), context.Canceled) && e.suspects.strike(c, w) {
			return fmt.Errorf("%w: %w", ErrUnscannable, err)
		}
		return err
	})
}

// Ping says whether the engine answers at one of its addresses, whatever was
// thought of it. An answer ends its absence.
func (e *Engine) Ping(ctx context.Context) error {
	var all error
	for _, p := range e.peers {
		err := p.ping(ctx)
		if err == nil {
			return nil
		}
		all = join(all, fmt.Errorf("%s: %w", p.address, err))
	}
	return all
}
