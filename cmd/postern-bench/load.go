package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// users is how many recipients the mail is for, in turn.
const users = 100

// load says how mail is sent.
type load struct {
	to          string // the server under test
	concurrency int    // sessions at once
	reuse       int    // messages in one connection
	mail        []message
}

// send sends messages until each entry of the ledger was tried once.
func (w load) send(l *ledger) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range w.concurrency {
		group.Go(func() {
			c := client{to: w.to}
			defer c.quit()
			for {
				index := int(next.Add(1)) - 1
				if index >= len(l.entries) {
					return
				}
				w.sendOne(&c, l, index)
			}
		})
	}
	group.Wait()
}

// sendOne sends one message, over the client's connection or a new one.
func (w load) sendOne(c *client, l *ledger, index int) {
	e := &l.entries[index]
	e.sent = l.now()
	reply, err := c.send(w.mail[index%len(w.mail)], token(l.round, index), index%users)
	e.replied = l.now()
	e.taken, e.reply = err == nil && reply.code == 250, reply.text
	if err != nil {
		e.reply = err.Error()
		c.drop()
	} else if c.sent >= w.reuse {
		c.quit()
	}
}

// reply is a server's.
type reply struct {
	code int
	text string // its last line
}

// client is a sending MTA in one connection.
type client struct {
	to   string
	from net.Addr // nil: whatever the system takes
	conn net.Conn
	r    *bufio.Reader
	sent int // messages in this connection
}

// open connects and greets.
func (c *client) open() error {
	conn, err := (&net.Dialer{Timeout: silence, LocalAddr: c.from}).Dial("tcp", c.to)
	if err != nil {
		return err
	}
	if c.r == nil {
		c.r = bufio.NewReaderSize(nil, 4<<10)
	}
	c.r.Reset(conn)
	c.conn, c.sent = conn, 0
	if err := c.expect(220); err != nil {
		return err
	}
	return c.command(250, "EHLO client.sender.example\r\n")
}

// send is a transaction: MAIL, RCPT and DATA in one write, as RFC 2920 allows,
// then the content.
func (c *client) send(m message, token []byte, user int) (reply, error) {
	if c.conn == nil {
		if err := c.open(); err != nil {
			return reply{}, err
		}
	}
	c.sent++
	body := ""
	if m.eightBit {
		body = " BODY=8BITMIME"
	}
	size := m.size + len(token)
	if err := c.write(net.Buffers{fmt.Appendf(nil, "MAIL FROM:<ann@sender.example> SIZE=%d%s\r\nRCPT TO:<user%d@%s>\r\nDATA\r\n", size, body, user, domain)}); err != nil {
		return reply{}, err
	}
	for _, want := range []int{250, 250, 354} {
		if answer, err := c.read(); err != nil || answer.code != want {
			c.drop() // what the server would take for content is not known
			return answer, err
		}
	}
	if err := c.write(net.Buffers{token, m.stuffed, []byte(".\r\n")}); err != nil {
		// A server that refuses early says why before it closes.
		answer, readErr := c.read()
		return answer, errors.Join(err, readErr)
	}
	return c.read()
}

func (c *client) write(b net.Buffers) error {
	_ = c.conn.SetDeadline(time.Now().Add(silence)) // fails only on a closed connection
	_, err := b.WriteTo(c.conn)
	return err
}

func (c *client) command(want int, line string) error {
	if err := c.write(net.Buffers{[]byte(line)}); err != nil {
		return err
	}
	return c.expect(want)
}

func (c *client) expect(want int) error {
	answer, err := c.read()
	if err == nil && answer.code != want {
		err = fmt.Errorf("the server said %q", answer.text)
	}
	return err
}

// read reads a reply of one line or more (RFC 5321, section 4.2.1).
func (c *client) read() (reply, error) {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return reply{}, err
		}
		if len(line) < 4 {
			return reply{}, fmt.Errorf("malformed reply %q", line)
		}
		if line[3] == '-' {
			continue
		}
		code, err := strconv.Atoi(string(line[:3]))
		return reply{code, strings.TrimRight(string(line), "\r\n")}, err
	}
}

// quit ends the connection as it should be.
func (c *client) quit() {
	if c.conn != nil {
		_ = c.command(221, "QUIT\r\n") // the mail was answered: nothing depends on this
	}
	c.drop()
}

func (c *client) drop() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing depends on it
		c.conn = nil
	}
}
