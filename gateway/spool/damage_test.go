package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// regions of an item's file, each with octets to damage.
func regions(file []byte) map[string][]int {
	content := bytes.Index(file, []byte("Subject: bad"))
	end := bytes.LastIndex(file, []byte("\npostern-end "))
	first := bytes.IndexByte(file, '\n')
	return map[string][]int{
		"kind":                {0, 5},
		"version":             {bytes.Index(file, []byte(" 1 ")) + 1},
		"length":              {first - 1, first - 3},
		"first line break":    {first},
		"envelope":            {first + 1, first + 30, content - 100},
		"envelope's checksum": {content - 65, content - 20, content - 2},
		"its line break":      {content - 1},
		"content":             {content, content + 1000, end - 1},
		"end mark":            {end, end + 1, end + len("\npostern-end ") - 1},
		"checksum":            {end + len("\npostern-end "), len(file) - 2},
		"last line break":     {len(file) - 1},
	}
}

// damaged runs a spool of three items of which one, named bad, was changed, and
// tells whether the others went and it stands aside.
func damaged(t *testing.T, m *memFS, what string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var l listener
		s := openOn(t, m, func(c *Config) { c.Alarm = l.hear })
		d := &script{}
		stop := start(t, s, d)
		after(time.Second)
		stop()
		for _, id := range d.tried() {
			if id == "bad" {
				t.Errorf("%s: attempted", what)
			}
		}
		equal(t, what+": attempts", len(d.tried()), 2)
		equal(t, what+": left", s.Len(), 0)
		equal(t, what+": alarms", len(l.heard()), 1)
		aside := m.files("/spool/corrupt")
		if len(aside) == 0 || !strings.Contains(aside[0], "/bad.mail.") {
			t.Fatalf("%s: not set aside: %v", what, aside)
		}
		equal(t, what+": left in place", m.files("/spool/items"), []string{})
	})
}

func three(t *testing.T) (m *memFS, path string) {
	m = newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("bad"), itemOf("good1"), itemOf("good2"))
	return m, place(m, "bad.mail")
}

func TestFlippedBit(t *testing.T) {
	m, path := three(t)
	file, _ := m.walk(path)
	for name, octets := range regions(file.data) {
		for _, at := range octets {
			for _, bit := range []byte{0x01, 0x20, 0x80} {
				c := m.killed()
				c.patch(path, func(b []byte) []byte { b[at] ^= bit; return b })
				damaged(t, c, fmt.Sprintf("%s, octet %d, bit %#x", name, at, bit))
			}
		}
	}
}

func TestTruncated(t *testing.T) {
	m, path := three(t)
	file, _ := m.walk(path)
	for name, octets := range regions(file.data) {
		c := m.killed()
		c.patch(path, func(b []byte) []byte { return b[:octets[0]] })
		damaged(t, c, "cut in "+name)
		c = m.killed()
		c.patch(path, func(b []byte) []byte { clear(b[octets[0]:]); b[octets[0]] = 1; return b })
		damaged(t, c, "zeros from "+name)
	}
	for name, change := range map[string]func([]byte) []byte{
		"one more octet":  func(b []byte) []byte { return append(b, '\n') },
		"the file twice":  func(b []byte) []byte { return append(b, b...) },
		"another's file":  func([]byte) []byte { other, _ := m.walk(place(m, "good1.mail")); return other.data },
		"a huge length":   func(b []byte) []byte { return append([]byte("postern-item 1 99999999999\n"), b...) },
		"no length":       func(b []byte) []byte { return append([]byte("postern-item 1\n"), b...) },
		"negative length": func(b []byte) []byte { return append([]byte("postern-item 1 -5\n"), b...) },
		"a state's file":  func([]byte) []byte { return frame("postern-state 1 2", "{}") },
		"no JSON":         func([]byte) []byte { return frame("postern-item 1 1", "5") },
	} {
		c := m.killed()
		c.patch(path, change)
		damaged(t, c, name)
	}
}

// frame is what stands in an item's file before its content, or in a state's.
func frame(firstLine, body string) []byte {
	b := firstLine + "\n" + body + "\n"
	return fmt.Appendf(nil, "%s%x\n", b, sha256.Sum256([]byte(b)))
}

// The damage may come while the item waits.
func TestDamageWhileWaiting(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("a"))
	m.patch(place(m, "a.mail"), func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	if _, err := s.Get("a"); !errors.Is(err, ErrDamaged) {
		t.Fatal("get:", err)
	}
	d := &script{}
	if _, err := one(s, "inside.example", d); err != nil {
		t.Fatal(err)
	}
	equal(t, "attempts", d.tried(), []string{})
	equal(t, "left", s.Len(), 0)
	equal(t, "aside", len(m.files("/spool/corrupt")), 1)
}

