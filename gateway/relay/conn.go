package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/gateway/mail"
)

// Capabilities are what a next hop offered at its last EHLO.
type Capabilities struct {
	Size        int64 // octets a message may have at most (RFC 1870); 0: no limit was said
	SizeOffered bool
	EightBit    bool
	SMTPUTF8    bool
	Pipelining  bool
	StartTLS    bool // offered before the handshake
}

// hopError is why a host, as a whole, did not take part. No final dot was sent.
type hopError struct {
	status Status
	reply  mail.Reply // zero where it said nothing
	err    error      // nil where reply says it all
}

func (e *hopError) Error() string {
	switch {
	case e.err == nil:
		return e.reply.String()
	case e.reply.Code == 0:
		return e.err.Error()
	}
	return e.err.Error() + ": " + e.reply.String()
}

func (e *hopError) Unwrap() error { return e.err }

// refusal is what a reply other than 2yz means before the first RCPT: a 5yz
// there is not about the message but about us, and so is a 421.
func refusal(rep reply, command string) *hopError {
	e := &hopError{status: Down, reply: rep.reply(), err: fmt.Errorf("%s was refused", command)}
	if rep.transient() && rep.code != 421 {
		e.status = Later
	}
	return e
}

// errHandshake is why STARTTLS came to nothing after both sides had agreed to it.
var errHandshake = errors.New("tls handshake")

// longAgo as a deadline ends every read and write at once.
var longAgo = time.Unix(1, 0)

// conn is a session with a next hop.
type conn struct {
	net.Conn          // raw, or TLS over it
	raw      net.Conn // as it was dialled
	key      key
	name     string // host:port
	caps     Capabilities
	timeouts Timeouts
	version  int // of the configuration it was made under
	uses     int // transactions begun
	sick     bool
	idle     time.Time // since when

	in  replyReader
	out []byte // commands not yet sent
}

// bind makes the end of ctx end what c waits for, until free is called. It pokes
// the deadline, so each deadline is set before ctx is looked at: see until.
func (c *conn) bind(ctx context.Context) (free func()) {
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
func (c *conn) until(ctx context.Context, d time.Duration) error {
	at := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		at = end
	}
	_ = c.SetDeadline(at) // where it fails, what follows fails, and says why
	return ctx.Err()
}

// over says that nothing more can be done within ctx. A read that was bounded
// by its deadline may end a moment before ctx itself does.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// queue adds a command to those that the next send sends.
func (c *conn) queue(words ...string) {
	for _, w := range words {
		c.out = append(c.out, w...)
	}
	c.out = append(c.out, '\r', '\n')
}

// send writes the queued commands. Any error makes the session useless.
func (c *conn) send(ctx context.Context, d time.Duration) error {
	err := c.until(ctx, d)
	if err == nil {
		_, err = c.Write(c.out)
	}
	c.out = c.out[:0]
	return c.fault("write", err)
}

// receive reads one reply. Any error makes the session useless.
func (c *conn) receive(ctx context.Context, d time.Duration) (reply, error) {
	rep, ok, err := c.in.next()
	if !ok && err == nil {
		if err = c.until(ctx, d); err == nil {
			rep, err = c.await()
		}
	}
	return rep, c.fault("read", err)
}

// await reads one reply within the deadline that is set. After a time-out it
// may be called again.
func (c *conn) await() (reply, error) {
	for {
		rep, ok, err := c.in.next()
		if ok || err != nil {
			return rep, err
		}
		if err := c.in.fill(c.Conn); err != nil {
			return reply{}, err
		}
	}
}

// ask sends one command and reads the answer.
func (c *conn) ask(ctx context.Context, words ...string) (reply, error) {
	c.queue(words...)
	if err := c.send(ctx, c.timeouts.Command); err != nil {
		return reply{}, err
	}
	return c.receive(ctx, c.timeouts.Command)
}

