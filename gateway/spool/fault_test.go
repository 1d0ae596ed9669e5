package spool

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

var errnos = []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS}

// failAt makes every operation of that kind fail on paths that contain part.
func (m *memFS) failAt(op, part string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = func(o, p string) error {
		if err != nil && o == op && strings.Contains(p, part) {
			return fmt.Errorf("%s %s: %w", o, p, err)
		}
		return nil
	}
}

func TestFaultInPut(t *testing.T) {
	for _, op := range []string{"free", "create", "write", "sync", "close", "rename", "syncdir"} {
		for _, errno := range errnos {
			t.Run(op+"/"+unix.ErrnoName(errno), func(t *testing.T) {
				m := newMemFS()
				var l listener
				s := openOn(t, m, func(c *Config) { c.Alarm = l.hear })
				put(t, s, itemOf("before"))
				m.failAt(op, "", errno)
				err := s.Put(t.Context(), itemOf("a"))
				m.failAt("", "", nil)
				full := errno == unix.ENOSPC || errno == unix.EDQUOT
				switch {
				case err == nil:
					t.Fatal("taken")
				case !errors.Is(err, errno):
					t.Fatal("the cause is not known:", err)
				case full && op != "free" && op != "syncdir" && !errors.Is(err, ErrFull):
					t.Fatal("not said to be full:", err)
				}
				lost := op == "syncdir" || op == "sync" && !full
				if got := errors.Is(s.Failed(), ErrFailed); got != lost {
					t.Fatal("failed:", s.Failed())
				}
				equal(t, "alarms", len(l.heard()) > 0, lost)
				equal(t, "items", ids(s.List()), []string{"before"})
				equal(t, "unfinished files", m.files("/spool/tmp"), []string{})
				err = s.Put(t.Context(), itemOf("a"))
				if lost != errors.Is(err, ErrFailed) || lost != (err != nil) {
					t.Fatal("the next Put:", err)
				}
				again := openOn(t, m.killed())
				want := []string{"a", "before"}
				if lost {
					want = want[1:]
				}
				items := ids(again.List())
				equal(t, "after a restart", len(items), len(want))
				if err := again.Put(t.Context(), itemOf("b")); err != nil {
					t.Fatal("a restart takes mail again:", err)
				}
			})
		}
	}
}

// What was committed before the disk failed is still delivered.
func TestFailedDiskStillDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		s := openOn(t, m)
		put(t, s, itemOf("a"))
		m.failAt("sync", "b.mail", unix.EIO)
		if err := s.Put(t.Context(), itemOf("b")); err == nil {
			t.Fatal("taken")
		}
		d := &script{}
		stop := start(t, s, d)
		equal(t, "attempts", d.tried(), []string{"a"})
		equal(t, "left", len(openOn(t, m.killed()).List()), 0)
		stop()
	})
}

// Where the disk can't be told who was served, this process knows it all the
// same, and tells the disk as soon as it can.
func TestFaultInUpdate(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "close", "rename", "syncdir"} {
		for _, errno := range errnos {
			t.Run(op+"/"+unix.ErrnoName(errno), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemFS()
					var l listener
					var s *Spool
					s = openOn(t, m, schedule(1), func(c *Config) {
						c.Alarm = func(text string) { l.hear(text); s.Len() } // who hears it may ask
					})
					put(t, s, itemOf("a", "1@x.example", "2@x.example"))
					part := "a.state"
					if op == "syncdir" {
						part = "items"
					}
					m.failAt(op, part, errno)
					d := &script{deliver: func(it *Item) Attempt {
						a := deferred(it)
						a.Dispositions[0].Done = it.Recipients[0].Local == "1"
						return a
					}}
					stop := start(t, s, d)
					equal(t, "alarms", len(l.heard()) > 0, true)
					equal(t, "left", s.List()[0].Recipients, "[2@x.example]")
					m.failAt("", "", nil)
					if op == "create" {
						stop() // writes it
						m = m.cut(loseAll, nil)
						equal(t, "on disk after the end", openOn(t, m).List()[0].Recipients, "[2@x.example]")
						return
					}
					after(time.Minute)
					m = m.cut(loseAll, nil)
					equal(t, "on disk after the next attempt", openOn(t, m).List()[0].Recipients, "[2@x.example]")
					stop()
				})
			})
		}
	}
}