// Without its state nobody knows who was served: the item must not start over.
func TestDamagedState(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("a", "1@x.example", "2@x.example"), itemOf("b"))
	if err := s.Resolve("a", dispositions([]string{"1@x.example"})); err != nil {
		t.Fatal(err)
	}
	state, _ := m.walk(place(m, "a.state"))
	for at := range state.data {
		c := m.killed()
		switch at % 3 {
		case 0:
			c.patch(place(m, "a.state"), func(b []byte) []byte { return b[:at] })
		default:
			c.patch(place(m, "a.state"), func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b })
		}
		var l listener
		equal(t, fmt.Sprint("octet ", at), ids(openOn(t, c, func(c *Config) { c.Alarm = l.hear }).List()), []string{"b"})
		equal(t, "aside", len(c.files("/spool/corrupt")), 2)
		equal(t, "alarms", len(l.heard()), 1)
		if at%16 != 0 {
			continue
		}
		equal(t, "at the next start", ids(openOn(t, c).List()), []string{"b"})
	}
}

// Where even that fails, the others go on.
func TestDamagedAndReadOnly(t *testing.T) {
	m, path := three(t)
	m.patch(path, func(b []byte) []byte { return b[:10] })
	m.failAt("rename", "corrupt", errors.New("read-only"))
	s := openOn(t, m)
	equal(t, "items", s.Len(), 2)
}

func TestNewerVersion(t *testing.T) {
	for _, suffix := range []string{".mail", ".state"} {
		m := newMemFS()
		s := openOn(t, m)
		put(t, s, itemOf("a", "1@x.example", "2@x.example"))
		if err := s.Resolve("a", dispositions([]string{"1@x.example"})); err != nil {
			t.Fatal(err)
		}
		m.patch(place(m, "a"+suffix), func(b []byte) []byte {
			b = bytes.Replace(b, []byte(" 1 "), []byte(" 2 "), 1)
			end := bytes.Index(b, []byte("}\n")) + 2
			if suffix == ".mail" {
				end = bytes.Index(b, []byte("}}\n")) + 3
			}
			copy(b[end:], fmt.Sprintf("%x", sha256.Sum256(b[:end])))
			return b
		})
		if _, err := openMem(m); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2") {
			t.Fatal(suffix, err)
		}
		equal(t, "nothing is touched", len(m.files("/spool/corrupt")), 0)
	}
}

func TestUnknownFiles(t *testing.T) {
	m := newMemFS()
	openOn(t, m)
	for _, p := range []string{"/spool/items/00/README", "/spool/items/00/UPPER.mail", "/spool/items/00/orphan.state", "/spool/tmp/left.mail.7"} {
		if _, err := m.Create(p); err != nil {
			t.Fatal(err)
		}
	}
	var l listener
	s := openOn(t, m, func(c *Config) { c.Alarm = l.hear })
	equal(t, "items", s.Len(), 0)
	equal(t, "alarms", len(l.heard()), 2)
	equal(t, "left", m.files("/spool/items"), []string{"/spool/items/00/README", "/spool/items/00/UPPER.mail"})
	equal(t, "tmp", m.files("/spool/tmp"), []string{})
}

// Somebody copied files about by hand. What lies in the wrong shard is never
// attempted, not even beside the right one, and no reason to refuse the start.
func TestWrongShard(t *testing.T) {
	for _, alone := range []bool{false, true} {
		m, right := three(t)
		file, _ := m.walk(right)
		wrong := "/spool/items/00/bad.mail"
		if right == wrong {
			wrong = "/spool/items/01/bad.mail"
		}
		state := strings.TrimSuffix(wrong, ".mail") + ".state"
		for _, p := range []string{wrong, state} {
			if _, err := m.Create(p); err != nil {
				t.Fatal(err)
			}
			m.patch(p, func([]byte) []byte { return file.data })
		}
		want := 3
		if alone {
			if err := m.Remove(right); err != nil {
				t.Fatal(err)
			}
			want = 2
		}
		var l listener
		s := openOn(t, m, func(c *Config) { c.Alarm = l.hear })
		equal(t, "items", s.Len(), want)
		equal(t, "alarms", len(l.heard()), 2)
		for _, p := range []string{wrong, state} {
			if _, err := m.walk(p); err != nil {
				t.Errorf("gone: %v", err)
			}
		}
	}
}
