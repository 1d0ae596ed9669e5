package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/gateway/mail"
)

func TestWhatIsPutComesBack(t *testing.T) {
	real := t.TempDir() + "/spool"
	for _, c := range []struct {
		name string
		it   Item
	}{
		{"the usual", Item{
			ID: "0123abc.2", Message: "0123abc", Time: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), ReversePath: address("s@outside.example"),
			Recipients: addresses("a@b.example", "c@b.example"), SMTPUTF8: true, EightBit: true, Route: "b.example", Notify: true,
			Subject: "Grüße", Content: mail.Bytes("x: y\r\n\r\nz\r\n"), Attempts: 3, LastReply: "451 x", NextHop: "h:25",
		}},
		{"odd addresses", Item{
			ID: "odd", Time: time.Unix(0, 0).UTC(), ReversePath: mail.Address{}, Content: mail.Bytes("x"),
			Recipients: addresses(`"a b@\"c"@d.example`, "postmaster", "ü@ü.example", "a@[IPv6:::1]", `""@e.example`),
		}},
		{"no content", Item{ID: "empty", Time: time.Unix(1, 0).UTC(), Recipients: addresses("a@b.example"), Content: mail.Bytes{}}},
		{"a large envelope", Item{ID: "many", Time: time.Unix(2, 0).UTC(), Recipients: manyAddresses(1000), Content: contentOf("many")}},
		{"all octets, no line break at the end", Item{ID: "octets", Time: time.Unix(3, 0).UTC(), Recipients: addresses("a@b.example"), Content: allOctets()}},
		{"named as our own files", Item{ID: "x.state", Time: time.Unix(4, 0).UTC(), Recipients: addresses("a@b.example"), Content: contentOf("x")}},
		{"and the other", Item{ID: "x.mail", Time: time.Unix(5, 0).UTC(), Recipients: addresses("a@b.example"), Content: contentOf("y")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(Config{Dir: real})
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, c.it)
			again, err := Open(Config{Dir: real})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*Spool{s, again} {
				got, err := s.Get(c.it.ID)
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if _, err := got.Content.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				read, err := io.ReadAll(mail.NewReader(got.Content))
				if err != nil || !bytes.Equal(read, b.Bytes()) || !bytes.Equal(b.Bytes(), c.it.Content.(mail.Bytes)) {
					t.Fatal("content differs", err)
				}
				if got.Next.After(time.Now()) {
					t.Fatal("due at", got.Next)
				}
				want := c.it
				got.Content, want.Content, got.Next = nil, nil, time.Time{}
				equal(t, "item", got, want)
			}
		})
	}
}

func manyAddresses(n int) (as []mail.Address) {
	for i := range n {
		as = append(as, address(strings.Repeat("x", 1+i%60)+"@b.example"))
	}
	return as
}