func TestResolveSaysWhatIsNotWritten(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	it := itemOf("a", "1@x.example", "2@x.example")
	it.Held = true
	put(t, s, it)
	m.failAt("create", "", unix.ENOSPC)
	if err := s.Resolve("a", dispositions([]string{"1@x.example"})); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	equal(t, "left all the same", s.List()[0].Recipients, "[2@x.example]")
}

// An item that is done is never attempted again, whether or not it can be removed.
func TestFaultInRemove(t *testing.T) {
	for _, op := range []string{"remove", "syncdir"} {
		for _, errno := range errnos {
			t.Run(op+"/"+unix.ErrnoName(errno), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemFS()
					var l listener
					s := openOn(t, m, schedule(1), func(c *Config) { c.Alarm = l.hear })
					put(t, s, itemOf("a"))
					m.failAt(op, "items", errno)
					d := &script{}
					stop := start(t, s, d)
					after(10 * time.Minute)
					equal(t, "attempts", d.tried(), []string{"a"})
					equal(t, "listed", s.List(), []Item{})
					equal(t, "alarms", len(l.heard()) > 1, true)
					m.failAt("", "", nil)
					after(time.Minute)
					equal(t, "left", s.Len(), 0)
					equal(t, "on disk", openOn(t, m.cut(loseAll, nil)).Len(), 0)
					equal(t, "attempts", d.tried(), []string{"a"})
					stop()
				})
			})
		}
	}
}

func TestFaultInDelete(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("a"))
	m.failAt("remove", "", unix.EROFS)
	if err := s.Delete("a"); !errors.Is(err, unix.EROFS) {
		t.Fatal(err)
	}
	equal(t, "items", ids(s.List()), []string{"a"})
	m.failAt("", "", nil)
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	equal(t, "items", s.Len(), 0)
}

// A content that can't be read is no damage: the item waits.
func TestFaultInRead(t *testing.T) {
	for _, op := range []string{"open", "read"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS()
				var l listener
				s := openOn(t, m, schedule(1), func(c *Config) { c.Alarm = l.hear })
				put(t, s, itemOf("a"))
				m.failAt(op, "a.mail", unix.EIO)
				d := &script{}
				stop := start(t, s, d)
				after(5 * time.Second)
				if _, err := s.Get("a"); !errors.Is(err, unix.EIO) {
					t.Fatal("get:", err)
				}
				equal(t, "attempts", d.tried(), []string{})
				equal(t, "alarms", len(l.heard()), 1)
				m.failAt("", "", nil)
				after(time.Minute)
				equal(t, "attempts", d.tried(), []string{"a"})
				stop()
			})
		})
	}
}

func TestFaultInOpen(t *testing.T) {
	m := newMemFS()
	s := openOn(t, m)
	put(t, s, itemOf("a"), itemOf("b"))
	for _, c := range []struct {
		op, part string
		errno    unix.Errno
		opens    bool
		items    int
	}{
		{"list", "items", unix.EIO, false, 0},
		{"list", "tmp", unix.EIO, false, 0},
		{"syncdir", "spool", unix.EIO, false, 0},
		{"open", "a.mail", unix.EMFILE, false, 0}, // it is our fault, not the item's
		{"open", "a.mail", unix.EIO, true, 1},     // a bad sector must not stop the others
		{"read", "a.mail", unix.EIO, true, 1},
		{"create", "clock", unix.ENOSPC, true, 2},
		{"open", "clock", unix.EIO, true, 2},
	} {
		t.Run(fmt.Sprint(c.op, " ", c.part, " ", c.errno), func(t *testing.T) {
			m := m.killed()
			m.failAt(c.op, c.part, c.errno)
			s, err := openMem(m)
			if (err == nil) != c.opens {
				t.Fatal(err)
			}
			if err == nil {
				equal(t, "items", s.Len(), c.items)
			}
		})
	}
}
