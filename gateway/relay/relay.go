// Package relay hands a message to a next hop: to the first server of a route
// that takes it, over SMTP (RFC 5321) or LMTP (RFC 2033), with PIPELINING
// (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531) and
// STARTTLS (RFC 3207) where they are offered, over connections that are kept
// and used again. It says for each recipient what became of it, in the words of
// the server that answered.
//
// What is done about an outcome is not its concern: it keeps no mail, retries
// nothing later, and knows neither the spool nor any verdict.
package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/gateway/mail"
	"postern/gateway/relay/client"
)

// TLSPolicy says how a route's connections are protected. A unix socket never
// leaves the machine: no policy is asked of it.
type TLSPolicy int

// The policies.
const (
	TLSMay     TLSPolicy = iota // STARTTLS where offered, never verified; in clear on a new connection where the handshake fails (RFC 7435)
	TLSNone                     // always in clear
	TLSEncrypt                  // never in clear, but whoever answers is taken for the next hop
	TLSVerify                   // never in clear, and the certificate has to name the host
)

var policyNames = [...]string{"may", "none", "encrypt", "verify"}

// String is the policy's name in the configuration.
func (p TLSPolicy) String() string {
	if p < 0 || int(p) >= len(policyNames) {
		return fmt.Sprintf("tls(%d)", int(p))
	}
	return policyNames[p]
}

// MarshalText writes the policy's name.
func (p TLSPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a policy's name; "" is TLSMay.
func (p *TLSPolicy) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = TLSMay
		return nil
	}
	for i, name := range policyNames {
		if string(b) == name {
			*p = TLSPolicy(i)
			return nil
		}
	}
	return fmt.Errorf("unknown tls policy %q: may, none, encrypt or verify", b)
}

// Route says where mail for one domain goes.
type Route struct {
	Domain string    // the recipients' domain, for "mx:"
	Hosts  []string  // in the order in which they are tried; ParseHost says what may stand here
	TLS    TLSPolicy // TLSMay by default
}

// Resolver answers what the names of next hops mean. *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Config is what a Relay needs to know. The zero value serves.
type Config struct {
	Hostname    string         // of EHLO; "localhost" by default
	Connections int            // at once to one next hop; 10 by default
	Resolver    Resolver       // net.DefaultResolver by default
	RootCAs     *x509.CertPool // for TLSVerify; the system's by default
	IdleTimeout time.Duration  // how long an unused connection is kept; 30 s by default
	Timeouts    Timeouts
	Log         *slog.Logger // what no Outcome can tell; nothing by default

	// IsSelf tells which addresses are our own, so that "mx:" never leads back
	// to us. Where it is nil, only Hostname is us.
	IsSelf func(netip.AddrPort) bool
	// Dial opens connections; that of a net.Dialer by default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts bound the phases of a session. They are shorter than RFC 5321,
// section 4.5.3.2 asks for: in most cases a sender waits for our own reply
// meanwhile, and next hops are near. By default Connect is 10 s, Greeting 30 s,
// Command and Data 60 s, Block 3 min.
type Timeouts = client.Timeouts

// Capabilities are what a next hop offered at its last EHLO.
type Capabilities = client.Capabilities

const (
	defaultConnections = 10
	defaultIdle        = 30 * time.Second
	defaultLate        = 10 * time.Minute // RFC 5321, section 4.5.3.2.6
	maxUses            = 100              // messages over one connection
)

// ErrClosed is the error of outcomes once the Relay was closed.
var ErrClosed = errors.New("relay is closed")

// Job is one message for recipients that share a route.
type Job struct {
	Route       Route
	ReversePath mail.Address
	Recipients  []mail.Address
	// SMTPUTF8 sends the parameter where it is offered. An address that is not
	// ASCII asks for it by itself, and is refused where it is not offered.
	SMTPUTF8 bool
	// EightBit says that the client declared BODY=8BITMIME: it is passed on
	// where offered. Otherwise the content goes as it is: it is never converted.
	EightBit bool
	Content  mail.Content
	// Answer is how long the answer to the final dot is waited for before the
	// outcome is Waiting. 0 is as long as Late; less is not at all.
	Answer time.Duration
	// AnswerBy, where it is set, ends that wait at the latest: somebody waits for
	// our own reply, however long it took to come to the dot.
	AnswerBy time.Time
	// Late is how long in all that connection is waited on then; 10 minutes
	// by default.
	Late time.Duration
}

// Status is what became of one recipient.
type Status int

// The statuses. The zero Status is none of them.
const (
	Taken   Status = iota + 1 // the next hop is responsible now (2yz)
	Later                     // it asked to try again (4yz)
	Down                      // it can't be reached, or wants nothing from us at all
	Refused                   // it will never take this (5yz)
	Waiting                   // it has the whole content and has not answered yet
)

var statusNames = [...]string{"none", "taken", "later", "down", "refused", "waiting"}

// String is the status in one word, for the log.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return fmt.Sprintf("status(%d)", int(s))
	}
	return statusNames[s]
}

// Outcome is what became of one recipient.
type Outcome struct {
	Recipient mail.Address
	Status    Status
	Reply     mail.Reply // the next hop's own words, printable and bounded; made by us where it said none, zero for Waiting
	NextHop   string     // host:port that decided; "" where there was none
	Time      time.Time
	TooBig    bool  // Refused because of the message's size
	Err       error // for the log: why, where Reply does not say it
}

// Relay hands messages to next hops. It may be used by many goroutines.
type Relay struct {
	mu       sync.Mutex
	config   Config
	version  int // of config: a connection of an older one is not used again
	closed   bool
	nextHops map[key]*nextHop
	silent   map[*conn]struct{} // connections whose answer is waited for in the background
	waits    sync.WaitGroup
}

// New makes a Relay. It opens no connection before there is something to do.
func New(c Config) *Relay {
	return &Relay{config: c.withDefaults(), nextHops: map[key]*nextHop{}, silent: map[*conn]struct{}{}}
}

// Configure changes the configuration. Transactions under way end as they began.
func (r *Relay) Configure(c Config) {
	r.mu.Lock()
	r.config = c.withDefaults()
	r.version++
	idle := r.takeIdle()
	r.mu.Unlock()
	quitAll(idle)
}

// Close closes all connections that no transaction is using; those in use close
// when it ends. What was waited for in the background ends as Down before Close
// returns.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	idle := r.takeIdle()
	for _, h := range r.nextHops {
		h.refuseWaiters(ErrClosed)
	}
	for c := range r.silent {
		c.Sever()
	}
	r.mu.Unlock()
	quitAll(idle)
	r.waits.Wait()
	return nil
}

// settings is the configuration that holds now, and its version.
func (r *Relay) settings() (Config, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config, r.version
}

func (c Config) withDefaults() Config {
	c.Hostname = orDefault(c.Hostname, "localhost")
	c.Connections = orDefault(c.Connections, defaultConnections)
	c.IdleTimeout = orDefault(c.IdleTimeout, defaultIdle)
	c.Timeouts = Timeouts{
		Connect:  orDefault(c.Timeouts.Connect, 10*time.Second),
		Greeting: orDefault(c.Timeouts.Greeting, 30*time.Second),
		Command:  orDefault(c.Timeouts.Command, time.Minute),
		Data:     orDefault(c.Timeouts.Data, time.Minute),
		Block:    orDefault(c.Timeouts.Block, 3*time.Minute),
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
