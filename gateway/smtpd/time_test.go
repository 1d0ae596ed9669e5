package smtpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener without a network, whose time synctest owns.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// plain is a client over a pipe: nothing can be sent there unless it is read.
type plain struct {
	net.Conn
	r *bufio.Reader
}

func newPlain(c net.Conn) *plain { return &plain{c, bufio.NewReaderSize(c, 256)} }

// say sends, and reads lines until one begins so.
func (p *plain) say(t testing.TB, s, prefix string) {
	t.Helper()
	if s != "" {
		if _, err := io.WriteString(p, s); err != nil {
			t.Fatal(err)
		}
	}
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v, want %q", s, err, prefix)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
	}
}

func (p *plain) open(t testing.TB) {
	t.Helper()
	p.say(t, "", "220")
	p.say(t, "EHLO x\r\n", "250 ")
	p.say(t, "MAIL FROM:<a@b.test>\r\n", "250 ")
	p.say(t, "RCPT TO:<a@b.test>\r\n", "250 ")
	p.say(t, "DATA\r\n", "354 ")
}

var testLimits = Limits{Command: 5 * time.Minute, Data: 3 * time.Minute, Transaction: 15 * time.Minute, MessageSize: 1000}

// timed runs a test in false time.
func timed(t *testing.T, test func(t *testing.T, p *plain, b *backend)) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		s := New(Config{Hostname: "mx.test", Limits: testLimits}, b.session)
		l := newPipes()
		done := make(chan error)
		go func() { done <- s.Serve(l) }()
		p := newPlain(l.dial())
		test(t, p, b)
		p.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != ErrServerClosed {
			t.Error(err)
		}
	})
}

// after wants what comes next from the server to come then, and not before.
func (p *plain) after(t *testing.T, d time.Duration, prefix string) {
	t.Helper()
	start := time.Now()
	p.say(t, "", prefix)
	if got := time.Since(start); got != d {
		t.Errorf("%s after %v, want %v", prefix, got, d)
	}
}

func TestCommandTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.say(t, "", "220")
		p.after(t, 5*time.Minute, "421 4.4.2")
		if _, err := p.r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
	})
}

// Octets now and then are no command.
func TestSlowCommand(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.say(t, "", "220")
		p.say(t, "EHLO x\r\n", "250 ")
		for range 4 {
			time.Sleep(time.Minute)
			_, _ = io.WriteString(p, "N")
		}
		p.after(t, time.Minute, "421 4.4.2")
	})
}

func TestDataTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.open(t)
		_, _ = io.WriteString(p, "some\r\n")
		p.after(t, 3*time.Minute, "421 4.4.2")
		if err := b.fault(); !errors.Is(err, ErrCut) {
			t.Error(err)
		}
	})
}

func TestTransactionTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.open(t)
		for range 14 {
			time.Sleep(time.Minute)
			_, _ = io.WriteString(p, "x\r\n")
		}
		p.after(t, time.Minute, "421 4.4.2")
		if err := b.fault(); !errors.Is(err, ErrCut) || len(b.deliveries()) != 0 {
			t.Error(err)
		}
	})
}

// The end of a refused content is waited for, but not for ever.
func TestViolationTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.open(t)
		_, _ = io.WriteString(p, "bare\n.\r\nMAIL FROM:<evil@evil.test>\r\n")
		p.after(t, 10*time.Second, "550 5.6.0")
		start := time.Now()
		_, _ = io.WriteString(p, "QUIT\r\n")
		if _, err := p.r.ReadByte(); err != io.EOF || time.Since(start) != 2*time.Second {
			t.Error("not a silent end", err, time.Since(start))
		}
	})
}

func TestViolationEnd(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.open(t)
		_, _ = io.WriteString(p, "bare\n.\r\n")
		time.Sleep(5 * time.Second)
		_, _ = io.WriteString(p, "\r\n.\r\n")
		p.after(t, 0, "550 5.6.0")
	})
}

// Nor is that of one that is too big.
func TestTooBigTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		p.open(t)
		_, _ = io.WriteString(p, strings.Repeat("x", 1001))
		p.after(t, 3*time.Minute, "552 5.3.4")
	})
}

