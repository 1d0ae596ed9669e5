package clamav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"postern/filters/engine"
	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// readStream reads one INSTREAM as clamd does.
func readStream(c net.Conn) ([]byte, error) {
	command := make([]byte, len("zINSTREAM\x00"))
	if _, err := io.ReadFull(c, command); err != nil || string(command) != "zINSTREAM\x00" {
		return nil, fmt.Errorf("%q, %v", command, err)
	}
	var all bytes.Buffer
	for {
		var n uint32
		if err := binary.Read(c, binary.BigEndian, &n); err != nil {
			return nil, err
		}
		if n == 0 {
			return all.Bytes(), nil
		}
		if n > maxChunk {
			return nil, fmt.Errorf("a chunk of %d octets", n)
		}
		if _, err := io.CopyN(&all, c, int64(n)); err != nil {
			return nil, err
		}
	}
}

// answers reads the stream and says reply.
func answers(reply string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := readStream(c); err == nil {
			_, _ = io.WriteString(c, reply)
		}
	}
}

func newFilter(t testing.TB, timeout time.Duration, addresses ...string) *Filter {
	t.Helper()
	f, err := New(Config{Addresses: addresses, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNew(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no address taken")
	}
	if _, err := New(Config{Addresses: []string{"localhost:3310"}}); err == nil {
		t.Error("an address without its network taken")
	}
}

func TestContractWithFake(t *testing.T) {
	address := filtertest.Serve(t, "unix", answers("stream: OK\x00"))
	filtertest.Run(t, func() filtertest.Filter { return newFilter(t, 0, address) })
}

// What clamd gets is the message, octet for octet, behind the preamble.
func TestStream(t *testing.T) {
	got := make(chan []byte, 1)
	address := filtertest.Serve(t, "tcp", func(c net.Conn) {
		b, err := readStream(c)
		if err != nil {
			t.Error(err)
		}
		got <- b
		_, _ = io.WriteString(c, "stream: OK\x00")
	})
	f := newFilter(t, 0, address)
	for _, size := range []int64{0, 1, 34_000, maxChunk - 1, maxChunk, maxChunk + 1, 3*maxChunk + 5} {
		content := filtertest.Repeated(size)
		var want bytes.Buffer
		_, _ = content.WriteTo(&want)
		for _, c := range []mail.Content{content, mail.Bytes(want.Bytes())} {
			results, err := f.Check(t.Context(), &mail.Message{Content: c}, nil)
			if err != nil || len(results) != 0 {
				t.Fatalf("%d octets: %v, %v", size, results, err)
			}
			if b := <-got; string(b) != preamble+want.String() {
				t.Errorf("%d octets arrived as %d others", size, len(b)-len(preamble))
			}
		}
	}
}

// TestFaults is what a clamd may do wrong. None of it may ever be clean.
func TestFaults(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn)
		err   string
		size  int64 // of the message; large where clamd does not read it
	}{
		{"hangs up at once", func(net.Conn) {}, "", 20_000_000},
		{"hangs up after the content", answers(""), "EOF", 1000},
		{"cut reply", answers("stream: OK"), "EOF", 1000},
		{"cut finding", answers("stream: Eicar FOU"), "EOF", 1000},
		{"empty reply", answers("\x00"), "not understood", 1000},
		{"garbage", answers("\xff\xfe\x01\x00"), "not understood", 1000},
		{"another protocol", answers("HTTP/1.1 400 Bad Request\r\n\r\n\x00"), "not understood", 1000},
		{"endless reply", func(c net.Conn) {
			_, _ = readStream(c)
			for err := error(nil); err == nil; {
				_, err = c.Write(bytes.Repeat([]byte("a"), 1000))
			}
		}, "over 4096 octets", 1000},
		{"busy", answers("stream: Can't create temporary file ERROR\x00"), "temporary file", 1000},
		{"no such command", answers("UNKNOWN COMMAND\x00"), "not understood", 1000},
		{"clean before it has all", func(c net.Conn) { _, _ = io.WriteString(c, "stream: OK\x00") }, "", 20_000_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFilter(t, 0, filtertest.Serve(t, "tcp", test.serve))
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

// TestTooSlow: whatever clamd is slow with, the time-out holds for all of it.
func TestTooSlow(t *testing.T) {
	over := make(chan struct{}) // closed when the test is over
	tests := []struct {
		name  string
		serve func(net.Conn)
	}{
		{"never answers", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }},
		{"never reads", func(net.Conn) { <-over }},
		{"octet by octet", func(c net.Conn) {
			_, _ = readStream(c)
			for _, b := range []byte("stream: OK\x00") {
				time.Sleep(30 * time.Millisecond)
				_, _ = c.Write([]byte{b})
			}
		}},
	}
	addresses := make([]string, len(tests))
	for i, test := range tests {
		addresses[i] = filtertest.Serve(t, "tcp", test.serve)
	}
	t.Cleanup(func() { close(over) })
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFilter(t, 100*time.Millisecond, addresses[i])
			began := time.Now()
			results, err := f.Check(t.Context(), &mail.Message{Content: filtertest.Repeated(20_000_000)}, nil)
			if !errors.Is(err, os.ErrDeadlineExceeded) || len(results) != 0 {
				t.Errorf("%v, %v", results, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Replies that come in pieces are replies.
func TestSlowReply(t *testing.T) {
	f := newFilter(t, 0, filtertest.Serve(t, "unix", func(c net.Conn) {
		_, _ = readStream(c)
		for _, part := range []string{"str", "eam: Eicar", "-Signature FOUND", "\x00"} {
			_, _ = io.WriteString(c, part)
			time.Sleep(2 * time.Millisecond)
		}
	}))
	results, err := f.Check(t.Context(), filtertest.Message("x"), nil)
	if err != nil || len(results) != 1 || results[0].Symbol != "CLAMAV_VIRUS" || results[0].Evidence != "Eicar-Signature" {
		t.Errorf("%v, %v", results, err)
	}
}

// clamd hangs up in the middle of a message that is too long for it: what it said
// before counts.
func TestTooLong(t *testing.T) {
	f := newFilter(t, 0, filtertest.Serve(t, "tcp", func(c net.Conn) {
		_, _ = io.CopyN(io.Discard, c, 100_000)
		_, _ = io.WriteString(c, "INSTREAM size limit exceeded. ERROR\x00")
	}))
	results, err := f.Check(t.Context(), &mail.Message{Content: filtertest.Repeated(20_000_000)}, nil)
	if err != nil || len(results) != 1 || results[0].Symbol != "CLAMAV_LIMIT" || results[0].Fault != mail.FaultMessage || results[0].Err == nil {
		t.Errorf("%+v, %v", results, err)
	}
	filtertest.WellFormed(t, results)
}

// A message that clamd dies of twice is a result, for policy to hold it.
func TestUnscannable(t *testing.T) {
	f := newFilter(t, 0, filtertest.Serve(t, "tcp", answers("")))
	m := filtertest.Message("deadly")
	if results, err := f.Check(t.Context(), m, nil); err == nil {
		t.Fatalf("the first time: %v", results)
	}
	for range 2 {
		results, err := f.Check(t.Context(), m, nil)
		if err != nil || len(results) != 1 || results[0].Symbol != "CLAMAV_UNSCANNABLE" || results[0].Fault != mail.FaultMessage {
			t.Errorf("after that: %+v, %v", results, err)
		}
		filtertest.WellFormed(t, results)
	}
}

// cutOff is a content whose file was cut.
type cutOff struct{ mail.Bytes }

func (b cutOff) Size() int64 { return int64(len(b.Bytes)) + 1 }

// unreadable is a content whose file can't be read to its end.
type unreadable struct{ filtertest.Repeated }

func (u unreadable) WriteTo(w io.Writer) (int64, error) {
	_, _ = w.Write([]byte("a part"))
	return 6, errors.New("disk fell out")
}

// A part of a message must never be taken for the whole: clamd isn't told that
// it ended.
func TestContentFails(t *testing.T) {
	for _, c := range []mail.Content{cutOff{mail.Bytes("a part")}, cutOff{}, unreadable{100}} {
		f := newFilter(t, 0, filtertest.Serve(t, "unix", func(c net.Conn) {
			if b, err := readStream(c); err == nil {
				t.Errorf("clamd got a whole message: %q", b)
			}
		}))
		results, err := f.Check(t.Context(), &mail.Message{Content: c}, nil)
		if !errors.Is(err, engine.ErrContent) {
			t.Errorf("%T: %v, %v", c, results, err)
		}
	}
}

func TestSecondAddress(t *testing.T) {
	f := newFilter(t, 0, "unix:/nowhere/clamd", filtertest.Serve(t, "tcp", answers("stream: OK\x00")))
	for range 5 {
		if results, err := f.Check(t.Context(), filtertest.Message("x"), nil); err != nil || results != nil {
			t.Errorf("%v, %v", results, err)
		}
	}
}

func TestVersionAndPing(t *testing.T) {
	f := newFilter(t, 0, filtertest.Serve(t, "unix", func(c net.Conn) {
		b := make([]byte, 100)
		n, _ := c.Read(b)
		reply := map[string]string{
			"zVERSION\x00": "ClamAV 1.4.6/27800/Sat Nov 21 08:31:02 2026\x00",
			"zPING\x00":    "PONG\x00",
		}[string(b[:n])]
		_, _ = io.WriteString(c, reply)
	}))
	if err := f.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if !f.Signatures().IsZero() {
		t.Error("a date without having asked")
	}
	version, err := f.Version(t.Context())
	if err != nil || version != "ClamAV 1.4.6/27800/Sat Nov 21 08:31:02 2026" {
		t.Errorf("%q, %v", version, err)
	}
	if want := time.Date(2026, 11, 21, 8, 31, 2, 0, time.Local); !f.Signatures().Equal(want) {
		t.Errorf("%v", f.Signatures())
	}
}

func TestPingAndVersionFail(t *testing.T) {
	for _, reply := range []string{"", "PANG\x00", "PONG", "UNKNOWN COMMAND\x00"} {
		f := newFilter(t, 0, filtertest.Serve(t, "unix", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 100))
			_, _ = io.WriteString(c, reply)
		}))
		if err := f.Ping(t.Context()); err == nil {
			t.Errorf("%q is a pong", reply)
		}
		if !strings.HasSuffix(reply, "\x00") {
			if v, err := f.Version(t.Context()); err == nil {
				t.Errorf("%q is version %q", reply, v)
			}
		}
	}
}

func TestReadReplyLimit(t *testing.T) {
	for _, test := range []struct {
		size int
		ok   bool
	}{{maxReply - 1, true}, {maxReply, false}} {
		reply, err := readReply(strings.NewReader(strings.Repeat("a", test.size) + "\x00"))
		if (err == nil) != test.ok || test.ok && len(reply) != test.size {
			t.Errorf("%d octets: %d, %v", test.size, len(reply), err)
		}
	}
}

func TestCancelledDuringScan(t *testing.T) {
	f := newFilter(t, 0, filtertest.Serve(t, "unix", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	if _, err := f.Check(ctx, filtertest.Message("x"), nil); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
