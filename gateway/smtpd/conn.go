package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"postern/gateway/mail"
)

// ending is how a connection is to end.
type ending int

const (
	stay   ending = iota
	leave         // send what is to be said, close
	linger        // the same, and hear out a client that is still talking: else it might lose our last reply
	abort         // close
)

// Why no command could be read, beside the errors of the connection.
var (
	errShutdown = errors.New("shutting down")
	errNewline  = errors.New("bare CR or LF in a command")
	errLine     = errors.New("command line too long")
	errTLS      = errors.New("TLS on the plain port")
)

// conn is one connection. All but wake runs in one goroutine.
type conn struct {
	server *Server
	config *Config // as it was when the command came
	raw    net.Conn
	rw     net.Conn        // raw, or TLS over it
	peek   syscall.RawConn // of raw; nil where it has none
	from   netip.Prefix    // who is counted
	client mail.Client

	in      input
	out     []byte // replies not sent yet
	session Session
	end     ending
	begun   bool // a first octet was seen

	inMail      bool // a transaction is open
	utf8        bool // SMTPUTF8 was said in it
	rcpts       int  // were tried in it
	accepted    int  // of them
	bad         int  // commands, in the session
	noops       int  // since the last message
	refusedRcpt int  // in the session

	mu      sync.Mutex
	waiting bool // for the client, with nothing in work
	closing bool // the server is shutting down
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{server: s, raw: raw, rw: raw, config: s.config.Load()}
	if sc, ok := raw.(syscall.Conn); ok {
		c.peek, _ = sc.SyscallConn() // the error is that of a closed connection: reading says it
	}
	switch a := raw.RemoteAddr().(type) {
	case *net.TCPAddr:
		c.client.Addr = a.AddrPort()
	case nil:
	default:
		c.client.Addr, _ = netip.ParseAddrPort(a.String()) // else nobody's: a pipe
	}
	c.client.Addr = netip.AddrPortFrom(c.client.Addr.Addr().Unmap(), c.client.Addr.Port())
	c.from = clientOf(c.client.Addr.Addr())
	return c
}

// serve is the connection from banner to close. A panic of a session costs its
// own client only, who still has the message.
func (c *conn) serve() {
	defer c.server.drop(c)
	defer c.raw.Close()
	defer c.in.release()
	defer func() {
		if fault := recover(); fault != nil {
			c.server.log().Error("session panicked", "client", c.client.Addr, "fault", fault, "stack", string(debug.Stack()))
			c.say(replyFault)
			c.end = leave
			c.hangUp()
		}
	}()
	if c.early() {
		c.quitOver(replyEarly, ReasonEarly)
		c.hangUp()
		return
	}
	c.session = c.server.NewSession(c.client)
	defer c.session.Close()
	c.out = appendReplyLine(c.out, 220, ' ', c.config.Hostname+" ESMTP Postern")
	for c.end == stay {
		c.step()
	}
	c.hangUp()
}

// step reads a command and carries it out.
func (c *conn) step() {
	line, err := c.readLine()
	if err != nil {
		c.broken(err)
		return
	}
	c.config = c.server.config.Load()
	c.command(line)
}

// broken ends the connection because there is no next command.
func (c *conn) broken(err error) {
	switch {
	case errors.Is(err, errShutdown):
		c.say(replyShutdown)
		c.end = leave
	case errors.Is(err, errNewline):
		c.quitOver(replyNewline, ReasonNewline)
	case errors.Is(err, errLine):
		c.quitOver(replyLine, ReasonLine)
	case errors.Is(err, errTLS):
		c.abortOver(ReasonTLS)
	case errors.Is(err, errWrite):
		c.end = abort
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.say(replySilent)
		c.end = leave
	default:
		c.end = abort
	}
}

