package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	stdsmtp "net/smtp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/gateway/mail"
)

// Ordinary clients get through.
func TestClients(t *testing.T) {
	b := &backend{}
	_, addr := serve(t, Config{TLS: testTLS()}, b)
	body := "Subject: x\r\n\r\n.dot\r\n..\r\n" + strings.Repeat("x", 100_000) + "\r\n"

	c, err := stdsmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Hello("std.test"))
	must(c.StartTLS(insecure))
	must(c.Mail("a@sender.test"))
	must(c.Rcpt("b@mx.test"))
	w, err := c.Data()
	must(err)
	_, err = io.WriteString(w, body)
	must(err)
	must(w.Close())
	must(c.Quit())

	e, err := smtp.Dial(addr)
	must(err)
	must(e.Hello("emersion.test"))
	must(e.SendMail("a@sender.test", []string{"b@mx.test", "c@mx.test"}, strings.NewReader(body)))
	must(e.Quit())

	got := b.deliveries()
	if len(got) != 2 || got[0].content != body || got[1].content != body {
		t.Fatalf("%d deliveries", len(got))
	}
	first, second := got[0], got[1]
	if first.client.HELO != "std.test" || !strings.HasPrefix(first.client.TLS, "TLS 1.3 TLS_") || !first.client.ESMTP ||
		!first.client.Addr.Addr().IsLoopback() || first.from.ReversePath.String() != "a@sender.test" || !first.from.EightBit {
		t.Errorf("%+v", first)
	}
	if second.client.TLS != "" || strings.Join(second.to, " ") != "b@mx.test c@mx.test" || second.from.Size != 0 {
		t.Errorf("%+v", second)
	}
}

// A message is taken only when its last octet is there, however the client
// leaves.
func TestCutAtEveryOctet(t *testing.T) {
	message := "A: b\r\n\r\n..x\r\n.\r\n"
	each(t, func(t *testing.T, secure bool) {
		b := &backend{}
		_, addr := serve(t, Config{TLS: testTLS(), Limits: Limits{PerClient: 200}}, b)
		for n := range len(message) {
			for _, polite := range []bool{false, true} {
				c := opened(t, addr, secure)
				c.send(message[:n])
				switch {
				case polite:
					c.hangUp()
					c.expectClose()
				case secure && n%2 == 0: // a FIN without close_notify
					_ = c.raw.(*net.TCPConn).CloseWrite()
					c.expectClose()
				}
				c.raw.Close()
			}
		}
		eventually(t, "sessions end", func() bool { return b.open() == 0 })
		if got := b.deliveries(); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
		if !errors.Is(b.fault(), ErrCut) || errors.Is(b.fault(), io.EOF) {
			t.Error(b.fault())
		}
		c := opened(t, addr, secure)
		c.send(message)
		c.expect("250")
		if got := b.deliveries(); len(got) != 1 || got[0].content != "A: b\r\n\r\n.x\r\n" {
			t.Fatalf("%+v", got)
		}
	})
}

// Each variant of the end, each with a transaction behind it, in a session: at
// most the message that is meant is taken.
func TestSmuggling(t *testing.T) {
	each(t, func(t *testing.T, secure bool) {
		t.Parallel()
		b := &backend{}
		_, addr := serve(t, Config{TLS: testTLS(), Limits: Limits{PerClient: 2000}}, b)
		var wg sync.WaitGroup
		for _, before := range breaks[:10] {
			for _, behind := range breaks[:10] {
				if strings.Contains(before+"."+behind, "\r\n.\r\n") {
					continue // a true end; what is behind it are commands
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					smuggle(t, addr, secure, "x"+before+"."+behind)
				}()
			}
			wg.Wait()
		}
		for _, d := range b.deliveries() {
			if d.from.ReversePath.String() != "a@sender.test" || strings.ContainsAny(d.content, "\x00") {
				t.Errorf("%+v", d)
			}
		}
	})
}

