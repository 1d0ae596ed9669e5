package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"time"
)

// patience is how long a sender's session may last: longer than the gateway gives
// its engines.
const patience = 90 * time.Second

// Send brings a sample to the server at address in a session of its own, under
// TLS, and returns the reply that decided: the refusal, or the one to the final
// dot. An error is that there was no such reply.
//
// It is no client of a library's, since those repair what the sample of
// smuggling must hold.
func Send(ctx context.Context, address string, s Sample, content []byte) (reply string, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	c, err := greet(conn, s.HELO)
	if err != nil {
		return "", err
	}
	for _, command := range []string{"MAIL FROM:<" + s.From + ">", "RCPT TO:<" + s.To + ">", "DATA"} {
		if reply, err = ask(c, command); err != nil || reply[0] > '3' {
			return reply, err
		}
	}
	if reply, err = ask(c, string(stuffed(content))+"."); err == nil {
		_, _ = c.Cmd("QUIT")
	}
	return reply, err
}

// greet says who we are, and changes over to TLS. The gateway's certificate is
// its own, and senders' servers don't verify.
func greet(conn net.Conn, helo string) (*textproto.Conn, error) {
	c := textproto.NewConn(conn)
	if _, _, err := c.ReadResponse(220); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		command string
		want    byte
	}{{"EHLO " + helo, '2'}, {"STARTTLS", '2'}} {
		reply, err := ask(c, step.command)
		if err != nil {
			return nil, err
		}
		if reply[0] != step.want {
			return nil, fmt.Errorf("%s: %s", step.command, reply)
		}
	}
	c = textproto.NewConn(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	_, err := ask(c, "EHLO "+helo)
	return c, err
}

// ask sends one line, or a content, and returns the reply to it.
func ask(c *textproto.Conn, text string) (string, error) {
	if err := c.PrintfLine("%s", text); err != nil {
		return "", err
	}
	code, message, err := c.ReadResponse(0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %s", code, message), nil
}

// stuffed doubles the dot at the beginning of a line (RFC 5321, section 4.5.2),
// and only there: behind a bare LF no line begins.
func stuffed(content []byte) []byte {
	if bytes.HasPrefix(content, []byte(".")) {
		content = append([]byte("."), content...)
	}
	return bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
}
