package smtpd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// read reads a content that comes as r brings it, and says where it stopped:
// left is what is still unread in the buffer.
func read(r io.Reader, size int64, normalise, drain bool) (got string, ended bool, left string, err error) {
	in := &input{}
	in.widen()
	defer in.release()
	x := newContent(in, size)
	x.normalise = normalise
	x.silence = time.Minute
	x.read = func(time.Time) error { return in.fill(r) }
	b, err := io.ReadAll(x)
	if drain {
		ended = x.drain(1 << 20)
	}
	return string(b), ended, string(in.unread()), err
}

// slow is the reference: what read has to come to, octet by octet and without
// any cleverness. used is how many octets the content had, its end included;
// -1 where there is no end.
func slow(raw string, size int64, normalise bool) (want string, used int, err error) {
	used = -1
	if i := strings.Index("\r\n"+raw, "\r\n.\r\n"); i >= 0 {
		used = i + 3
	}
	var out []byte
	fail := func(err error) (string, int, error) { return string(out), used, err }
	at := func(i int) byte {
		if i < 0 {
			return "\r\n"[i+2]
		}
		if i < len(raw) {
			return raw[i]
		}
		return 'x'
	}
	for i := 0; i < len(raw); i++ {
		if used >= 0 && i == used-3 {
			return string(out), used, nil
		}
		rest := raw[i:]
		bol := at(i-2) == '\r' && at(i-1) == '\n'
		var add string
		bare := false
		switch {
		case rest == "\r", bol && (rest == "." || rest == ".\r"):
			return fail(ErrCut)
		case bol && rest[0] == '.':
			continue
		case strings.HasPrefix(rest, "\r\n"):
			add = "\r\n"
			i++
		case rest[0] == '\r' || rest[0] == '\n':
			add, bare = "\r\n", true
		default:
			add = rest[:1]
		}
		switch {
		case bare && !normalise, add == "\x00":
			return fail(ErrBareNewline)
		case len(out)+len(add) > int(size):
			return fail(ErrTooBig)
		}
		out = append(out, add...)
	}
	return fail(ErrCut)
}

// compare holds the content reader against the reference, however the octets
// come.
func compare(t *testing.T, raw string, size int64, normalise bool) {
	t.Helper()
	want, used, wantErr := slow(raw, size, normalise)
	for name, r := range map[string]io.Reader{
		"at once":     strings.NewReader(raw),
		"single":      iotest.OneByteReader(strings.NewReader(raw)),
		"halves":      iotest.HalfReader(strings.NewReader(raw)),
		"end at once": iotest.DataErrReader(strings.NewReader(raw)),
	} {
		got, ended, left, err := read(r, size, normalise, true)
		if !errors.Is(err, wantErr) {
			t.Fatalf("%q %s: got %v, want %v", raw, name, err, wantErr)
		}
		if errors.Is(err, io.EOF) {
			t.Fatalf("%q: the error of a connection looks like an end: %v", raw, err)
		}
		if err == nil && got != want {
			t.Fatalf("%q %s: got %q, want %q", raw, name, got, want)
		}
		if !errors.Is(err, ErrCut) && ended != (used >= 0) {
			t.Fatalf("%q %s: ended %v, used %d", raw, name, ended, used)
		}
		if ended && name == "at once" && left != raw[used:] {
			t.Fatalf("%q: left %q, want %q", raw, left, raw[used:])
		}
	}
}

// breaks are what a lenient server takes for the end of a line.
var breaks = []string{"", "\n", "\r", "\r\n", "\r\r\n", "\n\r", "\r\n\x00", "\x00\r\n", "\r\x00\n", "\x00", "\r\n\r\n", "\n\n", "\r\n ", "\r\r", "\v", "\f", "\u0085", "\u2028"}

// TestEnd tries every break before and behind the dot, and others around it.
func TestEnd(t *testing.T) {
	for _, before := range breaks {
		for _, behind := range breaks {
			for _, dot := range []string{".", "..", ". ", ".\x00"} {
				raw := "body" + before + dot + behind + "MAIL FROM:<evil@evil.test>\r\n.\r\n"
				for _, normalise := range []bool{false, true} {
					compare(t, raw, 1000, normalise)
					compare(t, dot+behind+raw, 1000, normalise)
				}
				compare(t, raw, 7, false)
				got, _, _, err := read(strings.NewReader(raw), 1000, false, false)
				if before == "\r\n" && dot+behind == ".\r\n" {
					if err != nil || got != "body\r\n" {
						t.Errorf("%q: %q, %v", raw, got, err)
					}
				} else if head, _, _ := strings.Cut(raw, "MAIL"); err == nil && !strings.Contains(got, "MAIL") && !strings.Contains(head, "\r\n.\r\n") {
					t.Errorf("%q: ended early with %q", raw, got)
				}
			}
		}
	}
}