func smuggle(t *testing.T, addr string, secure bool, end string) {
	c := dial(t, addr)
	defer c.raw.Close()
	c.expect("220")
	if secure {
		c.startTLS()
	}
	c.ask("EHLO x", "250")
	c.open()
	c.send(end + "MAIL FROM:<evil@evil.test>\r\nRCPT TO:<v@mx.test>\r\nDATA\r\nevil\r\n.\r\n")
	last, _, err := c.reply()
	bad := strings.Trim(strings.ReplaceAll(end, "\r\n", ""), "x. ") != ""
	if err != nil || bad != strings.HasPrefix(last, "550 5.6.0") {
		t.Errorf("%q: %q, %v", end, last, err)
	}
	if bad {
		c.expectClose()
	}
}

// A line has no limit but the message's, and costs no memory.
func TestLongLine(t *testing.T) {
	b := &backend{}
	var n int64
	b.data = func(_ context.Context, content io.Reader) (r mail.Reply) {
		var err error
		if n, err = io.Copy(io.Discard, content); err != nil {
			t.Error(err)
		}
		return replyOK
	}
	_, addr := serve(t, Config{}, b)
	c := opened(t, addr, false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	piece := bytes.Repeat([]byte("x"), 1<<16)
	for range 40 * 16 {
		if _, err := c.raw.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	c.send("\r\n.\r\n")
	c.expect("250")
	runtime.ReadMemStats(&after)
	if n != 40<<20+2 || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d octets, %d allocated", n, after.TotalAlloc-before.TotalAlloc)
	}
}

// What a session does with a content can't take a message that it has not seen,
// nor make the rest of it commands.
func TestSessionLeavesContent(t *testing.T) {
	rest := "Subject: x\r\n\r\nMAIL FROM:<evil@evil.test>\r\n"
	ok := mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "ok"}
	no := mail.Reply{Code: 554, Enhanced: "5.0.0", Text: "no"}
	readAll := func(r mail.Reply) func(context.Context, io.Reader) mail.Reply {
		return func(_ context.Context, content io.Reader) mail.Reply {
			_, _ = io.ReadAll(content)
			return r
		}
	}
	unread := func(r mail.Reply) func(context.Context, io.Reader) mail.Reply {
		return func(_ context.Context, content io.Reader) mail.Reply {
			_, _ = content.Read(make([]byte, 3))
			return r
		}
	}
	for _, tt := range []struct {
		name string
		data func(context.Context, io.Reader) mail.Reply
		send string
		want string
		open bool // afterwards
	}{
		{"refused unread", unread(no), rest + ".\r\n", "554 5.0.0 no", true},
		{"taken unread", unread(ok), rest + ".\r\n", "451 4.3.0", true},
		{"refused unread with a bare newline", unread(no), rest + "\n.\n\r\n.\r\n", "554 5.0.0 no", false},
		{"taken with a bare newline", readAll(ok), rest + "\n.\r\n\r\n.\r\n", "550 5.6.0", false},
		{"taken too big", readAll(ok), rest + strings.Repeat("x", 60) + "\r\n.\r\n", "552 5.3.4", true},
		{"no meaning", readAll(mail.Reply{Code: 354}), rest + ".\r\n", "451 4.3.0", true},
		{"421", readAll(mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "enough"}), rest + ".\r\n", "421 4.7.0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, secure bool) {
				b := &backend{data: tt.data}
				_, addr := serve(t, Config{TLS: testTLS(), Limits: Limits{MessageSize: 100}}, b)
				c := opened(t, addr, secure)
				c.send(tt.send)
				c.expect(tt.want)
				if !tt.open {
					c.expectClose()
					return
				}
				c.ask("RCPT TO:<b@mx.test>", "503")
				c.ask("NOOP", "250")
			})
		})
	}
}

func TestNormaliseFrom(t *testing.T) {
	for prefix, want := range map[string]string{"127.0.0.0/8": "250", "10.0.0.0/8": "550"} {
		b := &backend{}
		_, addr := serve(t, Config{Limits: Limits{NormaliseFrom: []netip.Prefix{netip.MustParsePrefix(prefix)}}}, b)
		c := opened(t, addr, false)
		c.send("a\nb\r\n.\r\n")
		c.expect(want)
	}
}

