package smtpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/gateway/mail"
)

// testTLS is a self-signed certificate for both ends.
var testTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mx.test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

var insecure = &tls.Config{InsecureSkipVerify: true}

// delivery is a message that a session took.
type delivery struct {
	client  mail.Client
	from    MailCommand
	to      []string
	content string
}

// backend is what the sessions of a test share.
type backend struct {
	mu        sync.Mutex
	delivered []delivery
	faults    []error // how contents ended that were not taken
	reasons   []string
	sessions  int
	resets    int

	// data replaces what a session does with a content; nil is to read it all.
	data func(ctx context.Context, content io.Reader) mail.Reply
}

func (b *backend) session(mail.Client) Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions++
	return &session{backend: b}
}

func (b *backend) refused(_ netip.AddrPort, _ mail.Reply, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reasons = append(b.reasons, reason)
}

func (b *backend) deliveries() []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]delivery(nil), b.delivered...)
}

func (b *backend) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.faults...)
}

func (b *backend) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions
}

// session answers by what stands in the local part.
type session struct {
	*backend
	now delivery
}

func (s *session) Hello(_ context.Context, c mail.Client) mail.Reply {
	s.now.client = c
	switch c.HELO {
	case "bad.test":
		return mail.Reply{Code: 550, Enhanced: "5.7.1", Text: "not you"}
	case "kick.test":
		return mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "go away"}
	}
	return mail.Reply{}
}

func (s *session) Mail(_ context.Context, m MailCommand) mail.Reply {
	if r := byLocal(m.ReversePath.Local); r.Code != 0 {
		return r
	}
	s.now.from, s.now.to = m, nil
	return mail.Reply{Code: 250, Enhanced: "2.1.0", Text: "sender ok"}
}

func (s *session) Rcpt(_ context.Context, r RcptCommand) mail.Reply {
	switch reply := byLocal(r.Address.Local); {
	case r.Err != nil:
		return mail.Reply{Code: 550, Enhanced: "5.1.3", Text: r.Err.Error()}
	case reply.Code != 0:
		return reply
	}
	s.now.to = append(s.now.to, r.Address.String())
	return mail.Reply{Code: 250, Enhanced: "2.1.5", Text: "recipient ok"}
}

func byLocal(local string) mail.Reply {
	switch local {
	case "unknown":
		return mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}
	case "later":
		return mail.Reply{Code: 450, Enhanced: "4.1.1", Text: "later"}
	case "kick":
		return mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "enough"}
	case "split":
		return mail.Reply{Code: 550, Enhanced: "5.7.1", Text: "one\r\n250 two\x00\xff"}
	case "nothing":
		return mail.Reply{Code: 17}
	case "panic":
		panic("as the test asked")
	}
	return mail.Reply{}
}

func (s *session) Data(ctx context.Context, content io.Reader) mail.Reply {
	if s.data != nil {
		return s.data(ctx, content)
	}
	b, err := io.ReadAll(content)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, ErrBareNewline):
		s.faults = append(s.faults, err)
		return mail.Reply{Code: 550, Enhanced: "5.6.0", Text: "id bare newline"}
	case errors.Is(err, ErrTooBig):
		s.faults = append(s.faults, err)
		return mail.Reply{Code: 552, Enhanced: "5.3.4", Text: "id too big"}
	case err != nil:
		s.faults = append(s.faults, err)
		return mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "never to be seen"}
	}
	s.now.content = string(b)
	s.delivered = append(s.delivered, s.now)
	return mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "id taken"}
}

func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets++
}

func (s *session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions--
}

// serve runs a server on loopback until the test ends.
func serve(t testing.TB, c Config, b *backend) (*Server, string) {
	t.Helper()
	c.Hostname = "mx.test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(c, b.session)
	s.Refused = b.refused
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
		if n := b.open(); n != 0 {
			t.Errorf("%d sessions were not closed", n)
		}
	})
	return s, l.Addr().String()
}

// client is a client without manners.
type client struct {
	t    testing.TB
	raw  net.Conn
	conn net.Conn
	r    *bufio.Reader
}

func newClient(t testing.TB, raw net.Conn) *client {
	return &client{t: t, raw: raw, conn: raw, r: bufio.NewReader(raw)}
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	return newClient(t, raw)
}

// greeted is a client that read the banner and, where secure, began TLS.
func greeted(t testing.TB, addr string, secure bool) *client {
	t.Helper()
	c := dial(t, addr)
	c.expect("220 mx.test ESMTP Postern")
	if secure {
		c.startTLS()
	}
	return c
}

func (c *client) startTLS() {
	c.t.Helper()
	c.ask("EHLO before.tls", "250")
	c.ask("STARTTLS", "220 2.0.0")
	c.handshake()
}

func (c *client) handshake() {
	c.t.Helper()
	t := tls.Client(c.raw, insecure)
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = t, bufio.NewReader(t)
}

// opened is a client to whom 354 was said.
func opened(t testing.TB, addr string, secure bool) *client {
	t.Helper()
	c := greeted(t, addr, secure)
	c.ask("EHLO client.test", "250")
	c.open()
	return c
}

func (c *client) open() {
	c.t.Helper()
	c.ask("MAIL FROM:<a@sender.test>", "250")
	c.ask("RCPT TO:<b@mx.test>", "250")
	c.ask("DATA", "354")
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("send %.80q: %v", s, err)
	}
}

// reply reads one reply: its last line, and the others before it.
func (c *client) reply() (last string, all []string, err error) {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", all, err
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) < 6 || len(line) > maxReply {
			return "", all, fmt.Errorf("malformed reply %q", line)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line[3] == ' ' {
			return line, all, nil
		}
		all = append(all, line)
	}
}

func (c *client) expect(prefix string) (all []string) {
	c.t.Helper()
	last, all, err := c.reply()
	if err != nil || !strings.HasPrefix(last, prefix) {
		c.t.Fatalf("got %q, %v; want %q", last, err, prefix)
	}
	return append(all, last)
}

func (c *client) ask(command, prefix string) []string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.expect(prefix)
}

// expectClose wants nothing but the end of the connection.
func (c *client) expectClose() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	var e net.Error
	if len(rest) > 0 || errors.As(err, &e) && e.Timeout() {
		c.t.Fatalf("connection is open: %q, %v", rest, err)
	}
}

// each runs a test in clear and under TLS.
func each(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Run("clear", func(t *testing.T) { test(t, false) })
	t.Run("tls", func(t *testing.T) { test(t, true) })
}

// eventually waits for what happens behind a connection's back.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
