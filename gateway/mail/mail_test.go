package mail

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestParse(t *testing.T) {
	m := Message{Content: Bytes("Subject: x\r\n\r\ny")}
	m.Parse(Limits{})
	if m.Header.Get("Subject") != "x" || len(m.Parts) != 1 || len(m.Oddity) != 2 {
		t.Errorf("%+v", m)
	}
}

func TestContent(t *testing.T) {
	want := []byte("the octets of a message")
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, append(append([]byte("before"), want...), "behind"...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []Content{Bytes(want), NewFile(f, 6, int64(len(want)))} {
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

func TestProtocol(t *testing.T) {
	for _, c := range []struct {
		client Client
		utf8   bool
		want   string
	}{
		{Client{}, false, "SMTP"},
		{Client{ESMTP: true}, false, "ESMTP"},
		{Client{ESMTP: true, TLS: "x"}, false, "ESMTPS"},
		{Client{ESMTP: true}, true, "UTF8SMTP"},
		{Client{ESMTP: true, TLS: "x"}, true, "UTF8SMTPS"},
	} {
		if got := c.client.Protocol(c.utf8); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestReply(t *testing.T) {
	for _, c := range []struct {
		reply                          Reply
		text                           string
		positive, transient, permanent bool
	}{
		{Reply{}, "", false, false, false},
		{Reply{250, "2.0.0", "taken"}, "250 2.0.0 taken", true, false, false},
		{Reply{354, "", "go on"}, "354 go on", false, false, false},
		{Reply{451, "4.7.1", "later"}, "451 4.7.1 later", false, true, false},
		{Reply{550, "5.7.1", "no"}, "550 5.7.1 no", false, false, true},
	} {
		if c.reply.String() != c.text || c.reply.Positive() != c.positive || c.reply.Transient() != c.transient || c.reply.Permanent() != c.permanent {
			t.Errorf("%+v", c)
		}
	}
}

func TestID(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := NewID(now), NewID(now.Add(time.Millisecond))
	if len(a) != 22 || a >= b || NewID(now) == a || !ValidID(a) {
		t.Error(a, b)
	}
	for id, valid := range map[string]bool{
		"": false, "a": true, "a.2": true, "a.": false, ".2": false, "a/b": false, "..": false, "A": false, "a b": false, "a\x00": false,
		strings.Repeat("a", 40): true, strings.Repeat("a", 41): false, "a.b.c": false,
	} {
		if ValidID(id) != valid {
			t.Errorf("%q is valid: %v", id, !valid)
		}
	}
}

func TestAction(t *testing.T) {
	for a := Accept; a <= Reject; a++ {
		text, err := json.Marshal(a)
		var back Action
		if err != nil || json.Unmarshal(text, &back) != nil || back != a {
			t.Errorf("%v: %s %v %v", a, text, err, back)
		}
	}
	if Action(9).String() != "action(9)" {
		t.Error(Action(9))
	}
	if _, err := ParseAction("drop"); err == nil {
		t.Error("an unknown action was read")
	}
	if StageConnect.String() != "connect" || StageDerived.String() != "derived" {
		t.Error(StageConnect, StageDerived)
	}
}

func TestSpam(t *testing.T) {
	for _, c := range []struct {
		score, required float64
		want            bool
	}{{5, 5, true}, {4.9, 5, false}, {100, 0, false}} {
		if got := (Verdict{Score: c.score, Required: c.required}).Spam(); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}
