package traffic

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestToken(t *testing.T) {
	own := string(token(3, 17))
	for _, c := range []struct {
		name, head   string
		round, index int
		ok           bool
	}{
		{"first", own + "Subject: x\r\n", 3, 17, true},
		{"below others", "Received: x\r\n\ty\r\n" + own + "\r\n", 3, 17, true},
		{"as its first copy", own + string(token(4, 18)), 3, 17, true},
		{"none", "Subject: x\r\n\r\n", 0, 0, false},
		{"inside a line", "Subject: " + own, 0, 0, false},
		{"cut", strings.TrimSuffix(own, "\r\n"), 0, 0, false},
		{"no index", tokenField + "3\r\n", 0, 0, false},
		{"no number", tokenField + "a.b\r\n", 0, 0, false},
		{"no number behind the dot", tokenField + "3.b\r\n", 0, 0, false},
		{"nothing", "", 0, 0, false},
	} {
		round, index, ok := findToken([]byte(c.head))
		if ok != c.ok || ok && (round != c.round || index != c.index) {
			t.Errorf("%s: %d %d %v", c.name, round, index, ok)
		}
	}
}

func FuzzFindToken(f *testing.F) {
	f.Add([]byte("Received: x\r\n" + tokenField + "3.17\r\n\r\n"))
	f.Add([]byte(tokenField + "9999999999999999999.1\r\n"))
	f.Add([]byte("\n" + tokenField + "..\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if round, index, ok := findToken(head); ok && !strings.Contains(string(head), tokenField) {
			t.Errorf("%q: %d %d", head, round, index)
		}
	})
}

func TestLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(1, 6)
		for i := range l.entries {
			e := &l.entries[i]
			e.sent = l.now()
			time.Sleep(10 * time.Millisecond)
			switch i {
			case 0, 4: // once
				l.arrive(i)
			case 1: // twice
				l.arrive(i)
				l.arrive(i)
			}
			time.Sleep(10 * time.Millisecond)
			e.replied = l.now()
			e.taken = i != 3 // 2 and 5 are taken and don't arrive
		}
		l.arrive(-1)
		l.arrive(6)
		go func() {
			time.Sleep(time.Second)
			l.arrive(5) // late
		}()
		l.Wait(3 * time.Second)
		if waited := l.now(); waited < 4*time.Second || waited > 5*time.Second {
			t.Errorf("gave up after %v", waited)
		}
		o := l.Outcome()
		if o.Taken != 5 || o.Refused != 1 || o.Lost != 1 || o.Doubled != 1 {
			t.Errorf("%+v", o)
		}
		if o.Session[0] != 20*time.Millisecond || o.EndToEnd[0] != 10*time.Millisecond || len(o.EndToEnd) != 4 || o.EndToEnd[3] < time.Second || o.Elapsed < time.Second {
			t.Errorf("%+v", o)
		}
	})
}

func TestLedgerWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(1, 2)
		l.entries[0].taken = true
		l.arrive(0)
		l.Wait(time.Hour)
		if l.now() != 0 {
			t.Errorf("waited %v", l.now())
		}
	})
}