// fault words an error, and notes that c is of no use any more.
func (c *conn) fault(doing string, err error) error {
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

// timedOut tells a silent server from one that has gone.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// greet reads the banner and says who we are, once more under TLS where the
// policy wants it.
func (c *conn) greet(ctx context.Context, config Config, secure bool) error {
	defer c.bind(ctx)()
	rep, err := c.receive(ctx, c.timeouts.Greeting)
	if err != nil {
		return err
	}
	if !rep.positive() {
		return refusal(rep, "the connection")
	}
	if err := c.hello(ctx, config.Hostname); err != nil || !secure || c.key.network == "unix" {
		return err
	}
	return c.secure(ctx, config)
}

// hello asks for the extensions. Only EHLO has a predecessor to fall back to.
func (c *conn) hello(ctx context.Context, hostname string) error {
	verb := "EHLO"
	if c.key.lmtp {
		verb = "LHLO"
	}
	rep, err := c.ask(ctx, verb, " ", hostname)
	if err == nil && rep.permanent() && !c.key.lmtp {
		verb = "HELO"
		rep, err = c.ask(ctx, verb, " ", hostname)
	}
	switch {
	case err != nil:
		return err
	case !rep.positive():
		return refusal(rep, verb)
	}
	c.caps = Capabilities{}
	if verb != "HELO" {
		c.caps = parseCapabilities(rep)
	}
	return nil
}

// parseCapabilities reads what stands behind the first line of EHLO's answer
// (RFC 5321, section 4.1.1.1).
func parseCapabilities(rep reply) (caps Capabilities) {
	_, rest, _ := bytes.Cut(rep.raw, []byte("\n"))
	for line := range bytes.Lines(rest) {
		line = trimEOL(line)
		words := strings.Fields(strings.ToUpper(string(line[min(4, len(line)):])))
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "SIZE":
			caps.SizeOffered = true
			if len(words) > 1 {
				n, err := strconv.ParseInt(words[1], 10, 64)
				if err == nil && n > 0 {
					caps.Size = n
				}
			}
		case "8BITMIME":
			caps.EightBit = true
		case "SMTPUTF8":
			caps.SMTPUTF8 = true
		case "PIPELINING":
			caps.Pipelining = true
		case "STARTTLS":
			caps.StartTLS = true
		}
	}
	return caps
}

// secure changes over to TLS (RFC 3207) as far as the policy demands it.
func (c *conn) secure(ctx context.Context, config Config) error {
	demanded := c.key.tls != TLSMay
	switch {
	case c.key.tls == TLSNone || !c.caps.StartTLS && !demanded:
		return nil
	case !c.caps.StartTLS:
		return &hopError{status: Down, err: errors.New("STARTTLS is not offered, and the policy demands it")}
	}
	rep, err := c.ask(ctx, "STARTTLS")
	switch {
	case err != nil:
		return err
	case !rep.positive() && (demanded || rep.code == 421):
		return refusal(rep, "STARTTLS")
	case !rep.positive():
		return nil
	case c.in.pending():
		// Whoever put these in clear behind the answer wants them to be read as
		// the first answers under TLS.
		return &hopError{status: Down, err: errors.New("replies in clear behind the answer to STARTTLS")}
	}
	if err := c.handshake(ctx, config); err != nil {
		return err
	}
	err = c.hello(ctx, config.Hostname) // what was said in clear no longer counts
	c.caps.StartTLS = true
	return err
}

func (c *conn) handshake(ctx context.Context, config Config) error {
	verify := c.key.tls == TLSVerify
	// Without verification an attacker in between reads along; that is the
	// policy's choice, and still better than clear.
	t := tls.Client(c.raw, &tls.Config{ServerName: c.key.host, RootCAs: config.RootCAs, InsecureSkipVerify: !verify})
	err := c.until(ctx, c.timeouts.Greeting)
	if err == nil {
		err = t.Handshake()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errHandshake, c.fault("handshake", err))
	}
	c.Conn = t
	return nil
}

// reset ends a transaction that came to nothing.
func (c *conn) reset(ctx context.Context) {
	if c.sick {
		return
	}
	if rep, err := c.ask(ctx, "RSET"); err != nil || !rep.positive() {
		c.sick = true
	}
}

// abort closes c in such a way that no server takes what it has for a whole
// message, or an end of TLS for an end of data.
func (c *conn) abort() {
	c.sick = true
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

// quit says goodbye (RFC 5321, section 4.1.1.10) and closes c.
func (c *conn) quit() {
	if !c.sick {
		c.queue("QUIT")
		if c.send(context.Background(), quitTimeout) == nil {
			_, _ = c.receive(context.Background(), quitTimeout)
		}
	}
	_ = c.Close()
}
