package mail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// lined breaks s into lines as mailers do.
func lined(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

func TestOpen(t *testing.T) {
	const around = "around"
	for _, c := range []struct{ encoding, body, want string }{
		{"", "as it is\r\n", "as it is\r\n"},
		{"8bit", "caf\xe9", "caf\xe9"},
		{"nonsense", "=41", "=41"},
		{"base64", "SGVs\r\nbG8=\r\n", "Hello"},
		{"quoted-printable", "a=3Db=\r\nc", "a=bc"},
		{"x-uuencode", "begin 644 a\r\n#86)C\r\n`\r\nend\r\n", "abc"},
		{"base64", "", ""},
	} {
		all := Bytes(around + c.body + around)
		for _, content := range []Content{all, stored{all}} {
			p := Part{Encoding: c.encoding, Body: Span{6, 6 + int64(len(c.body))}, content: content}
			for range 2 { // each Open begins anew
				if err := iotest.TestReader(p.Open(), []byte(c.want)); err != nil {
					t.Errorf("%s %q from %T: %v", c.encoding, c.body, content, err)
				}
			}
		}
	}
}

// TestOpenLarge holds that memory and file give the same octets.
func TestOpenLarge(t *testing.T) {
	want := bytes.Repeat([]byte("some octets "), 20_000)
	body := lined(base64.StdEncoding.EncodeToString(want))
	for _, content := range []Content{Bytes(body), stored{Bytes(body)}} {
		p := Part{Encoding: "base64", Body: Span{0, int64(len(body))}, content: content}
		if got, err := io.ReadAll(p.Open()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T: %d octets, %v", content, len(got), err)
		}
	}
}

// broken is content whose storage fails behind half of it.
type broken struct{ Bytes }

var errBroken = errors.New("broken")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	half := int64(len(b.Bytes) / 2)
	if off >= half {
		return 0, errBroken
	}
	if n := half - off; int64(len(p)) > n {
		m, _ := b.Bytes.ReadAt(p[:n], off)
		return m, errBroken
	}
	return b.Bytes.ReadAt(p, off)
}

func TestOpenError(t *testing.T) {
	body := strings.Repeat("QUJD", 10_000)
	for _, encoding := range []string{"base64", "quoted-printable", "7bit"} {
		p := Part{Encoding: encoding, Body: Span{0, int64(len(body))}, content: broken{Bytes(body)}}
		if _, err := io.ReadAll(p.Open()); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

// TestReadError holds that content that can't be read is never taken for whole.
func TestReadError(t *testing.T) {
	content := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("text\r\n", 100_000))
	_, parts, oddities := Read(broken{content}, Limits{})
	if len(parts) != 1 || len(oddities) == 0 || oddities[len(oddities)-1].Symbol != ContentUnreadable {
		t.Error(parts, oddities)
	}
	content = []byte(someHeader + "\r\n" + strings.Repeat("text\r\n", 100))
	_, parts, oddities = Read(broken{content[:60]}, Limits{})
	if len(parts) != 1 || len(oddities) == 0 || oddities[len(oddities)-1].Symbol != ContentUnreadable {
		t.Error(parts, oddities)
	}
}

func TestOpenNothing(t *testing.T) {
	for _, p := range []*Part{{}, {content: Bytes("x")}, {Encoding: "base64", content: Bytes("x")}} {
		if b, err := io.ReadAll(p.Open()); len(b) != 0 || err != nil {
			t.Errorf("%q %v", b, err)
		}
	}
}

// What Parse decoded ahead is what Open would decode.
func TestDecodedAhead(t *testing.T) {
	for _, body := range []string{"SGVsbG8sIHdvcmxkLg==\r\n", "====", "no base64!\r\n", "", "SGVsbG8\r\n" + strings.Repeat("QUJD", 1000)} {
		for _, encoding := range []string{"base64", "quoted-printable", "x-uuencode", "8bit"} {
			m := Message{Content: Bytes("MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + body)}
			m.Parse(DefaultLimits)
			ahead, err := io.ReadAll(m.Parts[0].Open())
			if err != nil {
				t.Fatal(err)
			}
			m.Parts[0].decoded = nil
			if now, err := io.ReadAll(m.Parts[0].Open()); err != nil || !bytes.Equal(ahead, now) {
				t.Errorf("%s %.20q: %.40q ahead, %.40q when opened (%v)", encoding, body, ahead, now, err)
			}
		}
	}
}

// A large content is decoded by who reads it: nobody holds all of it twice.
func TestNotDecodedAhead(t *testing.T) {
	head := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	for _, c := range []struct {
		size  int
		ahead bool
	}{{decodeAhead, true}, {decodeAhead + 1, false}} {
		m := Message{Content: Bytes(head + strings.Repeat("A", c.size-len(head)))}
		m.Parse(DefaultLimits)
		if got := m.Parts[0].decoded != nil; got != c.ahead {
			t.Errorf("%d octets: decoded ahead %v, want %v", c.size, got, c.ahead)
		}
	}
}