// A client that doesn't take its replies is left.
func TestWriteTime(t *testing.T) {
	timed(t, func(t *testing.T, p *plain, b *backend) {
		start := time.Now()
		time.Sleep(writeTime - time.Second)
		synctest.Wait()
		if b.open() != 1 {
			t.Fatal("left too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.open() != 0 {
			t.Error("still there after", time.Since(start))
		}
	})
}

func TestHandshakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		s := New(Config{TLS: testTLS()}, b.session)
		l := newPipes()
		go s.Serve(l)
		p := newPlain(l.dial())
		p.say(t, "", "220")
		p.say(t, "EHLO x\r\n", "250 ")
		p.say(t, "STARTTLS\r\n", "220")
		start := time.Now()
		_, err := p.r.ReadByte()
		if err != io.EOF || time.Since(start) != handshakeTime {
			t.Error(err, time.Since(start))
		}
		_ = s.Shutdown(context.Background())
	})
}

// Errors of Accept are waited out.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		s := New(Config{}, b.session)
		l := &faulty{pipes: newPipes(), fault: errors.New("too many open files")}
		start := time.Now()
		done := make(chan error)
		go func() { done <- s.Serve(l) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		l.mu.Lock()
		if l.n < 10 || l.n > 100 {
			t.Errorf("%d attempts in %v", l.n, time.Since(start))
		}
		l.fault = nil
		l.mu.Unlock()
		p := newPlain(l.dial())
		p.say(t, "", "220")
		p.Close()
		_ = s.Shutdown(context.Background())
		if err := <-done; err != ErrServerClosed {
			t.Error(err)
		}
	})
}

type faulty struct {
	*pipes
	mu    sync.Mutex
	fault error
	n     int
}

func (f *faulty) Accept() (net.Conn, error) {
	f.mu.Lock()
	f.n++
	fault := f.fault
	f.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	return f.pipes.Accept()
}

// While so many are being told that there is no room, others are not.
func TestGoodbyesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		s := New(Config{Limits: Limits{Connections: 1}}, b.session)
		l := newPipes()
		go s.Serve(l)
		first := newPlain(l.dial())
		first.say(t, "", "220")
		var conns []net.Conn
		for range goodbyes + 1 {
			conns = append(conns, l.dial())
		}
		synctest.Wait()
		if _, err := conns[goodbyes].Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		newPlain(conns[0]).say(t, "", "421 4.3.2")
		time.Sleep(goodbyeTime + time.Second)
		newPlain(l.dial()).say(t, "", "421 4.3.2")
		first.Close()
		_ = s.Shutdown(context.Background())
	})
}

// FuzzDialogue: whatever a client sends, a content is taken only when the
// octets of a true end were among it, and every session is closed.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b.test> SIZE=1 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<\"a> x\"@b.test>\r\nDATA\r\nx\n.\r\n\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nRSET\r\nNOOP\r\nVRFY x\r\nHELP\r\n"))
	f.Add([]byte("EHLO x\r\nSTARTTLS\r\n\x16\x03\x01"))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nx\r\r\n.\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := &backend{}
		s := New(Config{Hostname: "mx.test", TLS: testTLS(), Limits: Limits{MessageSize: 100}}, b.session)
		conn := &script{raw: raw}
		c := newConn(s, conn)
		s.gate.enter(c.from, s.config.Load().Limits, time.Now())
		c.serve()
		taken := len(b.deliveries())
		if ends := strings.Count(string(raw), "\r\n.\r\n"); taken > ends {
			t.Fatalf("%d taken, %d ends in %q", taken, ends, raw)
		}
		for _, d := range b.deliveries() {
			if rest := strings.ReplaceAll(d.content, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") || len(d.content) > 100 {
				t.Fatalf("taken: %q", d.content)
			}
		}
		if b.open() != 0 {
			t.Fatal("session not closed")
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(conn.out.String(), "\r\n"), "\r\n") {
			if len(line) > maxReply-2 || line != "" && (line[0] < '2' || line[0] > '5') || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("reply %q", line)
			}
		}
	})
}

// script is a client that waits for its turn: each read brings one line.
type script struct {
	raw    []byte
	out    strings.Builder
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.raw) == 0 || s.closed {
		return 0, io.EOF
	}
	n := strings.IndexByte(string(s.raw), '\n') + 1
	if n == 0 {
		n = len(s.raw)
	}
	n = copy(p, s.raw[:n])
	s.raw = s.raw[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
