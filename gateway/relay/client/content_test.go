package client

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// pieces is content that is written in pieces of n octets.
type pieces struct {
	mail.Bytes
	n int
}

func (p pieces) WriteTo(w io.Writer) (int64, error) {
	rest := p.Bytes
	for len(rest) > 0 {
		n := min(p.n, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return p.Size(), nil
}

// stuffed is c as it goes out.
func stuffed(c mail.Content) (string, error) {
	var out bytes.Buffer
	w := newDotWriter(func(b []byte) error { _, err := out.Write(b); return err })
	defer w.free()
	_, err := c.WriteTo(w)
	if err == nil {
		err = w.end(c)
	}
	return out.String(), err
}

func TestDotWriter(t *testing.T) {
	tests := []struct {
		in, want string
		err      error
	}{
		{"", ".\r\n", nil},
		{"a", "a\r\n.\r\n", nil},
		{"a\r\n", "a\r\n.\r\n", nil},
		{"\r\n", "\r\n.\r\n", nil},
		{".", "..\r\n.\r\n", nil},
		{".\r\n", "..\r\n.\r\n", nil},
		{"a\r\n.\r\nb.\r\n..\r\n", "a\r\n..\r\nb.\r\n...\r\n.\r\n", nil},
		{"\r\n\r\n.", "\r\n\r\n..\r\n.\r\n", nil},
		{"a.b\r\n", "a.b\r\n.\r\n", nil},
		{"\xff\xfe\r\n", "\xff\xfe\r\n.\r\n", nil},
		{"\n", "", ErrNotStrict},
		{"\r", "", ErrNotStrict},
		{"a\r", "", ErrNotStrict},
		{"a\rb\r\n", "", ErrNotStrict},
		{"a\nb\r\n", "", ErrNotStrict},
		{"a\r\r\n", "", ErrNotStrict},
		{"a\r\n\n", "", ErrNotStrict},
		{"a\r\n\nb\r\r\n", "", ErrNotStrict}, // as many CRs as LFs
		{"a\n\rb", "", ErrNotStrict},
		{"a\x00\r\n", "", ErrNotStrict},
		{"a\r\n.\n", "", ErrNotStrict},
	}
	for _, test := range tests {
		for n := 1; n <= len(test.in)+1; n++ {
			got, err := stuffed(pieces{mail.Bytes(test.in), n})
			if !errors.Is(err, test.err) || err == nil && got != test.want {
				t.Errorf("%q in pieces of %d: %q (%v), want %q (%v)", test.in, n, got, err, test.want, test.err)
			}
			if err != nil && strings.HasSuffix("\r\n"+got, "\r\n.\r\n") {
				t.Errorf("%q in pieces of %d: ended with %q", test.in, n, got)
			}
		}
	}
}

// The end of a block may be anywhere in a line end, a dot, or the final dot.
func TestDotWriterBlocks(t *testing.T) {
	for n := block - 8; n < block+8; n++ {
		line := strings.Repeat("x", n) + "\r\n.y\r\n"
		var sizes []int
		w := newDotWriter(func(b []byte) error { sizes = append(sizes, len(b)); return nil })
		_, _ = w.Write([]byte(line))
		if err := w.end(mail.Bytes(line)); err != nil {
			t.Fatal(err)
		}
		w.free()
		total := 0
		for _, size := range sizes {
			total += size
		}
		if total != len(line)+len(".")+len(".\r\n") || len(sizes) > 2 || sizes[len(sizes)-1] == 0 {
			t.Errorf("%d octets in writes of %v", len(line), sizes)
		}
	}
}

func TestDotWriterError(t *testing.T) {
	broken := errors.New("broken")
	calls := 0
	w := newDotWriter(func([]byte) error { calls++; return broken })
	defer w.free()
	text := mail.Bytes(strings.Repeat("x", 3*block))
	if _, err := w.Write(text); err != broken || w.err != broken {
		t.Error(err)
	}
	if err := w.end(text); err != broken || calls != 1 {
		t.Errorf("%v after %d writes", err, calls)
	}
}

// Content that is not as long as it says is never ended.
func TestDotWriterShort(t *testing.T) {
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, []byte("Subject: x\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := stuffed(mail.NewFile(file, 0, 100)); err == nil || strings.Contains(got, ".\r\n") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := stuffed(lying{mail.Bytes("a\r\n")}); err == nil || strings.Contains(got, ".\r\n") {
		t.Errorf("%q, %v", got, err)
	}
}

type lying struct{ mail.Bytes }

func (lying) Size() int64 { return 4 }

// FuzzDotWriter: what is stuffed un-stuffs to what it was, with its last line
// ended; CRLF.CRLF stands at its end and nowhere else; and what is not strict
// is never ended.
func FuzzDotWriter(f *testing.F) {
	for _, seed := range []string{"", ".", "a\r\n.\r\n", ".\r\n.\r\n", "a\rb", "\n.", "\r\n..\r\n", "\r\r\n"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		got, err := stuffed(pieces{in, max(n, 1)})
		if (err == nil) != plainlyStrict(in) {
			t.Fatalf("%q: error %v", in, err)
		}
		end := strings.Index("\r\n"+got, "\r\n.\r\n")
		if err != nil {
			if end >= 0 {
				t.Fatalf("%q: ended as %q", in, got)
			}
			return
		}
		if end != len(got)-len(".\r\n") {
			t.Fatalf("%q: end of data in the middle of %q", in, got)
		}
		want := string(in)
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\r\n"
		}
		var back strings.Builder
		for line := range strings.Lines(got[:end]) {
			back.WriteString(strings.TrimPrefix(line, "."))
		}
		if back.String() != want {
			t.Fatalf("%q came back as %q", in, back.String())
		}
	})
}

func plainlyStrict(b []byte) bool {
	for i, c := range b {
		switch {
		case c == 0,
			c == '\n' && (i == 0 || b[i-1] != '\r'),
			c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			return false
		}
	}
	return true
}

func BenchmarkDotWriter(b *testing.B) {
	text := mail.Bytes(strings.Repeat(strings.Repeat("x", 74)+"\r\n", 34_000/76))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		w := newDotWriter(func(p []byte) error { _, err := io.Discard.Write(p); return err })
		_, _ = w.Write(text)
		_ = w.end(text)
		w.free()
	}
}