func TestConnectionLimits(t *testing.T) {
	for _, tt := range []struct {
		limits Limits
		n      int
		reason string
	}{
		{Limits{Connections: 3}, 3, ReasonConnections},
		{Limits{PerClient: 2}, 2, ReasonPerClient},
		{Limits{Rate: 4}, 4, ReasonRate},
	} {
		b := &backend{}
		s, addr := serve(t, Config{Limits: tt.limits}, b)
		var open []*client
		for range tt.n {
			open = append(open, greeted(t, addr, false))
		}
		c := dial(t, addr)
		c.expect("421 4.3.2")
		c.expectClose()
		b.mu.Lock()
		if b.sessions != tt.n || len(b.reasons) != 1 || b.reasons[0] != tt.reason {
			t.Error(tt.reason, b.sessions, b.reasons)
		}
		b.mu.Unlock()
		if s.Connections() != tt.n {
			t.Error(s.Connections())
		}
		open[0].ask("QUIT", "221")
		open[0].expectClose()
		eventually(t, "room again", func() bool { return s.Connections() == tt.n-1 })
		if tt.limits.Rate == 0 {
			greeted(t, addr, false)
		}
	}
}

// A flood of clients that never read costs the accept loop nothing.
func TestFlood(t *testing.T) {
	b := &backend{}
	s, addr := serve(t, Config{Limits: Limits{PerClient: 5}}, b)
	for range 5 {
		greeted(t, addr, false)
	}
	for range 300 {
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	eventually(t, "all turned away", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.reasons) == 300
	})
	if s.Connections() != 5 {
		t.Error(s.Connections())
	}
	// Nobody else: another address of the loopback network.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	raw, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	newClient(t, raw).expect("220")
}

func TestGate(t *testing.T) {
	var g gate
	now := time.Unix(1e9, 0)
	l := Limits{Connections: 100, PerClient: 1, Rate: 2}
	addr := func(s string) netip.Prefix { return clientOf(netip.MustParseAddr(s)) }
	for _, tt := range []struct{ a, b, reason string }{
		{"192.0.2.1", "192.0.2.2", ""},
		{"192.0.2.3", "::ffff:192.0.2.3", ReasonPerClient},
		{"2001:db8::1", "2001:db8::ffff:1", ReasonPerClient},
		{"2001:db8:1::", "2001:db8:1:1::", ""},
		{"fe80::1%eth0", "fe80::2%eth1", ReasonPerClient},
	} {
		if got := g.enter(addr(tt.a), l, now); got != "" {
			t.Error(tt.a, got)
		}
		if got := g.enter(addr(tt.b), l, now); got != tt.reason {
			t.Error(tt.b, got)
		}
	}
	a := addr("192.0.2.1")
	g.leave(a)
	if got := g.enter(a, l, now); got != "" {
		t.Error(got)
	}
	g.leave(a)
	if got := g.enter(a, l, now.Add(59*time.Second)); got != ReasonRate {
		t.Error(got)
	}
	if got := g.enter(a, l, now.Add(time.Minute)); got != "" {
		t.Error(got)
	}
	g.leave(a)
	for _, s := range []string{"192.0.2.2", "192.0.2.3", "2001:db8::", "2001:db8:1::", "2001:db8:1:1::", "fe80::"} {
		g.leave(addr(s))
	}
	g.sweep(now.Add(3 * time.Minute))
	if len(g.clients) != 0 || g.open != 0 {
		t.Error(g.clients, g.open)
	}
	l.Rate = 0
	g.enter(a, l, now)
	g.leave(a)
	if len(g.clients) != 0 {
		t.Error("an entry without use")
	}
}

func TestConfigure(t *testing.T) {
	b := &backend{}
	s, addr := serve(t, Config{}, b)
	c := greeted(t, addr, false)
	c.ask("EHLO x", "250")
	s.Configure(Config{Hostname: "new.test", TLS: testTLS(), Limits: Limits{MessageSize: 7}})
	all := strings.Join(c.ask("EHLO x", "250"), " ")
	if !strings.Contains(all, "new.test") || !strings.Contains(all, "SIZE 7") || !strings.Contains(all, "STARTTLS") {
		t.Error(all)
	}
	c.startTLS()
	c.ask("EHLO x", "250")
	c.ask("MAIL FROM:<a@b.test> SIZE=8", "552")
	dial(t, addr).expect("220 new.test")
}

