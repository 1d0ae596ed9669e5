package traffic

import (
	"bufio"
	"crypto/tls"
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

// Load says how mail is sent.
type Load struct {
	To          string // the server under test
	Concurrency int    // sessions at once
	Reuse       int    // messages in one connection
	Mail        []Message
}

// Send sends messages until each entry of the ledger was tried once.
func (w Load) Send(l *Ledger) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range w.Concurrency {
		group.Go(func() {
			c := Client{To: w.To}
			defer c.Quit()
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
func (w Load) sendOne(c *Client, l *Ledger, index int) {
	e := &l.entries[index]
	e.sent = l.now()
	reply, err := c.send(w.Mail[index%len(w.Mail)], token(l.round, index), index%users)
	e.replied = l.now()
	e.taken, e.reply = err == nil && reply.code == 250, reply.text
	if err != nil {
		e.reply = err.Error()
		c.Drop()
	} else if c.sent >= w.Reuse {
		c.Quit()
	}
}

// reply is a server's.
type reply struct {
	code int
	text string // its last line
}

// Client is a sending MTA in one connection.
type Client struct {
	To   string   // the server
	From net.Addr // nil: whatever the system takes
	conn net.Conn
	r    *bufio.Reader
	sent int // messages in this connection
}

// Open connects and greets.
func (c *Client) Open() error {
	conn, err := (&net.Dialer{Timeout: silence, LocalAddr: c.From}).Dial("tcp", c.To)
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
func (c *Client) send(m Message, token []byte, user int) (reply, error) {
	if c.conn == nil {
		if err := c.Open(); err != nil {
			return reply{}, err
		}
	}
	c.sent++
	body := ""
	if m.EightBit {
		body = " BODY=8BITMIME"
	}
	size := m.Size + len(token)
	if err := c.write(net.Buffers{fmt.Appendf(nil, "MAIL FROM:<ann@sender.example> SIZE=%d%s\r\nRCPT TO:<user%d@%s>\r\nDATA\r\n", size, body, user, Domain)}); err != nil {
		return reply{}, err
	}
	for _, want := range []int{250, 250, 354} {
		if answer, err := c.read(); err != nil || answer.code != want {
			c.Drop() // what the server would take for content is not known
			return answer, err
		}
	}
	if err := c.write(net.Buffers{token, m.Stuffed, []byte(".\r\n")}); err != nil {
		// A server that refuses early says why before it closes.
		answer, readErr := c.read()
		return answer, errors.Join(err, readErr)
	}
	return c.read()
}

func (c *Client) write(b net.Buffers) error {
	_ = c.conn.SetDeadline(time.Now().Add(silence)) // fails only on a closed connection
	_, err := b.WriteTo(c.conn)
	return err
}

func (c *Client) command(want int, line string) error {
	if err := c.write(net.Buffers{[]byte(line)}); err != nil {
		return err
	}
	return c.expect(want)
}

func (c *Client) expect(want int) error {
	answer, err := c.read()
	if err == nil && answer.code != want {
		err = fmt.Errorf("the server said %q", answer.text)
	}
	return err
}

// read reads a reply of one line or more (RFC 5321, section 4.2.1).
func (c *Client) read() (reply, error) {
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

// Quit ends the connection as it should be.
func (c *Client) Quit() {
	if c.conn != nil {
		_ = c.command(221, "QUIT\r\n") // the mail was answered: nothing depends on this
	}
	c.Drop()
}

// Drop ends the connection as a broken network does.
func (c *Client) Drop() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing depends on it
		c.conn = nil
	}
}

// StartTLS goes on under TLS (RFC 3207), whatever the certificate.
func (c *Client) StartTLS() error {
	if err := c.command(220, "STARTTLS\r\n"); err != nil {
		return err
	}
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) // a server under test has made its own
	if err := secure.Handshake(); err != nil {
		return err
	}
	c.conn = secure
	c.r.Reset(secure)
	return c.command(250, "EHLO client.sender.example\r\n")
}
