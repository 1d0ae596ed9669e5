package traffic

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNewMessage(t *testing.T) {
	for _, c := range []struct {
		name, raw, stuffed string
		size               int
		eightBit           bool
	}{
		{"as it should be", "A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n", 11, false},
		{"bare LF", "A: b\n\nc\n", "A: b\r\n\r\nc\r\n", 11, false},
		{"bare CR", "A: b\r\n\r\nc\rd\r\n", "A: b\r\n\r\ncd\r\n", 12, false},
		{"CR CR LF", "A: b\r\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n", 11, false},
		{"NUL", "A: b\n\nc\x00d\n", "A: b\r\n\r\ncd\r\n", 12, false},
		{"no last newline", "A: b\n\nc", "A: b\r\n\r\nc\r\n", 11, false},
		{"dots", "A: b\n\n.\n..c\nd.\n", "A: b\r\n\r\n..\r\n...c\r\nd.\r\n", 20, false},
		{"8 bit", "A: b\n\n\xe9\n", "A: b\r\n\r\n\xe9\r\n", 11, true},
		{"mbox", "From ann Mon Mar 2\nA: b\n\nc\n", "A: b\r\n\r\nc\r\n", 11, false},
		{"header only", "A: b", "A: b\r\n", 6, false},
	} {
		m, ok := NewMessage([]byte(c.raw))
		if !ok || string(m.Stuffed) != c.stuffed || m.Size != c.size || m.EightBit != c.eightBit {
			t.Errorf("%s: %q %d %v %v", c.name, m.Stuffed, m.Size, m.EightBit, ok)
		}
	}
}

func TestNewMessageNone(t *testing.T) {
	received := func(n int) string { return strings.Repeat("RECEIVED: x\n\ty\n", n) + "\nReceived: in the body\n" }
	for raw, want := range map[string]bool{
		"":                        false,
		"path\tlabel\tkind\na\tb": false,
		"no field\n":              false,
		": no name\n":             false,
		"\nA: b\n":                false,
		"é: b\n":                  false,
		"From only\n":             false,
		received(maxReceived):     true,
		received(maxReceived + 1): false,
	} {
		if _, ok := NewMessage([]byte(raw)); ok != want {
			t.Errorf("%.40q: %v", raw, ok)
		}
	}
}

func TestStuffFirstDot(t *testing.T) {
	content := []byte(".a\r\n")
	if got := string(stuff(content)); got != "..a\r\n" {
		t.Errorf("%q", got)
	}
}

// What the sink ends a content at is never inside one.
func FuzzNewMessage(f *testing.F) {
	for _, s := range []string{"A: b\n\n.\n", "A: b\r\n\r\n.\r\n.\r\n", "From x\nA: b\n\n\r.\r\n", "A:\n.\n\n..", "A:\r.\r\r\n.\n\x00.\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, ok := NewMessage(raw)
		if !ok {
			return
		}
		wire := append(bytes.Clone(m.Stuffed), ".\r\n"...)
		if at := bytes.Index(wire, []byte("\r\n.\r\n")); at != len(wire)-5 {
			t.Errorf("%q ends at %d", wire, at)
		}
		if bytes.ContainsRune(wire, 0) || bytes.Count(wire, []byte("\n")) != bytes.Count(wire, []byte("\r\n")) || bytes.Count(wire, []byte("\r")) != bytes.Count(wire, []byte("\n")) {
			t.Errorf("%q has a NUL, a bare CR or a bare LF", wire)
		}
	})
}

func TestReadFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.eml": "A: 1\n\n", "sub/b": "A: 22\n\n", "c.eml": "A: 333\n\n", "index.tsv": "path\tlabel\n", "sub/empty": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := ReadFolder(dir, 10)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d messages, %v", len(all), err)
	}
	again, _ := ReadFolder(dir, 10)
	for i := range all {
		if !bytes.Equal(all[i].Stuffed, again[i].Stuffed) {
			t.Error("another order at the second time")
		}
	}
	if two, err := ReadFolder(dir, 2); err != nil || len(two) != 2 {
		t.Errorf("two: %d, %v", len(two), err)
	}
	if _, err := ReadFolder(t.TempDir(), 1); err == nil {
		t.Error("an empty folder has messages")
	}
	if _, err := ReadFolder(filepath.Join(dir, "none"), 1); err == nil {
		t.Error("a missing folder has messages")
	}
}

func TestGenerate(t *testing.T) {
	const wanted = 34_000
	list := Generate(2000)
	if mean := MeanSize(list); mean < 0.8*meanText || mean > 1.3*meanText {
		t.Errorf("mean of text: %.0f", mean)
	}
	RaiseMean(list, wanted)
	if mean := MeanSize(list); mean < 0.9*wanted || mean > 1.1*wanted {
		t.Errorf("mean with attachments: %.0f", mean)
	}
	before := MeanSize(list)
	RaiseMean(list, 0)
	if MeanSize(list) != before {
		t.Error("a mean of 0 changed the mail")
	}
	for _, m := range list {
		if m.EightBit || len(m.Stuffed) == 0 {
			t.Fatalf("%.200q", m.Stuffed)
		}
	}
}

func TestLarge(t *testing.T) {
	for _, size := range []int{10_000, 1_234_567} {
		m := Large(size)
		if with := m.Size + len(token(1000, 1000)); with > size || with < size-400 {
			t.Errorf("%d: %d octets", size, with)
		}
		if !bytes.HasSuffix(m.Stuffed, []byte("--=_part--\r\n")) {
			t.Error("cut")
		}
	}
}
