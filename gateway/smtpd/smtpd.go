// Package smtpd is the SMTP server at the border: it owns the wire up to the
// end of the content, and asks a Session what to answer.
//
// It follows RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2034 (enhanced status
// codes), RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 6152 (8BITMIME) and
// RFC 6531 (SMTPUTF8). It is stricter than they ask for where a lenient server
// is how mail gets smuggled: a command ends at CRLF and at nothing else, the
// content ends at CRLF.CRLF and at nothing else, and after whatever error
// within the content the connection is closed, so that no octet of a message
// is ever read as a command.
//
// AUTH, CHUNKING and DSN are not offered. Which recipients exist, how many one
// transaction may have, what is spam, and every other question about mail
// rather than about the wire, is left to the Session.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"time"

	"postern/gateway/mail"
)

// Config is what an administrator can choose. It may be replaced while the
// server runs: see Server.Configure.
type Config struct {
	Hostname string      // stands in the banner and in the reply to EHLO
	TLS      *tls.Config // nil: STARTTLS is not offered
	Limits   Limits
}

// Limits bound what clients can take from us. A zero field has the default that
// its comment names.
type Limits struct {
	MessageSize int64 // octets of content as RFC 1870 counts them; 50,000,000
	Connections int   // at once; 1000
	PerClient   int   // at once, of one IPv4 address or IPv6 /64; 50
	Rate        int   // connections a minute of one IPv4 address or IPv6 /64; no limit

	Command     time.Duration // until a command is there as a whole; 5 minutes
	Data        time.Duration // silence within the content; 3 minutes
	Transaction time.Duration // from 354 to the end of the content; 15 minutes

	Normalise     bool           // make bare newlines CRLF instead of refusing the message
	NormaliseFrom []netip.Prefix // clients for whom that is done in any case

	Refusals    int // recipients refused for good, in one session; 20
	BadCommands int // commands that we could not carry out, in one session; 10
	Noops       int // commands that lead to nothing, between two messages; 100
}

// withDefaults puts the defaults in the place of zeros.
func (l Limits) withDefaults() Limits {
	l.MessageSize = or(l.MessageSize, 50e6)
	l.Connections = or(l.Connections, 1000)
	l.PerClient = or(l.PerClient, 50)
	l.Command = or(l.Command, 5*time.Minute)
	l.Data = or(l.Data, 3*time.Minute)
	l.Transaction = or(l.Transaction, 15*time.Minute)
	l.Refusals = or(l.Refusals, 20)
	l.BadCommands = or(l.BadCommands, 10)
	l.Noops = or(l.Noops, 100)
	return l
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// normalises says whether bare newlines of this client are repaired.
func (l Limits) normalises(client netip.Addr) bool {
	if l.Normalise {
		return true
	}
	client = client.Unmap()
	for _, p := range l.NormaliseFrom {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// Limits that RFC 5321, section 4.5.3.1 or prudence sets, not the administrator.
const (
	maxLine  = 2048 // octets of a command line, CRLF included: four times what section 4.5.3.1.4 asks for
	maxReply = 512  // octets of a reply line, CRLF included: section 4.5.3.1.5
	maxHello = 255  // octets of the argument of EHLO and HELO: section 4.5.3.1.2

	handshakeTime = 30 * time.Second // of STARTTLS
	writeTime     = 30 * time.Second // in which a client has to take our replies
	goodbyeTime   = 2 * time.Second  // in which a client that we turn away has to take our reply
	violationTime = 10 * time.Second // in which the end of a refused content has to come
	lingerTime    = 2 * time.Second  // in which we listen to a client that we hung up on
	lingerOctets  = 1 << 20
)

// Session is what the server asks during one connection. Its methods are called
// one after another, from one goroutine. It is made before the banner is sent,
// and Close is the last call.
//
// A reply whose code is 421 makes the server close the connection once the
// reply is sent. A reply with a code outside 200 to 599 is a fault of the
// session and becomes 451. The context is cancelled when the server is stopped
// without further patience.
type Session interface {
	// Hello hears EHLO or HELO, also again, and anew after STARTTLS. The zero
	// Reply lets the server answer as usual, as does a positive one; any other
	// is sent, and the client is still to introduce itself.
	Hello(ctx context.Context, c mail.Client) mail.Reply

	// Mail hears MAIL. A positive reply opens the transaction.
	Mail(ctx context.Context, m MailCommand) mail.Reply

	// Rcpt hears RCPT within a transaction. A positive reply means that the
	// recipient was accepted; without one there is no DATA.
	Rcpt(ctx context.Context, r RcptCommand) mail.Reply

	// Data reads the content and says what became of the message. The content
	// is dot-unstuffed, has CRLF at the end of each line, and implements
	// io.WriterTo, which is the fast way. It ends with io.EOF only where the
	// client ended it: otherwise with ErrBareNewline, with ErrTooBig, or with
	// an error that wraps ErrCut. Where it was cut the reply goes nowhere. A
	// positive reply without having read to io.EOF is a fault of the session
	// and is not sent. The content must not be read after Data returned.
	Data(ctx context.Context, content io.Reader) mail.Reply

	// Reset forgets the transaction: at RSET, EHLO, HELO and STARTTLS, and
	// after Data whatever came of it.
	Reset()

	// Close hears that the connection is over.
	Close()
}

// MailCommand is what MAIL said (RFC 5321, section 4.1.1.2).
type MailCommand struct {
	ReversePath mail.Address // the zero Address is the null reverse-path
	Size        int64        // octets that SIZE declares, not above the limit; 0 is unknown
	EightBit    bool         // BODY=8BITMIME
	SMTPUTF8    bool
}

// RcptCommand is what RCPT said (RFC 5321, section 4.1.1.3).
type RcptCommand struct {
	Path    string       // what stood between the brackets: printable, never empty, ASCII unless MAIL had SMTPUTF8
	Address mail.Address // zero where Err is set
	Err     error        // of mail.ParseAddress; what to answer may depend on the domain, so the session says it
}

// How the content ends where it does not end well. None of them is io.EOF or
// wraps it.
var (
	// ErrBareNewline is a CR or an LF that stands alone, or a NUL.
	ErrBareNewline = errors.New("bare CR, bare LF or NUL in the content")
	// ErrTooBig is the first octet beyond Limits.MessageSize.
	ErrTooBig = errors.New("content over the size limit")
	// ErrCut is a content whose end never came: the client left or was silent
	// for too long, or the server was stopped.
	ErrCut = errors.New("content cut short")
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("smtp server closed")