func allOctets() mail.Bytes {
	b := make(mail.Bytes, 1<<16+1)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func TestPutRefuses(t *testing.T) {
	s := openOn(t, newMemFS())
	for name, change := range map[string]func(*Item){
		"no id":                func(it *Item) { it.ID = "" },
		"an id that is a path": func(it *Item) { it.ID = "../x" },
		"no recipient":         func(it *Item) { it.Recipients = nil },
		"an empty recipient":   func(it *Item) { it.Recipients = append(it.Recipients, mail.Address{}) },
		"no content":           func(it *Item) { it.Content = nil },
		"a line break":         func(it *Item) { it.Recipients = []mail.Address{{Local: "a\r\nb", Domain: "x.example"}} },
		"an odd reverse-path":  func(it *Item) { it.ReversePath = mail.Address{Local: "a", Domain: "x y"} },
		"content that lies":    func(it *Item) { it.Content = lying{contentOf("a")} },
		"content that fails":   func(it *Item) { it.Content = failing{contentOf("a")} },
	} {
		it := itemOf("a")
		change(&it)
		if err := s.Put(t.Context(), it); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(cancelled, itemOf("a")); !errors.Is(err, context.Canceled) {
		t.Error("cancelled:", err)
	}
	equal(t, "kept", s.Len(), 0)
	equal(t, "failed", s.Failed(), nil)
	put(t, s, itemOf("a"))
}

// lying is content that is shorter than it says.
type lying struct{ mail.Bytes }

func (l lying) Size() int64 { return l.Bytes.Size() + 1 }

type failing struct{ mail.Bytes }

func (failing) WriteTo(io.Writer) (int64, error) { return 0, errors.New("can't read") }

func TestPutAgain(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("a"), itemOf("a"))
	equal(t, "items", s.Len(), 1)
	steps := m.steps
	s = openOn(t, m)
	put(t, s, itemOf("a"))
	equal(t, "items", s.Len(), 1)
	other := itemOf("a")
	for _, c := range []mail.Content{contentOf("b"), contentOf("abc")[:len(contentOf("a"))], mail.Bytes("short")} {
		other.Content = c
		if err := s.Put(t.Context(), other); !errors.Is(err, ErrExists) {
			t.Error("another content:", err)
		}
	}
	if steps == 0 {
		t.Fatal("nothing was written")
	}
}

// Of two Puts at once with one id, one writes; the other must not say nil before
// that one has.
func TestPutTwiceAtOnce(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	var inner error
	m.fault = func(op, p string) error {
		if op == "syncdir" && strings.HasPrefix(p, "/spool/items/") {
			m.fault = nil
			m.mu.Unlock()
			inner = s.Put(context.Background(), itemOf("a"))
			m.mu.Lock()
		}
		return nil
	}
	put(t, s, itemOf("a"))
	if !errors.Is(inner, ErrExists) {
		t.Fatal("while the first is not synced:", inner)
	}
	put(t, s, itemOf("a"))
}

func TestPutConcurrently(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir() + "/spool", Connections: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, d := make(chan error, 1), &script{}
	go func() { done <- s.Run(ctx, d) }()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				id := string(rune('a'+i)) + string(rune('a'+j))
				if err := s.Put(ctx, itemOf(id)); err != nil {
					t.Error(err)
				}
				s.Len()
				s.List()
				s.Oldest()
				_, _ = s.Get(id)
				_ = s.Retry(id)
			}
		})
	}
	wg.Wait()
	for s.Len() > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	equal(t, "attempts", len(d.tried()), 200)
	equal(t, "bytes", s.Bytes(), 0)
	equal(t, "routes", len(s.routes), 0)
}

func TestCounts(t *testing.T) {
	s := openOn(t, newMemFS())
	equal(t, "oldest of none", s.Oldest(), time.Time{})
	old, young := itemOf("b"), itemOf("a")
	old.Time, young.Time = time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	put(t, s, young, old)
	equal(t, "items", s.Len(), 2)
	equal(t, "bytes", s.Bytes(), contentOf("a").Size()+contentOf("b").Size())
	equal(t, "oldest", s.Oldest(), old.Time)
	equal(t, "list", ids(s.List()), []string{"b", "a"})
	if err := s.Delete("b"); err != nil {
		t.Fatal(err)
	}
	equal(t, "oldest", s.Oldest(), young.Time)
	equal(t, "bytes", s.Bytes(), contentOf("a").Size())
	for what, err := range map[string]error{
		"delete": s.Delete("b"), "retry": s.Retry("b"), "resolve": s.Resolve("b", nil),
		"delete a path": s.Delete("../../x"),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Get("b"); !errors.Is(err, ErrNotFound) {
		t.Error("get:", err)
	}
}

func TestRoomOnTheDisk(t *testing.T) {
	const floor = 64 << 20
	for _, c := range []struct {
		name      string
		free, min int64
		size      int
		full      bool
	}{
		{"at the floor", floor, 0, 1, false},
		{"below the floor", floor - 1, 0, 1, true},
		{"twice the size", 80 << 20, 0, 40 << 20, false},
		{"less than twice the size", 80<<20 - 1, 0, 40 << 20, true},
		{"another floor", 1000, 1000, 500, false},
		{"below another floor", 999, 1000, 1, true},
		{"no floor", 1, -1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemFS()
			m.room = c.free
			s := openOn(t, m, func(cfg *Config) { cfg.MinFree = c.min })
			it := itemOf("a")
			it.Content = make(mail.Bytes, c.size)
			err := s.Put(t.Context(), it)
			if errors.Is(err, ErrFull) != c.full || (err != nil) != c.full {
				t.Fatal(err)
			}
			equal(t, "failed", s.Failed(), nil)
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Config{Dir: t.TempDir() + "/not/there"}); err == nil {
		t.Fatal("a folder whose parent is missing")
	}
}
