package compose

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"postern/gateway/mail"
)

// onDisk is content in a file, as large messages are.
func onDisk(t testing.TB, content string) mail.Content {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, []byte("before"+content+"behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return mail.NewFile(f, int64(len("before")), int64(len(content)))
}

func TestAssemble(t *testing.T) {
	span := func(start, end int64) mail.Span { return mail.Span{Start: start, End: end} }
	tests := []struct {
		name, head, original string
		edits                []edit
		want                 string
	}{
		{name: "nothing"},
		{name: "head only", head: "head", want: "head"},
		{name: "original only", original: "0123456789", want: "0123456789"},
		{name: "cut at the start", head: "h", original: "0123", edits: []edit{{span: span(0, 2)}}, want: "h23"},
		{name: "cut at the end", original: "0123", edits: []edit{{span: span(2, 4)}}, want: "01"},
		{name: "cut all", original: "0123", edits: []edit{{span: span(0, 4)}}, want: ""},
		{name: "insert", original: "0123", edits: []edit{{span(2, 2), []byte("ab")}}, want: "01ab23"},
		{
			name: "replace twice", original: "0123456789",
			edits: []edit{{span(1, 3), []byte("a")}, {span(3, 4), []byte("b")}}, want: "0ab456789",
		},
		{
			name: "the first of two that overlap", original: "0123456789",
			edits: []edit{{span(1, 5), []byte("a")}, {span(2, 3), []byte("b")}}, want: "0a56789",
		},
		{name: "beyond the end", original: "0123", edits: []edit{{span: span(2, 9)}}, want: "01"},
		{name: "a span that ends before it starts", original: "0123", edits: []edit{{span(2, 1), []byte("a")}}, want: "01a23"},
		{name: "more segments than there is room", original: "0123456789", edits: []edit{
			{span(1, 2), []byte("a")}, {span(3, 4), []byte("b")}, {span(5, 6), []byte("c")}, {span(7, 8), []byte("d")},
		}, want: "0a2b4c6d89"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkContent(t, assemble([]byte(test.head), mail.Bytes(test.original), test.edits), test.want)
			checkContent(t, assemble([]byte(test.head), onDisk(t, test.original), test.edits), test.want)
		})
	}
}

// checkContent compares c with want by all its methods, at every offset.
func checkContent(t testing.TB, c mail.Content, want string) {
	t.Helper()
	if c.Size() != int64(len(want)) {
		t.Errorf("size %d, want %d", c.Size(), len(want))
	}
	for range 2 { // WriteTo begins anew each time
		var b bytes.Buffer
		if n, err := c.WriteTo(&b); err != nil || b.String() != want || n != int64(len(want)) {
			t.Errorf("WriteTo: %q, %d, %v; want %q", b.String(), n, err, want)
		}
	}
	if err := iotest.TestReader(mail.NewReader(c), []byte(want)); err != nil {
		t.Error(err)
	}
	for off := range len(want) + 2 {
		for _, size := range []int{0, 1, 3, len(want) + 1} {
			checkReadAt(t, c, want, off, size)
		}
	}
	if n, err := c.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
		t.Errorf("ReadAt(-1): %d, %v", n, err)
	}
}

func checkReadAt(t testing.TB, c mail.Content, want string, off, size int) {
	t.Helper()
	p := make([]byte, size)
	n, err := c.ReadAt(p, int64(off))
	expect := want[min(off, len(want)):min(off+size, len(want))]
	if string(p[:n]) != expect || (n < size) != (err == io.EOF) && size > 0 {
		t.Errorf("ReadAt(%d, %d): %q, %v; want %q", size, off, p[:n], err, expect)
	}
}

// writes counts what is written at once.
type writes []int

func (s *writes) Write(p []byte) (int, error) {
	*s = append(*s, len(p))
	return len(p), nil
}

func TestWriteToHandsBigSlicesOn(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 1<<20)
	var got writes
	if _, err := assemble([]byte("head"), mail.Bytes(body), nil).WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[1] != len(body) {
		t.Errorf("written in %v", got)
	}
}

// short is content that ends before its size says.
type short struct{ mail.Bytes }

func (s short) Size() int64 { return int64(len(s.Bytes)) + 1 }

// failing is content whose disk is broken.
type failing struct{ mail.Bytes }

var errDisk = errors.New("disk")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestOriginalThatCannotBeRead(t *testing.T) {
	tests := []struct {
		name     string
		original mail.Content
		want     error
	}{
		{"shorter than it says", short{mail.Bytes("abc")}, io.ErrUnexpectedEOF},
		{"failing", failing{mail.Bytes("abc")}, errDisk},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := assemble([]byte("head"), test.original, nil)
			if _, err := c.WriteTo(io.Discard); !errors.Is(err, test.want) {
				t.Errorf("WriteTo: %v", err)
			}
			if _, err := c.ReadAt(make([]byte, 8), 0); !errors.Is(err, test.want) {
				t.Errorf("ReadAt: %v", err)
			}
		})
	}
}

func TestWriteToFails(t *testing.T) {
	for _, original := range []mail.Content{mail.Bytes("abc"), onDisk(t, "abc")} {
		w := &bounded{left: 5}
		n, err := assemble([]byte("head"), original, nil).WriteTo(w)
		if !errors.Is(err, errDisk) || n != 5 {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// bounded takes so many octets.
type bounded struct{ left int }

func (b *bounded) Write(p []byte) (int, error) {
	n := min(b.left, len(p))
	b.left -= n
	if n < len(p) {
		return n, errDisk
	}
	return n, nil
}
