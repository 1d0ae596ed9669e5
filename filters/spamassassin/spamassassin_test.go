package spamassassin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/filters/engine"
	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// readRequest reads a request as spamd does: its head by lines, and a message
// that has to be as long as the head says, up to the half-close.
func readRequest(c net.Conn) (head []string, message string, err error) {
	r := bufio.NewReader(c)
	length := -1
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-length: "); ok {
			if length, err = strconv.Atoi(v); err != nil {
				return nil, "", err
			}
		}
		head = append(head, line)
	}
	if head[0] == "PING SPAMC/1.5" {
		return head, "", nil
	}
	b, err := io.ReadAll(r)
	if err == nil && len(b) != length {
		err = fmt.Errorf("%d octets instead of %d", len(b), length)
	}
	return head, string(b), err
}

// answers reads a request and says response.
func answers(response string) func(net.Conn) {
	return func(c net.Conn) {
		if _, _, err := readRequest(c); err == nil {
			_, _ = io.WriteString(c, response)
		}
	}
}

const nothing = "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: False ; 0.0 / 5.0\r\n\r\n\n"

func newFilter(t testing.TB, c Config) *Filter {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNew(t *testing.T) {
	good := []string{"unix:/run/spamd.sock"}
	for _, c := range []Config{
		{},
		{Addresses: []string{"localhost:783"}},
		{Addresses: good, User: "a b"},
		{Addresses: good, User: "a\r\nb"},
		{Addresses: good, User: strings.Repeat("a", 256)},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("taken: %+v", c)
		}
	}
	newFilter(t, Config{Addresses: good, User: "mail.filter@example.com"})
}

func TestContractWithFake(t *testing.T) {
	address := filtertest.Serve(t, "unix", answers(nothing))
	filtertest.Run(t, func() filtertest.Filter { return newFilter(t, Config{Addresses: []string{address}}) })
}

