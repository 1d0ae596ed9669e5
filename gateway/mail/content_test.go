package mail

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"
)

// filed is b in a file, between other octets.
func filed(t testing.TB, b []byte) *File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, append(append([]byte("before"), b...), "behind"...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return NewFile(f, 6, int64(len(b)))
}

func TestContent(t *testing.T) {
	want := []byte("the octets of a message")
	for _, c := range []Content{Bytes(want), filed(t, want)} {
		if c.Size() != int64(len(want)) {
			t.Errorf("%T: size %d", c, c.Size())
		}
		for range 2 { // each WriteTo writes all
			var b bytes.Buffer
			if n, err := c.WriteTo(&b); n != c.Size() || err != nil || !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%T: %d %v %q", c, n, err, b.Bytes())
			}
		}
		if err := iotest.TestReader(NewReader(c), want); err != nil {
			t.Errorf("%T: %v", c, err)
		}
		for _, off := range []int64{-1, c.Size(), c.Size() + 1} {
			if n, err := c.ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
				t.Errorf("%T: %d %v at %d", c, n, err, off)
			}
		}
		for _, r := range []struct {
			length int
			off    int64
			want   string
			err    error
		}{
			{0, 0, "", nil},
			{3, 0, "the", nil},
			{6, 4, "octets", nil},
			{len(want), 0, string(want), nil},
			{len(want) + 1, 0, string(want), io.EOF},
			{7, int64(len(want)) - 7, "message", nil},
			{100, int64(len(want)) - 7, "message", io.EOF}, // what follows in the file is none of it
		} {
			p := make([]byte, r.length)
			if n, err := c.ReadAt(p, r.off); string(p[:n]) != r.want || err != r.err {
				t.Errorf("%T: %q %v at %d, want %q %v", c, p[:n], err, r.off, r.want, r.err)
			}
		}
	}
}

// TestFileShort holds that a file that lost its end is no shorter message.
func TestFileShort(t *testing.T) {
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := NewFile(f, 0, 10).WriteTo(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	_, _, oddities := Read(NewFile(f, 0, 10), Limits{})
	if s := symbols(oddities); s[len(s)-1] != ContentUnreadable {
		t.Error(oddities)
	}
}

// TestContentSizes goes around the size of the buffer that files are written with.
func TestContentSizes(t *testing.T) {
	for _, size := range []int{0, 1, copyBuffer - 1, copyBuffer, copyBuffer + 1, 3*copyBuffer + 7} {
		want := octets(size)
		for _, c := range []Content{Bytes(want), filed(t, want)} {
			var b bytes.Buffer
			if n, err := c.WriteTo(&b); n != int64(size) || err != nil || !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%T of %d octets: %d, %v", c, size, n, err)
			}
			if got, err := io.ReadAll(NewReader(c)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%T of %d octets: read %d, %v", c, size, len(got), err)
			}
		}
	}
}

// refusing takes so many octets and no more.
type refusing struct{ room int }

func (r *refusing) Write(p []byte) (int, error) {
	n := min(len(p), r.room)
	r.room -= n
	if n < len(p) {
		return n, errBroken
	}
	return n, nil
}

func TestContentWriteError(t *testing.T) {
	want := octets(copyBuffer + 100)
	for _, room := range []int{0, 1, copyBuffer, copyBuffer + 99} {
		for _, c := range []Content{Bytes(want), filed(t, want)} {
			if n, err := c.WriteTo(&refusing{room}); n != int64(room) || !errors.Is(err, errBroken) {
				t.Errorf("%T into %d octets: %d, %v", c, room, n, err)
			}
		}
	}
}

// TestContentTogether holds that several may read and write content at once.
func TestContentTogether(t *testing.T) {
	want := octets(2*copyBuffer + 1)
	for _, c := range []Content{Bytes(want), filed(t, want)} {
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				var b bytes.Buffer
				if _, err := c.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), want) {
					t.Errorf("%T written: %v", c, err)
				}
			})
			group.Go(func() {
				if got, err := io.ReadAll(NewReader(c)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%T read: %v", c, err)
				}
			})
		}
		group.Wait()
	}
}

// TestFileClosed holds that a file that cannot be read is an error of its own.
func TestFileClosed(t *testing.T) {
	c := filed(t, []byte("some octets"))
	if err := c.file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if n, err := c.WriteTo(io.Discard); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Error(n, err)
	}
}
