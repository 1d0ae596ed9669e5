package mail

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/gateway/mail/mime"
)

func symbols(oddities []Oddity) (names []string) {
	for _, o := range oddities {
		names = append(names, o.Symbol)
	}
	return names
}

const someHeader = "From: a@example.com\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"

// multipart is a message with n parts that hold text.
func multipart(n int) []byte {
	return []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", n) + "--b--\r\n")
}

// deep is a message with n multiparts, each within the one before.
func deep(n int) []byte {
	var b bytes.Buffer
	b.WriteString(someHeader)
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nx\r\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.Bytes()
}

// matryoshka is n messages, each attached to the one around it.
func matryoshka(n int) []byte {
	return []byte(someHeader + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) + "Subject: x\r\n\r\nx\r\n")
}

// TestLimits goes up to each limit, where nothing may be noted, and one beyond.
func TestLimits(t *testing.T) {
	fields := func(n int) []byte { return []byte(someHeader + strings.Repeat("X: y\r\n", n-2) + "\r\nbody\r\n") }
	octets := func(n int) []byte {
		return []byte(someHeader + "X: " + strings.Repeat("x", n-len(someHeader)-5) + "\r\n\r\nbody\r\n")
	}
	encoded := func(n int) []byte {
		return []byte(someHeader + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: x\r\n\r\n" + strings.Repeat("x", n-14))
	}
	boundary := func(n int) []byte {
		b := strings.Repeat("b", n)
		return []byte(someHeader + "Content-Type: multipart/mixed; boundary=" + b + "\r\n\r\n--" + b + "\r\n\r\nx\r\n--" + b + "--\r\n")
	}
	params := func(n int) []byte {
		return []byte(someHeader + "Content-Type: text/plain" + strings.Repeat("; a*1=b", n) + "\r\n\r\nx\r\n")
	}
	for _, c := range []struct {
		name   string
		limits Limits
		make   func(int) []byte
		most   int
		symbol string
		parts  [2]int // that are found at the limit, and beyond
	}{
		{"parts", Limits{Parts: 20}, multipart, 19, MIMEPartsLimit, [2]int{20, 20}},
		{"depth", Limits{Depth: 10}, deep, 10, MIMEDepthLimit, [2]int{11, 11}},
		{"messages", Limits{Depth: 10}, matryoshka, 10, MIMEDepthLimit, [2]int{11, 11}},
		{"fields", Limits{Fields: 50}, fields, 50, HeaderLimit, [2]int{1, 1}},
		{"octets", Limits{HeaderBytes: 5000}, octets, 5000, HeaderLimit, [2]int{1, 1}},
		{"decoded", Limits{}, encoded, maxDecoded, MIMEDecodeLimit, [2]int{2, 1}},
		{"boundary", Limits{}, boundary, maxBoundary, MIMEParameterLimit, [2]int{2, 1}},
		{"parameters", Limits{}, params, mime.MaxParameters, MIMEParameterLimit, [2]int{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for beyond := range 2 {
				content := c.make(c.most + beyond)
				for _, in := range []Content{Bytes(content), stored{content}} {
					_, parts, oddities := Read(in, c.limits)
					if noted := slices.Contains(symbols(oddities), c.symbol); noted != (beyond == 1) {
						t.Errorf("%d beyond, %T: %s is %v: %v", beyond, in, c.symbol, noted, oddities)
					}
					if len(parts) != c.parts[beyond] {
						t.Errorf("%d beyond, %T: %d parts", beyond, in, len(parts))
					}
					checkTree(t, content, parts)
				}
			}
		})
	}
}

// TestHeaderTotal holds that many parts with large headers together stay within
// a multiple of one section's limit.
func TestHeaderTotal(t *testing.T) {
	part := "--b\r\nX-Large: " + strings.Repeat("x", 50<<10) + "\r\n\r\nx\r\n"
	content := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, 900) + "--b--\r\n")
	_, parts, oddities := Read(stored{content}, DefaultLimits)
	var kept int64
	for i := range parts {
		for _, f := range parts[i].Header {
			kept += f.Span.Len()
		}
	}
	if len(parts) != 901 || kept > 8*DefaultLimits.HeaderBytes+512*int64(DefaultLimits.Parts) || !slices.Contains(symbols(oddities), HeaderLimit) {
		t.Errorf("%d parts, %d octets of header, %v", len(parts), kept, oddities)
	}
}

