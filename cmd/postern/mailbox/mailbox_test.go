package mailbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read collects what Messages yields: names and contents in turn.
func read(t *testing.T, in string, paths ...string) (got []string) {
	t.Helper()
	for name, f := range Messages(paths, strings.NewReader(in)) {
		text := string(f.Content)
		if f.Err != nil {
			text = "error"
		}
		got = append(got, filepath.Base(name), text)
	}
	return got
}

func TestMessages(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.eml": "Subject: a\r\n\r\nbody\r\n", "sub/b.eml": "Subject: b\n\nbody\n", "empty": "",
		"mbox": "From x@y Sun\nSubject: 1\n\n>From me\nFrom the start of a line, not a message\n\nFrom z@y Mon\nSubject: 2\n\nlast line",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := "Subject: a\r\n\r\nbody\r\n", "Subject: b\r\n\r\nbody\r\n"
	one := "Subject: 1\r\n\r\n>From me\r\nFrom the start of a line, not a message\r\n\r\n"
	two := "Subject: 2\r\n\r\nlast line"
	for _, c := range []struct {
		name  string
		paths []string
		want  []string
	}{
		{"a file", []string{"a.eml"}, []string{"a.eml", a}},
		{"line ends become CRLF", []string{"sub/b.eml"}, []string{"b.eml", b}},
		{"files in the order given", []string{"sub/b.eml", "a.eml"}, []string{"b.eml", b, "a.eml", a}},
		{"an empty file", []string{"empty"}, []string{"empty", ""}},
		{"a mailbox", []string{"mbox"}, []string{"mbox#1", one, "mbox#2", two}},
		{"a folder", []string{"."}, []string{"a.eml", a, "empty", "", "mbox#1", one, "mbox#2", two, "b.eml", b}},
		{"what is not there, and the rest", []string{"nowhere", "a.eml"}, []string{"nowhere", "error", "a.eml", a}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, p := range c.paths {
				c.paths[i] = filepath.Join(dir, p)
			}
			if d := cmp.Diff(c.want, read(t, "", c.paths...)); d != "" {
				t.Error(d)
			}
		})
	}
	if d := cmp.Diff([]string{"-", b}, read(t, "Subject: b\n\nbody\n", "-")); d != "" {
		t.Errorf("standard input: %s", d)
	}
}

func TestCRLF(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "\n": "\r\n", "\r\n": "\r\n", "a\n\nb\r\n": "a\r\n\r\nb\r\n", "\r\r\n": "\r\r\n", "\n\r": "\r\n\r"} {
		if got := string(crlf([]byte(in))); got != want {
			t.Errorf("crlf(%q) = %q, want %q", in, got, want)
		}
	}
}

// A link that a user names is read; one that lies in a folder is not followed.
func TestNamedLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.eml"), []byte("A: b\r\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.eml", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range Messages([]string{filepath.Join(dir, "link"), dir}, nil) {
		n++
	}
	if n != 2 {
		t.Errorf("%d messages, want the link that was named, and the file in the folder", n)
	}
}

// Whatever a file holds, all of it is in one message or another.
func FuzzSplit(f *testing.F) {
	f.Add("From x\nA: b\n\nc\n\nFrom y\n\n")
	f.Add("A: b\n\nFrom c\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		split("f", strings.NewReader(text), func(_ string, m File) bool {
			if m.Err != nil {
				t.Fatal(m.Err)
			}
			n += strings.Count(string(m.Content), "\n")
			return true
		})
		if got := strings.Count(text, "\n"); n > got {
			t.Errorf("%d lines of %d", n, got)
		}
	})
}