func TestShutdownIdle(t *testing.T) {
	each(t, func(t *testing.T, secure bool) {
		b := &backend{}
		s, addr := serve(t, Config{TLS: testTLS()}, b)
		c := greeted(t, addr, secure)
		c.ask("EHLO x", "250")
		c.ask("MAIL FROM:<a@b.test>", "250")
		c.send("NOO") // half a command is no transaction either
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		c.expect("421 4.3.2")
		c.expectClose()
		if s.Connections() != 0 {
			t.Error("connections are left")
		}
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Error("still accepting")
		}
	})
}

// A session within DATA finishes it; what is pipelined behind is not begun.
func TestShutdownInData(t *testing.T) {
	each(t, func(t *testing.T, secure bool) {
		b := &backend{}
		s, addr := serve(t, Config{TLS: testTLS()}, b)
		c := opened(t, addr, secure)
		c.send("Subject: x\r\n")
		done := make(chan error)
		go func() { done <- s.Shutdown(t.Context()) }()
		eventually(t, "closing", s.isClosing)
		c.send("\r\nx\r\n.\r\nMAIL FROM:<a@b.test>\r\n")
		c.expect("250 2.0.0")
		c.expect("421 4.3.2")
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(b.deliveries()) != 1 {
			t.Error(b.deliveries())
		}
	})
}

func TestShutdownCuts(t *testing.T) {
	b := &backend{}
	started := make(chan struct{}, 2)
	b.data = func(ctx context.Context, content io.Reader) mail.Reply {
		started <- struct{}{}
		if len(started) == 1 {
			<-ctx.Done()
		}
		if _, err := io.ReadAll(content); !errors.Is(err, ErrCut) {
			t.Error(err)
		}
		return replyOK
	}
	s, addr := serve(t, Config{}, b)
	c := opened(t, addr, false)
	eventually(t, "the first in Data", func() bool { return len(started) == 1 })
	waiting := opened(t, addr, false)
	waiting.send("half")
	eventually(t, "the second in Data", func() bool { return len(started) == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	c.expectClose()
	waiting.expectClose()
	if s.Connections() != 0 || len(b.deliveries()) != 0 {
		t.Error(s.Connections(), b.deliveries())
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error("a second time:", err)
	}
	if err := s.Serve(closedListener{}); err != ErrServerClosed {
		t.Error(err)
	}
}

type closedListener struct{ net.Listener }

func (closedListener) Close() error              { return nil }
func (closedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }

func TestServeEndsWithItsListener(t *testing.T) {
	s := New(Config{}, (&backend{}).session)
	if err := s.Serve(closedListener{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Two sets of a thousand idle clients: what they cost in all.
func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Log("memory is not counted under the race detector")
		return
	}
	const n = 1000
	b := &backend{}
	s := New(Config{Hostname: "mx.test", Limits: Limits{PerClient: n}}, b.session)
	l := newPipes()
	go s.Serve(l)
	clients := make([]net.Conn, n)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range clients {
		clients[i] = l.dial()
		c := newPlain(clients[i])
		c.say(t, "", "220")
		c.say(t, "EHLO x\r\n", "250 ")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse
	t.Logf("%d KB a session", used/n/1000)
	if used > 30e6 {
		t.Errorf("%d octets for %d sessions", used, n)
	}
	for _, c := range clients {
		c.Close()
	}
	_ = s.Shutdown(t.Context())
}

func BenchmarkSession(b *testing.B) {
	back := &backend{data: func(_ context.Context, content io.Reader) mail.Reply {
		if _, err := io.Copy(io.Discard, content); err != nil {
			b.Error(err)
		}
		return replyOK
	}}
	message := strings.Repeat(strings.Repeat("x", 72)+"\r\n", 34_000/74) + ".\r\n"
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", secure), func(b *testing.B) {
			_, addr := serve(b, Config{TLS: testTLS(), Limits: Limits{Noops: 1 << 30}}, back)
			c := greeted(b, addr, secure)
			_ = c.raw.SetDeadline(time.Time{})
			c.ask("EHLO x", "250")
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				c.send("MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n")
				c.expect("250")
				c.expect("250")
				c.expect("354")
				c.send(message)
				c.expect("250")
			}
		})
	}
}
