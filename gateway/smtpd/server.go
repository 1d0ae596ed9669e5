package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern/gateway/mail"
)

// Why a connection was refused, as Server.Refused hears it.
const (
	ReasonConnections = "too many connections"
	ReasonPerClient   = "too many connections of this client"
	ReasonRate        = "too many connections a minute of this client"
	ReasonEarly       = "client talked before its turn"
	ReasonHTTP        = "HTTP"
	ReasonTLS         = "TLS on the plain port"
	ReasonHandshake   = "TLS handshake"
	ReasonNewline     = "bare CR or LF in a command"
	ReasonLine        = "command line too long"
	ReasonChunking    = "BDAT"
	ReasonBadCommands = "too many bad commands"
	ReasonNoops       = "too many commands without a message"
	ReasonRefusals    = "too many refused recipients"
)

// goodbyes is how many clients are told at once that there is no room; others
// are hung up on without a word.
const goodbyes = 64

// Server serves SMTP on any number of listeners. Use New.
type Server struct {
	// NewSession makes the session of a connection that was let in.
	NewSession func(mail.Client) Session
	// Refused hears of each connection that the server ends by itself because
	// of what the client is or does; reason is one of the Reason constants, and
	// the reply is zero where the client was told nothing. It may be nil, must
	// not block, and is called by many goroutines.
	Refused func(client netip.AddrPort, reply mail.Reply, reason string)
	// Log may be nil.
	Log *slog.Logger

	config   atomic.Pointer[Config]
	goodbyes chan struct{}
	ctx      context.Context // of all sessions
	cut      context.CancelFunc

	mu        sync.Mutex
	gate      gate
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	closing   chan struct{} // closed by Shutdown
	over      chan struct{} // closed when the last connection ended after Shutdown; nil before Shutdown
}

// New makes a server. Its fields may be set until Serve is called.
func New(c Config, newSession func(mail.Client) Session) *Server {
	s := &Server{
		NewSession: newSession,
		goodbyes:   make(chan struct{}, goodbyes),
		listeners:  map[net.Listener]struct{}{},
		conns:      map[*conn]struct{}{},
		closing:    make(chan struct{}),
	}
	s.ctx, s.cut = context.WithCancel(context.Background())
	s.Configure(c)
	return s
}

// Configure replaces the configuration. New connections and the next command of
// each open one see the new one; no connection is dropped. The limits on
// connections hold for new ones.
func (s *Server) Configure(c Config) {
	c.Limits = c.Limits.withDefaults()
	s.config.Store(&c)
}

// Connections is the number of open connections, those included that are about
// to be closed.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Serve takes connections from l until Shutdown is called, and closes l. An
// error of Accept other than a closed listener never ends it: what such errors
// speak of (no file descriptors, a client already gone) passes.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.listen(l) {
		return ErrServerClosed
	}
	defer s.unlisten(l)
	var pause time.Duration
	for {
		raw, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(raw)
			continue
		case s.isClosing():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log().Warn("accept", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.closing:
		}
	}
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) unlisten(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// admit starts a session, or turns the client away. It never blocks.
func (s *Server) admit(raw net.Conn) {
	c := newConn(s, raw)
	s.mu.Lock()
	if s.isClosing() {
		s.mu.Unlock()
		_ = raw.Close()
		return
	}
	reason := s.gate.enter(c.from, s.config.Load().Limits, time.Now())
	if reason == "" {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if reason != "" {
		s.turnAway(raw, c.client.Addr, reason)
		return
	}
	go c.serve()
}

// turnAway says 421 to a client for whom there is no room, unless so many are
// being told already that telling would itself be the flood's work.
func (s *Server) turnAway(raw net.Conn, client netip.AddrPort, reason string) {
	reply := replyTooMany
	s.refused(client, reply, reason)
	select {
	case s.goodbyes <- struct{}{}:
	default:
		_ = raw.Close()
		return
	}
	go func() {
		defer func() { <-s.goodbyes }()
		defer raw.Close()
		_ = raw.SetWriteDeadline(time.Now().Add(goodbyeTime))
		_, _ = raw.Write(appendReply(nil, reply))
	}()
}

func (s *Server) refused(client netip.AddrPort, reply mail.Reply, reason string) {
	s.log().Debug("refused", "client", client, "reason", reason, "reply", reply.String())
	if s.Refused != nil {
		s.Refused(client, reply, reason)
	}
}

// drop forgets a connection that is over.
func (s *Server) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.gate.leave(c.from)
	if s.over != nil && len(s.conns) == 0 {
		close(s.over)
		s.over = nil
	}
}

// Shutdown stops accepting. Clients that we wait for are told 421 at once;
// those within DATA, or waiting for its reply, first get that reply. When ctx
// ends before all are gone, the rest is cut off, the sessions' context is
// cancelled, and Shutdown returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	over := s.beginShutdown()
	defer s.cut()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
	}
	s.cut()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	// A moment, so that sessions which heed their context are gone, and with
	// them what they hold, when the caller goes on.
	select {
	case <-over:
	case <-time.After(time.Second):
	}
	return fmt.Errorf("shut down: %w", ctx.Err())
}

// beginShutdown closes the listeners and wakes who waits for a command. The
// channel is closed when no connection is left.
func (s *Server) beginShutdown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosing() {
		close(s.closing)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	over := make(chan struct{})
	switch {
	case len(s.conns) == 0:
		close(over)
		return over
	case s.over != nil: // a second Shutdown waits with the first
		return s.over
	}
	s.over = over
	for c := range s.conns {
		c.wake()
	}
	return over
}