// TestRequest holds what spamd gets, over either kind of socket.
func TestRequest(t *testing.T) {
	const content = "Subject: x\r\n\r\nbody\r\n"
	want := "X-Envelope-From: <alice@sender.example>\r\n" +
		"Received: from mail.sender.example (unknown [198.51.100.7])\r\n" +
		"\tby mx.example.com (Postern) with ESMTP id 0test0000000000000001;\r\n" +
		"\tSat, 21 Nov 2026 09:00:00 +0000\r\n"
	for _, network := range []string{"tcp", "unix"} {
		var head []string
		var message string
		got := make(chan error, 1)
		address := filtertest.Serve(t, network, func(c net.Conn) {
			var err error
			head, message, err = readRequest(c)
			_, _ = io.WriteString(c, nothing)
			got <- err
		})
		f := newFilter(t, Config{Addresses: []string{address}, User: "postern", Hostname: "mx.example.com"})
		if results, err := f.Check(t.Context(), filtertest.Message(content), nil); err != nil || len(results) != 0 {
			t.Errorf("%v, %v", results, err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if message != want+content {
			t.Errorf("%s: spamd got %q", network, message)
		}
		if len(head) != 3 || head[0] != "REPORT SPAMC/1.5" || head[2] != "User: postern" {
			t.Errorf("%s: spamd got %q", network, head)
		}
	}
}

func TestTrace(t *testing.T) {
	client := netip.MustParseAddrPort("198.51.100.7:25")
	tests := []struct {
		name   string
		change func(*mail.Message)
		rdns   string
		want   string // within the trace
	}{
		{"name", func(m *mail.Message) {}, "mx.sender.example", "from helo.example (mx.sender.example [198.51.100.7])\r\n"},
		{"no name", func(m *mail.Message) {}, "", "from helo.example (unknown [198.51.100.7])\r\n"},
		{"IPv6", func(m *mail.Message) { m.Client.Addr = netip.MustParseAddrPort("[2001:db8::7]:25") }, "", "[IPv6:2001:db8::7]"},
		{"IPv4 in IPv6", func(m *mail.Message) { m.Client.Addr = netip.MustParseAddrPort("[::ffff:192.0.2.1]:25") }, "", "[192.0.2.1]"},
		{"zone", func(m *mail.Message) { m.Client.Addr = netip.MustParseAddrPort("[fe80::1%eth0]:25") }, "", "[IPv6:fe80::1]"},
		{"null sender", func(m *mail.Message) { m.Envelope.ReversePath = mail.Address{} }, "", "X-Envelope-From: <>\r\n"},
		{"no HELO", func(m *mail.Message) { m.Client.HELO = "" }, "", "from unknown (unknown ["},
		{"TLS", func(m *mail.Message) { m.Client.ESMTP, m.Client.TLS = true, "TLS1.3" }, "", " with ESMTPS id "},
		{"HELO that would be more", func(m *mail.Message) {
			m.Client.HELO = "a (b [127.0.0.1]) by x;\r\nX-Spam: no"
		}, "", "from a??b?[127.0.0.1]??by?x???X-Spam:?no (unknown [198.51.100.7])\r\n"},
		{"long HELO", func(m *mail.Message) { m.Client.HELO = strings.Repeat("a", maxWord+1) }, "", " " + strings.Repeat("a", maxWord) + " (unknown"},
		{"sender that would be more", func(m *mail.Message) {
			m.Envelope.ReversePath = mail.Address{Local: "a\r\nb", Domain: "x"}
		}, "", "X-Envelope-From: <\"a??b\"@x>\r\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := &mail.Message{ID: "id", Client: mail.Client{Addr: client, HELO: "helo.example"}, Content: mail.Bytes("")}
			test.change(m)
			f := newFilter(t, Config{
				Addresses: []string{"unix:/nowhere"},
				Reverse:   func(context.Context, netip.Addr) (string, error) { return test.rdns, nil },
			})
			q := f.request(t.Context(), m)
			if !strings.Contains(q.trace, test.want) || strings.Count(q.trace, "\r\n") != 4 || !q.reverse {
				t.Errorf("%q", q.trace)
			}
		})
	}
}

// A file that came from no client has its trace already.
func TestNoClientNoTrace(t *testing.T) {
	f := newFilter(t, Config{Addresses: []string{"unix:/nowhere"}})
	if q := f.request(t.Context(), &mail.Message{Content: mail.Bytes("x")}); q.trace != "" || !q.reverse {
		t.Errorf("%+v", q)
	}
}

// That the client has no name counts only where it was looked for.
func TestReverse(t *testing.T) {
	response := "SPAMD/1.1 0 EX_OK\r\nSpam: False ; 3.4 / 5.0\r\n\r\n---- ---- ----\n 2.4 RDNS_NONE no rDNS\n 1.0 OTHER x\n"
	address := filtertest.Serve(t, "unix", answers(response))
	none := func(context.Context, netip.Addr) (string, error) { return "", nil }
	fails := func(context.Context, netip.Addr) (string, error) { return "", errors.New("no answer") }
	for _, test := range []struct {
		name    string
		reverse func(context.Context, netip.Addr) (string, error)
		results int
	}{{"not looked for", nil, 1}, {"has none", none, 2}, {"could not tell", fails, 1}} {
		f := newFilter(t, Config{Addresses: []string{address}, Reverse: test.reverse})
		results, err := f.Check(t.Context(), filtertest.Message("x"), nil)
		if err != nil || len(results) != test.results || results[len(results)-1].Symbol != "OTHER" {
			t.Errorf("%s: %+v, %v", test.name, results, err)
		}
	}
}

// Of a long message the beginning is shown, and that is said.
func TestMaxSize(t *testing.T) {
	sizes := make(chan int, 1)
	address := filtertest.Serve(t, "tcp", func(c net.Conn) {
		_, message, err := readRequest(c)
		if err != nil {
			t.Error(err)
		}
		sizes <- len(message)
		_, _ = io.WriteString(c, nothing)
	})
	f := newFilter(t, Config{Addresses: []string{address}, MaxSize: 100_000})
	for _, test := range []struct {
		size  int64
		shown int
		head  bool
	}{{0, 0, false}, {99_999, 99_999, false}, {100_000, 100_000, false}, {100_001, 100_000, true}, {50_000_000, 100_000, true}} {
		results, err := f.Check(t.Context(), &mail.Message{Content: filtertest.Repeated(test.size)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		filtertest.WellFormed(t, results)
		if shown := <-sizes; shown != test.shown {
			t.Errorf("of %d octets %d were shown", test.size, shown)
		}
		if said := len(results) == 1 && results[0].Symbol == "SPAMASSASSIN_HEAD" && results[0].Points == 0; said != test.head {
			t.Errorf("of %d octets: %+v", test.size, results)
		}
	}
}

// TestFaults is what a spamd may do wrong: none of it may pass for a judgement.
func TestFaults(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn)
		err   string
		size  int64 // of the message; large where spamd does not read it
	}{
		{"hangs up at once", func(net.Conn) {}, "", 20_000_000},
		{"hangs up after the request", answers(""), "EOF", 1000},
		{"cut head", answers("SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.0 / 5.0\r\n"), "EOF", 1000},
		{"cut report", answers(strings.Replace(nothing, "length: 1", "length: 2", 1)), "EOF", 1000},
		{"garbage", answers("\xff\x00\x01"), "not understood", 1000},
		{"endless", func(c net.Conn) {
			_, _, _ = readRequest(c)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("a", 10_000))
			}
		}, "over 262144 octets", 1000},
		{"busy", answers("SPAMD/1.0 75 EX_TEMPFAIL\r\n\r\n"), "75 EX_TEMPFAIL", 1000},
		{"answer before it has all", func(c net.Conn) { _, _ = io.WriteString(c, nothing) }, "", 20_000_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFilter(t, Config{Addresses: []string{filtertest.Serve(t, "tcp", test.serve)}, MaxSize: 20_000_000})
			results, err := f.Check(t.Context(), &mail.Message{Content: filtertest.Repeated(test.size)}, nil)
			if err == nil || len(results) != 0 {
				t.Fatalf("no error, but %v", results)
			}
			if !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestTooSlow(t *testing.T) {
	over := make(chan struct{}) // closed when the test is over
	tests := []struct {
		name  string
		serve func(net.Conn)
	}{
		{"never answers", func(c net.Conn) { _, _, _ = readRequest(c); <-over }},
		{"never reads", func(net.Conn) { <-over }},
		{"never ends", func(c net.Conn) { _, _, _ = readRequest(c); _, _ = io.WriteString(c, nothing); <-over }},
	}
	addresses := make([]string, len(tests))
	for i, test := range tests {
		addresses[i] = filtertest.Serve(t, "unix", test.serve)
	}
	t.Cleanup(func() { close(over) })
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFilter(t, Config{Addresses: addresses[i : i+1], Timeout: 100 * time.Millisecond, MaxSize: 20_000_000})
			began := time.Now()
			results, err := f.Check(t.Context(), &mail.Message{Content: filtertest.Repeated(20_000_000)}, nil)
			if !errors.Is(err, os.ErrDeadlineExceeded) || len(results) != 0 || time.Since(began) > 5*time.Second {
				t.Errorf("%v, %v after %v", results, err, time.Since(began))
			}
		})
	}
}