// readLine reads a command line, without its CRLF. It is valid until the next
// read. The time for a command is that for the whole line, so that a client
// can't stay by sending an octet now and then.
func (c *conn) readLine() ([]byte, error) {
	until := time.Now().Add(c.config.Limits.Command)
	for seen := 0; ; {
		if c.isClosing() {
			return nil, errShutdown
		}
		p := c.in.unread()
		if len(p) > 0 && !c.begun {
			c.begun = true
			if p[0] == 0x16 && c.client.TLS == "" { // a TLS handshake record
				return nil, errTLS
			}
		}
		if i := bytes.IndexByte(p[seen:], '\n'); i >= 0 {
			return c.takeLine(p[:seen+i+1])
		}
		if cr := bytes.IndexByte(p, '\r'); cr >= 0 && cr < len(p)-1 {
			return nil, errNewline
		}
		if len(p) >= maxLine {
			return nil, errLine
		}
		seen = len(p)
		if err := c.fillCommand(until); err != nil {
			return nil, err
		}
	}
}

// takeLine takes a line that ends at LF out of the buffer.
func (c *conn) takeLine(p []byte) ([]byte, error) {
	c.in.discard(len(p))
	switch n := len(p) - 2; {
	case len(p) > maxLine:
		return nil, errLine
	case n < 0 || bytes.IndexByte(p, '\r') != n:
		return nil, errNewline
	default:
		return p[:n], nil
	}
}

// fillCommand reads more while nothing is in work: Shutdown may wake it.
func (c *conn) fillCommand(until time.Time) error {
	c.in.narrow()
	if err := c.flush(); err != nil {
		return err
	}
	if !c.wait(until) {
		return errShutdown
	}
	err := c.in.fill(c.rw)
	if c.work() && err != nil {
		return errShutdown
	}
	return err
}

// wait begins to wait for the client until then, unless the server is shutting
// down.
func (c *conn) wait(until time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.waiting = true
	_ = c.raw.SetReadDeadline(until) // the error is that of a closed connection: reading says it
	return true
}

// work ends the waiting, and says whether the server is shutting down.
func (c *conn) work() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	return c.closing
}

// wake tells the connection, from another goroutine, that the server is
// shutting down.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if c.waiting {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // as above
	}
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// early says whether the client sent something that it could not know to be
// welcome: before the banner, or behind a command whose reply it has to wait
// for. Under TLS what was sent may lie on the socket, within crypto/tls, or in
// our buffer.
func (c *conn) early() bool {
	if len(c.in.unread()) > 0 || c.peek != nil && pending(c.peek) {
		return true
	}
	if c.rw == c.raw {
		return false
	}
	// A deadline that is over lets crypto/tls hand out what it has, and not
	// read more. The error, always a time-out, doesn't stick to it.
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	_ = c.in.fill(c.rw)
	return len(c.in.unread()) > 0
}

// errWrite is a client that doesn't take our replies.
var errWrite = errors.New("write reply")

// say queues a reply. Replies to pipelined commands leave together (RFC 2920).
func (c *conn) say(r mail.Reply) {
	c.out = appendReply(c.out, r)
}

// flush sends what was said.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(writeTime)) // as in wait
	_, err := c.rw.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > 1024 {
		c.out = nil
	}
	if err != nil {
		return errors.Join(errWrite, err)
	}
	return nil
}

// quitOver says r as the last thing, because of what the client did.
func (c *conn) quitOver(r mail.Reply, reason string) {
	c.say(r)
	c.end = linger
	c.server.refused(c.client.Addr, r, reason)
}

// abortOver says nothing more, because of what the client did.
func (c *conn) abortOver(reason string) {
	c.out = nil
	c.end = abort
	c.server.refused(c.client.Addr, mail.Reply{}, reason)
}

// hangUp ends the connection as c.end says. Its user closes the socket.
func (c *conn) hangUp() {
	if c.end == abort || c.flush() != nil {
		return
	}
	if c.end == leave {
		_ = c.rw.Close()
		return
	}
	// To close with octets unread makes the system reset the connection, and
	// the client might lose the reply that was on its way.
	if t, ok := c.rw.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if c.wait(time.Now().Add(lingerTime)) {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.raw, lingerOctets))
	}
}