func TestContentSizes(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		size int64
		err  error
	}{
		{"\r\n.\r\n", 2, nil},
		{"\r\n.\r\n", 1, ErrTooBig},
		{".\r\n", 0, nil},
		{"..\r\n.\r\n", 3, nil},
		{"..\r\n.\r\n", 2, ErrTooBig},
		{"x\n.\r\n\r\n.\r\n", 1, ErrBareNewline},
		{"xy\n.\r\n\r\n.\r\n", 1, ErrTooBig},
		{"xy\x00\r\n.\r\n", 1, ErrTooBig},
		{"x\x00\r\n.\r\n", 1, ErrBareNewline},
	} {
		if _, _, _, err := read(strings.NewReader(tt.raw), tt.size, false, false); err != tt.err {
			t.Errorf("%q in %d: %v, want %v", tt.raw, tt.size, err, tt.err)
		}
		compare(t, tt.raw, tt.size, false)
	}
	// Normalised, a bare newline is two octets.
	if _, _, _, err := read(strings.NewReader("x\n\r\n.\r\n"), 5, true, false); err != nil {
		t.Error(err)
	}
	if _, _, _, err := read(strings.NewReader("x\n\r\n.\r\n"), 4, true, false); err != ErrTooBig {
		t.Error(err)
	}
}

// Lines of any length, across the borders of the buffer, are the same content
// when read and when written.
func TestContentLines(t *testing.T) {
	for _, n := range []int{1, 998, largeBuffer - 3, largeBuffer - 2, largeBuffer - 1, largeBuffer, largeBuffer + 1, 200_000} {
		line := strings.Repeat("x", n) + "\r\n"
		raw := line + "." + strings.Repeat(".dot\r\n.", 3) + line + ".\r\n"
		want, _, err := slow(raw, 1<<20, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range []int{7, 4096, 1 << 20} {
			x := newContent(&input{}, 1<<20)
			x.in.widen()
			r := &chunks{strings.NewReader(raw), chunk}
			x.read = func(time.Time) error { return x.in.fill(r) }
			var b bytes.Buffer
			head := make([]byte, 5)
			if _, err := io.ReadFull(x, head); err != nil {
				t.Fatal(err)
			}
			m, err := x.WriteTo(&b)
			if got := string(head) + b.String(); err != nil || got != want || m != int64(b.Len()) {
				t.Errorf("line of %d in chunks of %d: %d of %d octets, %v", n, chunk, len(got), len(want), err)
			}
			if n, err := x.Read(head); n != 0 || err != io.EOF {
				t.Error(n, err)
			}
			if x.in.large != nil {
				t.Error("the large buffer is held after the end")
			}
		}
	}
}

type chunks struct {
	io.Reader
	n int
}

func (c *chunks) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), c.n)]) }

type failing struct{ short bool }

func (f failing) Write(p []byte) (int, error) {
	if f.short {
		return 0, nil
	}
	return 0, errors.New("disk full")
}

func TestWriteToFails(t *testing.T) {
	for _, w := range []io.Writer{failing{}, failing{short: true}} {
		x := newContent(&input{}, 100)
		r := strings.NewReader("some\r\n.\r\n")
		x.read = func(time.Time) error { return x.in.fill(r) }
		if _, err := x.WriteTo(w); err == nil {
			t.Error("no error")
		}
		if !x.drain(100) {
			t.Error("the end was not found behind it")
		}
	}
}

func TestDrainIsBounded(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		max  int64
		want bool
	}{
		{"0123456789\r\n.\r\n", 15, true},
		{"0123456789\r\n.\r\n", 1, true}, // found in what was read already
		{strings.Repeat("0123456\r\n", 10_000) + ".\r\n", 1000, false},
		{strings.Repeat("0123456\r\n", 10_000) + ".\r\n", 90_000, true},
		{"\r\n..\r\n.\r\n", 1000, true},
		{"\r\n.\r", 1000, false},
		{"", 1000, false},
		{"\n.\r\n", 1000, false},
		{"\n.\r\n\r\n.\r\n", 1000, true},
	} {
		x := newContent(&input{}, 0)
		r := strings.NewReader(tt.raw)
		x.read = func(time.Time) error { return x.in.fill(r) }
		if got := x.drain(tt.max); got != tt.want {
			t.Errorf("%.40q: %v", tt.raw, got)
		}
	}
}

func FuzzContent(f *testing.F) {
	for _, before := range breaks {
		f.Add("x"+before+"."+before+"y\r\n.\r\nz", int64(100), false)
	}
	f.Add("..\r\n...\r\n.x\r\n.\r\n", int64(8), true)
	f.Fuzz(func(t *testing.T, raw string, size int64, normalise bool) {
		if len(raw) > 2000 {
			return
		}
		compare(t, raw, max(0, min(size, 5000)), normalise)
	})
}

func BenchmarkContent(b *testing.B) {
	for _, normalise := range []bool{false, true} {
		b.Run(fmt.Sprintf("normalise=%v", normalise), func(b *testing.B) {
			raw := []byte(strings.Repeat(strings.Repeat("x", 72)+"\r\n", 34_000/74) + ".\r\n")
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			in := &input{}
			in.widen()
			r := bytes.NewReader(raw)
			for b.Loop() {
				r.Reset(raw)
				in.widen()
				x := newContent(in, 1<<20)
				x.normalise = normalise
				x.read = func(time.Time) error { return in.fill(r) }
				if _, err := x.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
