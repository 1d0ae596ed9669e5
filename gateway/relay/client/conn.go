package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// lastWords is how long a server that is being left may still say something.
const lastWords = time.Second

// longAgo as a deadline ends every read and write at once.
var longAgo = time.Unix(1, 0)

// Conn is a session. Only Sever may be called while another method runs.
type Conn struct {
	Capabilities Capabilities

	net      net.Conn // raw, or TLS over it
	raw      net.Conn // as it was dialled
	timeouts Timeouts
	sick     bool

	in  replyReader
	out []byte // commands not yet sent
}

func newConn(raw net.Conn, t Timeouts) *Conn { return &Conn{net: raw, raw: raw, timeouts: t} }

// Usable says that another command may be sent: nothing went wrong, and nothing
// was said that nobody had asked for and that would be taken for its answer.
func (c *Conn) Usable() bool { return !c.sick && !c.in.pending() }

// Spoil makes sure that c is not used again.
func (c *Conn) Spoil() { c.sick = true }

// Bind makes the end of ctx end what c waits for, until free is called. It pokes
// the deadline, so each deadline is set before ctx is looked at: see until.
func (c *Conn) Bind(ctx context.Context) (free func()) {
	var mu sync.Mutex
	freed := false
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if !freed {
			_ = c.raw.SetDeadline(longAgo)
		}
	})
	return func() {
		if !stop() {
			mu.Lock()
			freed = true
			mu.Unlock()
		}
	}
}

// until gives what follows d, and no longer than ctx has.
func (c *Conn) until(ctx context.Context, d time.Duration) error {
	at := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		at = end
	}
	_ = c.net.SetDeadline(at) // where it fails, what follows fails, and says why
	return ctx.Err()
}

// Queue adds a command to those that the next Send sends.
func (c *Conn) Queue(words ...string) {
	for _, w := range words {
		c.out = append(c.out, w...)
	}
	c.out = append(c.out, '\r', '\n')
}

// Send writes the queued commands at once. Any error makes the session useless.
func (c *Conn) Send(ctx context.Context) error { return c.send(ctx, c.timeouts.Command) }

func (c *Conn) send(ctx context.Context, d time.Duration) error {
	err := c.until(ctx, d)
	if err == nil {
		_, err = c.net.Write(c.out)
	}
	c.out = c.out[:0]
	return c.fault("write", err)
}

// Receive reads the reply to a command. Any error makes the session useless.
func (c *Conn) Receive(ctx context.Context) (Reply, error) {
	return c.receive(ctx, c.timeouts.Command)
}

// ReceiveData reads the reply to DATA.
func (c *Conn) ReceiveData(ctx context.Context) (Reply, error) {
	return c.receive(ctx, c.timeouts.Data)
}

func (c *Conn) receive(ctx context.Context, d time.Duration) (Reply, error) {
	rep, ok, err := c.in.next()
	if !ok && err == nil {
		if err = c.until(ctx, d); err == nil {
			rep, err = c.await()
		}
	}
	return rep, c.fault("read", err)
}

// Await reads a reply before the given time. After an error that TimedOut it
// may be called again: what came of a reply is not lost.
func (c *Conn) Await(by time.Time) (Reply, error) {
	_ = c.net.SetDeadline(by)
	rep, err := c.await()
	if err != nil && !TimedOut(err) {
		err = c.fault("read", err)
	}
	return rep, err
}

func (c *Conn) await() (Reply, error) {
	for {
		rep, ok, err := c.in.next()
		if ok || err != nil {
			return rep, err
		}
		if err := c.in.fill(c.net); err != nil {
			return Reply{}, err
		}
	}
}

// Ask sends one command and reads the answer.
func (c *Conn) Ask(ctx context.Context, words ...string) (Reply, error) {
	c.Queue(words...)
	if err := c.Send(ctx); err != nil {
		return Reply{}, err
	}
	return c.Receive(ctx)
}

// LastWords is what the server said before it broke the connection; ok is false
// where it said nothing.
func (c *Conn) LastWords() (rep Reply, ok bool) {
	rep, err := c.Await(time.Now().Add(lastWords))
	return rep, err == nil
}

// fault words an error, and notes that c is of no use any more.
func (c *Conn) fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		err = errors.New("the next hop closed the connection")
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%s: no answer in time: %w", doing, err)
	default:
		err = fmt.Errorf("%s: %w", doing, err)
	}
	c.sick = true
	return err
}

// TimedOut tells a silent server from one that has gone.
func TimedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// Reset ends a transaction that came to nothing.
func (c *Conn) Reset(ctx context.Context) {
	if c.sick {
		return
	}
	if rep, err := c.Ask(ctx, "RSET"); err != nil || !rep.Positive() {
		c.sick = true
	}
}

// Abort closes c in such a way that no server takes what it has for a whole
// message, or an end of TLS for an end of data.
func (c *Conn) Abort() {
	c.sick = true
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

// Quit says goodbye (RFC 5321, section 4.1.1.10) and closes c.
func (c *Conn) Quit() {
	if !c.sick {
		c.Queue("QUIT")
		if c.send(context.Background(), lastWords) == nil {
			_, _ = c.receive(context.Background(), lastWords)
		}
	}
	_ = c.Close()
}

// Close closes c without a word.
func (c *Conn) Close() error {
	c.sick = true
	return c.net.Close()
}

// Sever makes whatever is waiting on c fail.
func (c *Conn) Sever() { _ = c.raw.Close() }