func TestOdditiesBounded(t *testing.T) {
	content := []byte(someHeader)
	for i := range 500 {
		content = fmt.Appendf(content, "no colon %d\r\n", i)
	}
	_, _, oddities := Read(Bytes(append(content, "\r\nx"...)), Limits{})
	if len(oddities) != maxSame {
		t.Errorf("%d oddities", len(oddities))
	}
	for _, o := range oddities {
		if o.Description() == "" || len(o.Evidence) > maxEvidence {
			t.Errorf("%+v", o)
		}
	}
}

func TestOdditySymbols(t *testing.T) {
	all := OdditySymbols()
	if len(all) != len(oddities) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Error("a symbol stands twice")
	}
	if (Oddity{Symbol: "NOTHING"}).Description() != "" {
		t.Error("a description of nothing")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "  text \t": "text", "one\ntwo": "one", "one\r\ntwo": "one", "\n one": "one", "a\tb\x00c\x7f": "a?b?c?", "caf\xe9 é": "caf? ??",
		strings.Repeat("x", maxEvidence): strings.Repeat("x", maxEvidence), strings.Repeat("y", maxEvidence+1): strings.Repeat("y", maxEvidence),
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestNotes holds that one finding is noted once, and that what is not in the
// catalogue is not noted.
func TestNotes(t *testing.T) {
	n := notes{}
	a, b := noter{&n, "1"}, noter{&n, "2"}
	a.add(HeaderNUL, "x")
	a.add(HeaderNUL, "x")
	a.add("NOTHING", "x")
	b.add(HeaderNUL, "x")
	b.octets(HeaderNUL, bytes.Repeat([]byte("y"), 1000))
	b.faults([]mime.Fault{{Kind: mime.ParameterTwice, Evidence: "name"}, {Kind: mime.EncodingUnknown, Evidence: "rot13"}})
	want := []Oddity{
		{HeaderNUL, "x", "1"},
		{HeaderNUL, "x", "2"},
		{HeaderNUL, strings.Repeat("y", maxEvidence), "2"},
		{MIMEParameterTwice, "name", "2"},
		{MIMEEncodingUnknown, "rot13", "2"},
	}
	if !slices.Equal(n.list, want) {
		t.Errorf("%+v", n.list)
	}
	for kind, symbol := range faultSymbols {
		if !slices.Contains(OdditySymbols(), symbol) {
			t.Errorf("fault %d is called %q", kind, symbol)
		}
	}
}

// TestEncodedMessageLimits holds that an encoded message within the message is
// left closed at the limit of depth, and that one that can't be read is noted.
func TestEncodedMessageLimits(t *testing.T) {
	inner := "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 100_000)
	content := []byte(someHeader + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + inner)
	outer := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + string(content[len(someHeader):]))
	_, parts, oddities := Read(Bytes(outer), Limits{Depth: 1})
	if len(parts) != 2 || !slices.Contains(symbols(oddities), MIMEDepthLimit) {
		t.Errorf("%d parts, %v", len(parts), oddities)
	}
	failing := &forgetful{Bytes: content, most: len(content)/window + 1}
	_, parts, oddities = Read(failing, Limits{})
	if len(parts) != 1 || !slices.Contains(symbols(oddities), ContentUnreadable) {
		t.Errorf("%d parts, %v", len(parts), oddities)
	}
}

// forgetful is content that can be read so often only.
type forgetful struct {
	Bytes
	most int
}

func (f *forgetful) ReadAt(p []byte, off int64) (int, error) {
	if f.most--; f.most < 0 {
		return 0, errBroken
	}
	return f.Bytes.ReadAt(p, off)
}

// silent is content whose storage gives less than it was asked for and no error,
// against io.ReaderAt's word.
type silent struct{ Bytes }

func (s silent) ReadAt(p []byte, off int64) (int, error) {
	n, _ := s.Bytes.ReadAt(p[:len(p)/2], off)
	return n, nil
}

func TestReadSilent(t *testing.T) {
	_, parts, oddities := Read(silent{Bytes(someHeader + "\r\ntext\r\n")}, Limits{})
	if len(parts) != 1 || !slices.Contains(symbols(oddities), ContentUnreadable) {
		t.Errorf("%d parts, %v", len(parts), oddities)
	}
}
