package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// peer is one address of an engine and what is thought of it: the circuit
// breaker. Three failures in a row, or a time-out and a probe that fails after
// it, and the peer is away: everybody is turned down at once for awayTime. Then
// one probe decides for all who wait.
type peer struct {
	network, address string
	probe            Session
	dial             func(ctx context.Context, network, address string) (net.Conn, error)

	mu       sync.Mutex
	failures int           // in a row
	until    time.Time     // away until then
	doubt    bool          // has to answer a probe before it gets a message
	probing  chan struct{} // closed when the probe under way has decided; nil is none
	cause    error         // what it failed with last
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTime}
	return d.DialContext(ctx, network, address)
}

// try lets use speak to the peer, in its share of the time where there are
// others to turn to.
func (p *peer) try(ctx context.Context, left int, use Session) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	attempt, cancel := share(ctx, left)
	defer cancel()
	err := p.converse(attempt, use)
	switch {
	case err == nil:
		p.succeeded()
	case errors.Is(err, ErrContent) || errors.Is(ctx.Err(), context.Canceled):
		// Says nothing of the peer.
	default:
		p.failed(err)
	}
	return err
}

// share leaves an equal part of the remaining time to each peer that is left, so
// that the first that hangs does not use up the time of the others.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left < 2 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
}

// converse opens a connection that lives as long as ctx, for use.
func (p *peer) converse(ctx context.Context, use Session) error {
	conn, err := p.dial(ctx, p.network, p.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return use(conn)
}

// ready says whether the peer may be given a message. Where it is in doubt, all
// callers wait for one probe: to turn them down would defer mail because of one
// slow message.
func (p *peer) ready(ctx context.Context) error {
	p.mu.Lock()
	if !p.doubt {
		p.mu.Unlock()
		return nil
	}
	if time.Now().Before(p.until) {
		defer p.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrAway, p.cause)
	}
	decided := p.probing
	if decided == nil {
		decided = make(chan struct{})
		p.probing = decided
		go p.decide(decided)
	}
	p.mu.Unlock()
	select {
	case <-decided:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubt {
		return fmt.Errorf("%w: %w", ErrAway, p.cause)
	}
	return nil
}

// decide probes the peer on behalf of all who wait, none of whom may stop it.
func (p *peer) decide(decided chan struct{}) {
	err := p.ping(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.cause = err
		p.doubt = true
		p.until = time.Now().Add(awayTime)
	}
	p.probing = nil
	close(decided)
}

// ping probes the peer.
func (p *peer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if err := p.converse(ctx, p.probe); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p.succeeded()
	return nil
}

func (p *peer) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.doubt, p.until, p.cause = 0, false, time.Time{}, nil
}

// failed notes a failure. One time-out may be the message's fault, but where it
// is the engine's each further message would cost as much: so it has to answer
// a probe before it gets the next.
func (p *peer) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = err
	p.failures++
	switch {
	case p.failures >= maxFailures:
		p.doubt = true
		p.until = time.Now().Add(awayTime)
	case timedOut(err):
		p.doubt = true
	}
}

func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}
