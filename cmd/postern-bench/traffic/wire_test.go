package traffic

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// testSink is a sink that ends with the test.
func testSink(t *testing.T) *Sink {
	t.Helper()
	s, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// shapes are contents that are hard to find the end of.
func shapes() (list []Message) {
	for _, body := range []string{
		"", "x", ".", "..", "\n.\n", ".\n.\n.", "é", strings.Repeat("a", 200_000),
		strings.Repeat(".\n", 40_000), strings.Repeat("abc\n.def\n", 10_000),
	} {
		m, _ := NewMessage([]byte("Subject: x\n\n" + body))
		list = append(list, m)
	}
	for pad := range 8 { // the end falls on every place of the sink's buffer
		m, _ := NewMessage([]byte("Subject: x\n\n" + strings.Repeat("a", 64<<10-100+12*pad)))
		list = append(list, m)
	}
	return list
}

func TestSendToSink(t *testing.T) {
	s := testSink(t)
	for _, c := range []Load{{Concurrency: 1, Reuse: 1}, {Concurrency: 4, Reuse: 1}, {Concurrency: 3, Reuse: 7}} {
		c.To, c.Mail = s.Address(), shapes()
		l := NewLedger(c.Reuse*10+c.Concurrency, 60)
		s.Count(l)
		c.Send(l)
		checkLedger(t, l)
	}
	if n := s.Strays(); n != 0 {
		t.Errorf("%d strays", n)
	}
}

func checkLedger(t *testing.T, l *Ledger) {
	t.Helper()
	if o := l.Outcome(); o.Taken != len(l.entries) || o.Lost+o.Doubled+o.Refused > 0 || slices.Min(o.EndToEnd) <= 0 || slices.Min(o.Session) <= 0 {
		t.Errorf("%+v %q", o, l.Refusal())
	}
}

func TestSendThroughHop(t *testing.T) {
	s := testSink(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { _ = (&hop{inside: s.Address(), pool: make(chan *insideConn, 2)}).serve(listener) }()
	l := NewLedger(1, 80)
	s.Count(l)
	Load{To: listener.Addr().String(), Concurrency: 4, Reuse: 3, Mail: shapes()}.Send(l)
	checkLedger(t, l)
}

func TestServeHopEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeHop(ctx, "127.0.0.1:0", "127.0.0.1:1"); err != nil {
		t.Error(err)
	}
	if err := ServeHop(t.Context(), "nowhere", ""); err == nil {
		t.Error("listens nowhere")
	}
}

func TestHopWithoutInside(t *testing.T) {
	h := &hop{inside: "127.0.0.1:1"}
	if got := h.pass(nil, nil); !strings.HasPrefix(got, "451 ") {
		t.Error(got)
	}
}

// A server that refuses, at each step.
func TestSendRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		replies []string // greeting, EHLO, then MAIL RCPT DATA at once, then the dot
		want    string
	}{
		{"greeting", []string{"554 no\r\n"}, "554 no"},
		{"EHLO", []string{"220 x\r\n", "250-x\r\n550 no\r\n"}, "550 no"},
		{"RCPT", []string{"220 x\r\n", "250 x\r\n", "250 x\r\n550 unknown\r\n503 x\r\n"}, "550 unknown"},
		{"the dot", []string{"220 x\r\n", "250 x\r\n", "250 x\r\n250 x\r\n354 x\r\n", "451 later\r\n"}, "451 later"},
		{"gone", []string{"220 x\r\n", "250 x\r\n"}, "EOF"},
		{"malformed", []string{"220 x\r\n", "250 x\r\n", "x\r\n"}, "malformed"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go serveReplies(listener, c.replies)
		l := NewLedger(1, 1)
		m, _ := NewMessage([]byte("A: b\n"))
		Load{To: listener.Addr().String(), Concurrency: 1, Reuse: 1, Mail: []Message{m}}.Send(l)
		if o := l.Outcome(); o.Refused != 1 || !strings.Contains(l.Refusal(), c.want) {
			t.Errorf("%s: %+v %q", c.name, o, l.Refusal())
		}
		_ = listener.Close()
	}
}

