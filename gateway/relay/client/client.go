// Package client is the client's side of one session with an SMTP (RFC 5321) or
// LMTP (RFC 2033) server: the greeting, the extensions, STARTTLS (RFC 3207),
// commands and their replies, and the content with its final dot.
//
// What is to be said, and what an answer means for a message, is left to who
// uses it.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"postern/gateway/mail"
)

// Capabilities are what a server offered at EHLO.
type Capabilities struct {
	Size        int64 // octets a message may have at most (RFC 1870); 0: no limit was said
	SizeOffered bool
	EightBit    bool // RFC 6152
	SMTPUTF8    bool // RFC 6531
	Pipelining  bool // RFC 2920
	StartTLS    bool // offered before the handshake
}

// Timeouts bound the phases of a session. The end of a caller's context comes
// first where it is earlier.
type Timeouts struct {
	Connect  time.Duration // to one address
	Greeting time.Duration // the banner, and a TLS handshake
	Command  time.Duration // EHLO, STARTTLS, MAIL, RCPT, RSET
	Data     time.Duration // the answer to DATA
	Block    time.Duration // until the server has taken another 64 KiB of content
}

// Options say how a session is opened.
type Options struct {
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Hostname string // of EHLO
	LMTP     bool
	// TLS is for STARTTLS; nil is never. It is taken where it is offered, and
	// only where it is TLSRequired it is a fault that it is not.
	TLS         *tls.Config
	TLSRequired bool
	Timeouts    Timeouts
}

// Refusal is the error of a session that the server does not want.
type Refusal struct {
	Command string
	Reply   mail.Reply
}

func (r *Refusal) Error() string { return r.Command + " was refused: " + r.Reply.String() }

// Why a session can't be had although nobody refused it.
var (
	ErrHandshake = errors.New("tls handshake") // STARTTLS came to nothing after both sides had agreed to it
	errNoTLS     = errors.New("STARTTLS is not offered, and the policy demands it")
	errInjection = errors.New("replies in clear behind the answer to STARTTLS")
)

// Dial opens a session with the server at an address.
func Dial(ctx context.Context, network, address string, o Options) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, o.Timeouts.Connect)
	defer cancel()
	raw, err := o.Dial(dialing, network, address)
	if err != nil {
		return nil, err
	}
	c := newConn(raw, o.Timeouts)
	if err := c.greet(ctx, o); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// greet reads the banner and says who we are, once more under TLS.
func (c *Conn) greet(ctx context.Context, o Options) error {
	defer c.Bind(ctx)()
	rep, err := c.receive(ctx, c.timeouts.Greeting)
	if err != nil {
		return err
	}
	if !rep.Positive() {
		return &Refusal{Command: "the connection", Reply: rep.Mail()}
	}
	if err := c.hello(ctx, o); err != nil || o.TLS == nil {
		return err
	}
	return c.secure(ctx, o)
}

// hello asks for the extensions. Only EHLO has a predecessor to fall back to.
func (c *Conn) hello(ctx context.Context, o Options) error {
	verb := "EHLO"
	if o.LMTP {
		verb = "LHLO"
	}
	rep, err := c.Ask(ctx, verb, " ", o.Hostname)
	if err == nil && rep.Permanent() && !o.LMTP {
		verb = "HELO"
		rep, err = c.Ask(ctx, verb, " ", o.Hostname)
	}
	switch {
	case err != nil:
		return err
	case !rep.Positive():
		return &Refusal{Command: verb, Reply: rep.Mail()}
	}
	c.Capabilities = Capabilities{}
	if verb != "HELO" {
		c.Capabilities = parseCapabilities(rep)
	}
	return nil
}

// parseCapabilities reads what stands behind the first line of EHLO's answer
// (RFC 5321, section 4.1.1.1).
func parseCapabilities(rep Reply) (caps Capabilities) {
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

// secure changes over to TLS.
func (c *Conn) secure(ctx context.Context, o Options) error {
	if !c.Capabilities.StartTLS {
		if o.TLSRequired {
			return errNoTLS
		}
		return nil
	}
	rep, err := c.Ask(ctx, "STARTTLS")
	switch {
	case err != nil:
		return err
	case !rep.Positive() && (o.TLSRequired || rep.Code == 421):
		return &Refusal{Command: "STARTTLS", Reply: rep.Mail()}
	case !rep.Positive():
		return nil
	case c.in.pending():
		// Whoever put these in clear behind the answer wants them to be read as
		// the first answers under TLS.
		return errInjection
	}
	if err := c.handshake(ctx, o.TLS); err != nil {
		return err
	}
	err = c.hello(ctx, o) // what was said in clear no longer counts
	c.Capabilities.StartTLS = true
	return err
}

func (c *Conn) handshake(ctx context.Context, config *tls.Config) error {
	t := tls.Client(c.raw, config)
	err := c.until(ctx, c.timeouts.Greeting)
	if err == nil {
		err = t.Handshake()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHandshake, c.fault("handshake", err))
	}
	c.net = t
	return nil
}