// What spamd refuses, or dies of twice, is the message's fault.
func TestUnscannable(t *testing.T) {
	for _, test := range []struct {
		name, response string
		times          int // until it is known
	}{{"refused", "SPAMD/1.0 65 EX_DATAERR\r\n\r\n", 1}, {"dies", "", 2}, {"timed out inside", "SPAMD/1.0 79 Timeout: 300 s\r\n\r\n", 2}} {
		f := newFilter(t, Config{Addresses: []string{filtertest.Serve(t, "unix", answers(test.response))}})
		m := filtertest.Message("deadly")
		for i := range 3 {
			results, err := f.Check(t.Context(), m, nil)
			if i+1 < test.times {
				if err == nil {
					t.Errorf("%s, time %d: %v", test.name, i+1, results)
				}
				continue
			}
			if err != nil || len(results) != 1 || results[0].Symbol != "SPAMASSASSIN_UNSCANNABLE" || results[0].Fault != mail.FaultMessage {
				t.Errorf("%s, time %d: %+v, %v", test.name, i+1, results, err)
			}
			filtertest.WellFormed(t, results)
		}
	}
}

// cutOff is a content whose file was cut.
type cutOff struct{ mail.Bytes }

func (c cutOff) Size() int64 { return int64(len(c.Bytes)) + 1 }

// unreadable is a content whose file can't be read.
type unreadable struct{ filtertest.Repeated }

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk fell out") }

func TestContentFails(t *testing.T) {
	for _, c := range []mail.Content{cutOff{mail.Bytes("a part")}, cutOff{}, unreadable{100}} {
		f := newFilter(t, Config{Addresses: []string{filtertest.Serve(t, "unix", func(c net.Conn) {
			if _, b, err := readRequest(c); err == nil {
				t.Errorf("spamd got a whole message: %q", b)
			}
		})}})
		results, err := f.Check(t.Context(), &mail.Message{Content: c}, nil)
		if !errors.Is(err, engine.ErrContent) {
			t.Errorf("%T: %v, %v", c, results, err)
		}
	}
}

func TestPing(t *testing.T) {
	for response, good := range map[string]bool{
		"SPAMD/1.5 0 PONG\r\n": true, "SPAMD/1.5 0 PONG": false, "": false, "SPAMD/1.5 0 PANG\r\n": false,
		"SPAMD/1.5 1 PONG\r\n": false, "PONG\r\n": false, strings.Repeat("a", maxLine+1): false,
	} {
		f := newFilter(t, Config{Addresses: []string{filtertest.Serve(t, "unix", answers(response))}})
		if err := f.Ping(t.Context()); (err == nil) != good {
			t.Errorf("%.40q: %v", response, err)
		}
	}
}