// serveReplies says one thing to each packet of the first client.
func serveReplies(listener net.Listener, replies []string) {
	c, err := listener.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	buffer := make([]byte, 4096)
	for _, r := range replies {
		if _, err := io.WriteString(c, r); err != nil {
			return
		}
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

func TestSinkAnswers(t *testing.T) {
	for line, want := range map[string]string{
		"EHLO x": "250-", "helo x": "250 ", "MAIL FROM:<>": "250 ", "RSET": "250 ", "NOOP": "250 ", "QUIT": "221 ", "DATA": "354 ",
		"RCPT TO:<user1@bench.example>": "250 ", "rcpt to:<USER1@bench.example>": "250 ", "RCPT TO:<postmaster@bench.example>": "250 ",
		"RCPT TO:<x1@bench.example>": "550 ", "RCPT": "550 ", "STARTTLS": "502 ", "X": "502 ", "": "502 ",
	} {
		if got := answer([]byte(line + "\r\n")); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\n") {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestSinkCountsStrays(t *testing.T) {
	s := testSink(t)
	s.take([]byte("Subject: a bounce\r\n"))
	s.take(token(1, 0))
	s.Count(NewLedger(2, 1))
	s.take(token(1, 0))
	s.take(token(2, 0))
	if s.Strays() != 3 || s.current.Load().Count() != 1 {
		t.Error(s.Strays(), s.current.Load().Count())
	}
}

// Both readers find the end wherever the network cuts.
func TestContentEnd(t *testing.T) {
	for _, content := range []string{"a\r\n", "\r\n", "a\r\n..\r\n", "a\r\n\r\n\r\n", "..\r\n" + strings.Repeat("b\r\n", 30)} {
		wire := content + ".\r\nQUIT\r\n"
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "octets": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			r := bufio.NewReaderSize(wrap(strings.NewReader(wire)), 16)
			if whole, err := readWhole(r, nil); err != nil || string(whole) != content+".\r\n" {
				t.Errorf("%s %q: %q, %v", name, content, whole, err)
			}
			checkRest(t, r)
			r = bufio.NewReaderSize(wrap(strings.NewReader(wire)), 16)
			head, err := readContent(r, make([]byte, 0, 8))
			if err != nil || len(head) > 8 || !strings.HasPrefix(content+".\r\n", string(head)) {
				t.Errorf("%s %q: head %q, %v", name, content, head, err)
			}
			checkRest(t, r)
		}
	}
}

func checkRest(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "QUIT\r\n" {
		t.Errorf("left: %q, %v", rest, err)
	}
}

func TestContentCut(t *testing.T) {
	for _, wire := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\n.\n"} {
		if _, err := readContent(bufio.NewReader(strings.NewReader(wire)), nil); err == nil {
			t.Errorf("sink: %q has an end", wire)
		}
		if _, err := readWhole(bufio.NewReader(strings.NewReader(wire)), nil); err == nil {
			t.Errorf("hop: %q has an end", wire)
		}
	}
	if _, err := readContent(bufio.NewReader(strings.NewReader(".\r\n")), nil); err != nil {
		t.Errorf("an empty content: %v", err)
	}
}

// The two readers agree on where a content ends.
func FuzzContentEnd(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nQUIT\r\n"), 3)
	f.Add([]byte("a\r\n.\r.\r\n.\r\n"), 1)
	f.Fuzz(func(t *testing.T, wire []byte, cut int) {
		wire = append([]byte("a"), wire...) // a content that is not empty
		first := min(max(cut, 0), len(wire))
		reader := func() *bufio.Reader {
			return bufio.NewReaderSize(io.MultiReader(bytes.NewReader(wire[:first]), bytes.NewReader(wire[first:])), 16)
		}
		a, b := reader(), reader()
		_, errA := readContent(a, nil)
		_, errB := readWhole(b, nil)
		restA, _ := io.ReadAll(a)
		restB, _ := io.ReadAll(b)
		if (errA == nil) != (errB == nil) || errA == nil && !slices.Equal(restA, restB) {
			t.Error(fmt.Sprintf("%q", restA), errA, fmt.Sprintf("%q", restB), errB)
		}
	})
}
