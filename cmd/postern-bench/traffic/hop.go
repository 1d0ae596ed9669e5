package traffic

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"time"
)

// hop is the least that a gateway can be: a goroutine for each connection, the
// content in memory, a pool of connections to the server inside; no filter, no
// disk, no limits. What it costs is the floor for anything written in Go. It is
// not a mail server: it believes both sides.
type hop struct {
	inside string
	pool   chan *insideConn
}

// ServeHop is the hop in a process of its own, so that its costs can be told from
// those of the sender and the sink. It serves until it is stopped.
func ServeHop(ctx context.Context, listen, inside string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	err = (&hop{inside: inside, pool: make(chan *insideConn, 64)}).serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (h *hop) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go h.session(c)
	}
}

// session answers commands in place and hands each content on.
func (h *hop) session(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 32<<10)
	out := []byte("220 hop.example ESMTP\r\n")
	var envelope, content []byte
	for {
		if r.Buffered() == 0 && len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		_ = c.SetReadDeadline(time.Now().Add(silence)) // fails only on a closed connection
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch verb(line) {
		case "MAIL", "RCPT":
			envelope = append(envelope, line...)
			out = append(out, "250 2.0.0 ok\r\n"...)
		case "DATA":
			if _, err := c.Write(append(out, answer(line)...)); err != nil {
				return
			}
			if content, err = readWhole(r, content[:0]); err != nil {
				return
			}
			out = append(out[:0], h.pass(append(envelope, "DATA\r\n"...), content)...)
			envelope = envelope[:0]
		default:
			out = append(out, answer(line)...)
			if verb(line) == "QUIT" {
				_, _ = c.Write(out) // the client may be gone by now
				return
			}
		}
	}
}

// readWhole reads a content with its final dot, as it came.
func readWhole(r *bufio.Reader, content []byte) ([]byte, error) {
	end := []byte("\r\n.\r\n")
	for {
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		b, _ := r.Peek(r.Buffered())
		from := max(0, len(content)-len(end)+1)
		content = append(content, b...)
		at := bytes.Index(content[from:], end)
		extra := 0
		if at >= 0 {
			extra = len(content) - (from + at + len(end))
		}
		if _, err := r.Discard(len(b) - extra); err != nil || at >= 0 {
			return content[:len(content)-extra], err
		}
	}
}

// pass hands one message on and returns the reply for the client.
func (h *hop) pass(envelope, content []byte) string {
	c, err := h.take()
	if err != nil {
		return "451 4.4.1 " + err.Error() + "\r\n"
	}
	if err := c.send(envelope, content); err != nil {
		_ = c.conn.Close() // it is of no use any more
		return "451 4.4.2 " + err.Error() + "\r\n"
	}
	select {
	case h.pool <- c:
	default:
		_ = c.conn.Close() // enough of them wait
	}
	return "250 2.0.0 passed on\r\n"
}

// insideConn is a connection to the server inside.
type insideConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func (h *hop) take() (*insideConn, error) {
	select {
	case c := <-h.pool:
		return c, nil
	default:
	}
	conn, err := net.Dial("tcp", h.inside)
	if err != nil {
		return nil, err
	}
	c := &insideConn{conn, bufio.NewReaderSize(conn, 4<<10)}
	if err := c.expect('2'); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte("EHLO hop.example\r\n")); err != nil {
		return nil, err
	}
	return c, c.expect('2')
}

// send is a transaction; one reply is awaited for each line of the envelope.
func (c *insideConn) send(envelope, content []byte) error {
	if _, err := c.conn.Write(envelope); err != nil {
		return err
	}
	for range bytes.Count(envelope, []byte("\n")) - 1 {
		if err := c.expect('2'); err != nil {
			return err
		}
	}
	if err := c.expect('3'); err != nil {
		return err
	}
	if _, err := c.conn.Write(content); err != nil {
		return err
	}
	return c.expect('2')
}

// expect reads a reply whose code begins with class.
func (c *insideConn) expect(class byte) error {
	_ = c.conn.SetReadDeadline(time.Now().Add(silence)) // fails only on a closed connection
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] != class {
			return fmt.Errorf("the inside said %q", line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}
