package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/gateway/mail"
)

// now is a fixed point in time.
var now = time.Date(2026, 11, 22, 8, 30, 0, 0, time.FixedZone("", 3600))

// What goes over the wire has CRLF line ends and nothing left to fill in; only the
// one that smuggles has a bare LF, before the dot.
func TestContent(t *testing.T) {
	for _, s := range Samples() {
		content, err := s.Content(now)
		if err != nil {
			t.Fatal(s.Title, err)
		}
		if s.file == "" {
			if content != nil {
				t.Errorf("%s has a content", s.Title)
			}
			continue
		}
		if bytes.Contains(content, []byte("{{")) || !bytes.HasSuffix(content, []byte("\r\n")) {
			t.Errorf("%s is not whole:\n%s", s.Title, content)
		}
		bare := bytes.ReplaceAll(content, []byte("\r\n"), nil)
		switch n := bytes.Count(bare, []byte("\n")); {
		case s.file == "smuggled.eml":
			if n != 1 || !bytes.Contains(content, []byte("\n.\r\nMAIL FROM:")) {
				t.Errorf("%s does not smuggle: %d", s.Title, n)
			}
		case n > 0:
			t.Errorf("%s has %d bare LF", s.Title, n)
		}
		for line := range bytes.Lines(content) {
			if len(line) > 1000 {
				t.Errorf("%s has a line of %d octets", s.Title, len(line))
			}
		}
	}
}

func TestContentMissing(t *testing.T) {
	if _, err := (Sample{file: "none.eml"}).Content(now); err == nil {
		t.Error("no error")
	}
}

// Every file is used, and all but the one that is badly made are well made.
func TestSampleFiles(t *testing.T) {
	files, err := samples.ReadDir("samples")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, s := range Samples() {
		used[s.file] = true
		content, err := s.Content(now)
		if err != nil || content == nil || s.file == "mailing.eml" || s.file == "smuggled.eml" {
			continue
		}
		m := mail.Message{Content: mail.Bytes(content)}
		m.Parse(mail.DefaultLimits)
		for _, o := range m.Oddity {
			t.Errorf("%s: %s %s", s.file, o.Symbol, o.Evidence)
		}
	}
	for _, f := range files {
		if !used[f.Name()] {
			t.Errorf("%s is not used", f.Name())
		}
	}
}

// The test strings are the right ones, by their sums, and stand in no file of
// ours.
func TestTestStrings(t *testing.T) {
	for name, c := range map[string]struct{ text, sha256 string }{
		"EICAR": {string(eicar()), "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"},
	} {
		if sum := sha256.Sum256([]byte(c.text)); hex.EncodeToString(sum[:]) != c.sha256 {
			t.Errorf("%s is wrong", name)
		}
	}
	if g := gtube(); len(g) != 68 || !strings.HasPrefix(g, "XJS*C4JDBQADN1.NSBN3*2IDNEN*") || !strings.HasSuffix(g, "*C.34X") {
		t.Errorf("GTUBE is wrong: %q", g)
	}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, s := range []string{string(eicar()), gtube(), base64.StdEncoding.EncodeToString(eicar())} {
			if bytes.Contains(text, []byte(s)) {
				t.Errorf("%s holds a test string", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWrapped(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "4", 57: "76", 58: "76 4", 114: "76 76", 115: "76 76 4"} {
		var lengths []string
		text := wrapped(make([]byte, n))
		for line := range strings.SplitSeq(text, "\r\n") {
			if line != "" {
				lengths = append(lengths, fmt.Sprint(len(line)))
			}
		}
		if got := strings.Join(lengths, " "); got != want {
			t.Errorf("%d octets: lines of %s, want %s", n, got, want)
		}
	}
}

func TestStuffed(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		".a\r\n":            "..a\r\n",
		"a\r\n.\r\n":        "a\r\n..\r\n",
		"a\r\n..b\r\n":      "a\r\n...b\r\n",
		"a\n.\r\nMAIL\r\n":  "a\n.\r\nMAIL\r\n",
		"a.\r\nb\r\n.c\r\n": "a.\r\nb\r\n..c\r\n",
	} {
		if got := stuffed([]byte(in)); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The server inside takes mail for its users, is away when it is told, and is
// found at the same place again.
func TestInside(t *testing.T) {
	var in Inside
	if err := in.Open(); err != nil {
		t.Fatal(err)
	}
	address := in.Address()
	for _, c := range []struct{ to, want string }{
		{"anna@example.com", "250"},
		{"ANNA@Example.com", "250"},
		{"martin@example.com", "550 5.1.1"},
		{"anna@elsewhere.example", "550 5.1.1"},
	} {
		if got := deliver(t, address, c.to); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.to, got, c.want)
		}
	}
	in.Close()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it still answers")
	}
	if err := in.Open(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if in.Address() != address {
		t.Errorf("moved from %s to %s", address, in.Address())
	}
	deliver(t, address, "marc@example.com")
	got := in.Arrived()
	if len(got) != 3 || got[2].To[0] != "marc@example.com" {
		t.Fatalf("%d arrived: %v", len(got), got)
	}
	if s := got[2].Field("Subject"); s != "à demain" {
		t.Errorf("subject %q", s)
	}
	if s := got[2].Field("X-None"); s != "" {
		t.Errorf("a field that is not there: %q", s)
	}
	if (&Inside{address: address}).Open() == nil {
		t.Error("two servers at one address")
	}
}

// deliver sends a short message, and returns the last reply.
func deliver(t *testing.T, address, to string) (reply string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := textprotoConn(t, conn)
	for _, line := range []string{
		"EHLO test.example", "MAIL FROM:<>", "RCPT TO:<" + to + ">", "DATA",
		"Subject: =?utf-8?q?=C3=A0?=\r\n =?utf-8?q?_demain?=\r\n\r\nBonjour.\r\n.",
	} {
		if reply, err = ask(c, line); err != nil {
			t.Fatal(err)
		}
		if reply[0] > '3' {
			break
		}
	}
	return reply
}
