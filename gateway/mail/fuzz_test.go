package mail

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzRead holds that the reader never fails, that its tree is one, that content
// in memory and in a file make the same tree, and that limits hold.
func FuzzRead(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	limits := Limits{Depth: 5, Parts: 20, HeaderBytes: 2000, Fields: 30}
	f.Fuzz(func(t *testing.T, content []byte) {
		before := bytes.Clone(content)
		h, parts, oddities := Read(Bytes(content), limits)
		checkTree(t, content, parts)
		if len(parts) > limits.Parts || len(oddities) > maxOddities || len(h) > limits.Fields {
			t.Fatalf("%d parts, %d oddities, %d fields", len(parts), len(oddities), len(h))
		}
		for i := range parts {
			if parts[i].Depth > limits.Depth {
				t.Fatalf("part %d is at depth %d", i, parts[i].Depth)
			}
			n, err := io.Copy(io.Discard, parts[i].Open())
			if err != nil || n > parts[i].Body.Len() {
				t.Fatalf("part %d: %d octets of %d, %v", i, n, parts[i].Body.Len(), err)
			}
		}
		memory := describe(t, h, parts, oddities)
		if file := describeTree(t, stored{content}, limits); file != memory {
			t.Fatal(cmp.Diff(memory, file))
		}
		if !bytes.Equal(before, content) {
			t.Fatal("the content was changed")
		}
	})
}

func describeTree(t testing.TB, c Content, l Limits) string {
	h, parts, oddities := Read(c, l)
	return describe(t, h, parts, oddities)
}

// TestWindow moves a small multipart over the edges of the window and of its
// pieces, so that each of its lines is cut somewhere.
func TestWindow(t *testing.T) {
	tail := "\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\nc\r\n--b--\r\n"
	head := someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/x-a\r\n\r\n"
	for _, edge := range []int{piece, window, 2 * window} {
		for shift := -len(tail) - 4; shift < 4; shift++ {
			for _, filler := range []string{strings.Repeat("x", edge), strings.Repeat("x\r\n", edge/3+1)[:edge]} {
				content := []byte(head + filler[:edge-len(head)+shift] + tail)
				memory, file := describeTree(t, Bytes(content), Limits{}), describeTree(t, stored{content}, Limits{})
				if memory != file || !strings.Contains(memory, `"2" text/html quoted-printable body="a=bc"`) || strings.Contains(memory, "oddity") {
					t.Fatalf("edge %d, shift %d:\n%s\n%s", edge, shift, memory, file)
				}
			}
		}
	}
}

// TestLongLine holds that a line of any length is read like any other.
func TestLongLine(t *testing.T) {
	for _, length := range []int{piece - 1, piece, piece + 1, window, 3*window + 7} {
		content := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("x", length) + "\r\n--b--" + strings.Repeat(" ", 100) + "\r\n")
		for _, in := range []Content{Bytes(content), stored{content}} {
			_, parts, oddities := Read(in, Limits{})
			if len(parts) != 2 || parts[1].Body.Len() != int64(length) || len(oddities) != 0 {
				t.Errorf("%d: %+v %v", length, parts, oddities)
			}
		}
	}
}

// TestLongDelimiter holds that a line that begins as a boundary and is longer than
// what is looked at in one go is none.
func TestLongDelimiter(t *testing.T) {
	content := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b" + strings.Repeat(" ", piece) + "\r\ntwo\r\n--b--\r\n")
	for _, in := range []Content{Bytes(content), stored{content}} {
		if _, parts, _ := Read(in, Limits{}); len(parts) != 2 {
			t.Errorf("%T: %d parts", in, len(parts))
		}
	}
}
