//go:build integration

package main_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"
)

// client is a sender's end of a connection. A reply is its lines, joined by a
// newline.
type client struct {
	conn net.Conn
	r    *textproto.Reader
}

// connect opens a connection and reads the banner. from is the address to come
// from, "" any.
func connect(address, from string) (c *client, banner string, err error) {
	dialer := net.Dialer{Timeout: patience}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, "", err
	}
	c = newClient(conn)
	if banner, err = c.reply(); err != nil {
		_ = conn.Close()
		return nil, "", err
	}
	return c, banner, nil
}

func newClient(conn net.Conn) *client {
	_ = conn.SetDeadline(time.Now().Add(2 * patience)) // a fault shows when it is read from
	return &client{conn, textproto.NewReader(bufio.NewReader(conn))}
}

func (c *client) close() { _ = c.conn.Close() }

// reply reads one reply.
func (c *client) reply() (string, error) {
	var lines []string
	for {
		line, err := c.r.ReadLine()
		if err != nil {
			return strings.Join(lines, "\n"), err
		}
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

// cmd sends a line and reads the reply.
func (c *client) cmd(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	return c.reply()
}

// startTLS begins TLS, and introduces itself again.
func (c *client) startTLS() error {
	r, err := c.cmd("STARTTLS")
	if err != nil || !strings.HasPrefix(r, "220") {
		return fmt.Errorf("STARTTLS: %q %w", r, err)
	}
	secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		return err
	}
	*c = *newClient(secured)
	_, err = c.cmd("EHLO client.sender.example")
	return err
}

// envelope is one transaction's.
type envelope struct {
	from string
	to   []string
}

var toAnna = envelope{"alice@sender.example", []string{"anna@example.com"}}

// transaction sends one message, and returns the last reply: that to the final
// dot, or to the command that was refused.
func (c *client) transaction(e envelope, content []byte) (string, error) {
	commands := []string{"MAIL FROM:<" + e.from + ">"}
	for _, to := range e.to {
		commands = append(commands, "RCPT TO:<"+to+">")
	}
	for _, command := range append(commands, "DATA") {
		if r, err := c.cmd("%s", command); err != nil || r[0] > '3' {
			return r, err
		}
	}
	if _, err := c.conn.Write(stuffed(content)); err != nil {
		return "", err
	}
	return c.reply()
}

// stuffed is content as it goes over the wire (RFC 5321, section 4.5.2).
func stuffed(content []byte) []byte {
	content = bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(content, []byte(".")) {
		content = append([]byte("."), content...)
	}
	return append(bytes.Clone(content), ".\r\n"...)
}

// dial opens a session that has introduced itself.
func dial(address string) (*client, error) {
	c, banner, err := connect(address, "")
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(banner, "220 ") {
		c.close()
		return nil, fmt.Errorf("banner %q", banner)
	}
	if _, err := c.cmd("EHLO client.sender.example"); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// dial opens a session that has introduced itself; secure with STARTTLS.
func (w *world) dial(secure bool) *client {
	w.t.Helper()
	c, err := dial(w.mx)
	if err == nil && secure {
		err = c.startTLS()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.close)
	return c
}

// send sends one message on a connection of its own; the reply has to begin with
// want.
func (w *world) send(e envelope, content []byte, want string) string {
	w.t.Helper()
	c, err := dial(w.mx)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.close()
	r, err := c.transaction(e, content)
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.HasPrefix(r, want) {
		w.t.Fatalf("reply %q, want %q", r, want)
	}
	return r
}

// expect sends a line; the reply has to begin with want.
func (c *client) expect(t *testing.T, want, format string, args ...any) string {
	t.Helper()
	r, err := c.cmd(format, args...)
	if err != nil || !strings.HasPrefix(r, want) {
		t.Fatalf("%.100s: %q %v, want %q", fmt.Sprintf(format, args...), r, err, want)
	}
	return r
}

// rest reads until the server closes, and says whether it did within patience.
func (c *client) rest() (string, bool) {
	text, err := io.ReadAll(c.r.R)
	return string(text), err == nil || !isTimeout(err)
}

func isTimeout(err error) bool {
	n, is := err.(net.Error)
	return is && n.Timeout()
}

var idInReply = regexp.MustCompile(`\(([0-9a-z]{22})\)`)

// idOf is the id that a reply to the final dot carries.
func idOf(t *testing.T, reply string) string {
	t.Helper()
	found := idInReply.FindStringSubmatch(reply)
	if found == nil {
		t.Fatalf("no id in %q", reply)
	}
	return found[1]
}

// message is a small message with CRLF at the end of each line.
func message(subject, body string) []byte {
	text := "From: Alice <alice@sender.example>\nTo: Anna <anna@example.com>\nSubject: " + subject +
		"\nDate: Sat, 21 Nov 2026 10:00:00 +0100\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@sender.example>\n\n" + body
	return []byte(strings.ReplaceAll(text, "\n", "\r\n"))
}
