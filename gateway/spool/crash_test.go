package spool

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// story is what a spool was told to do and what it promised, up to the crash.
type story struct {
	promised map[string]map[string]bool // id → recipients that must still be served
	may      map[string]map[string]bool // and those whose end was not recorded
	served   map[string]int             // recipient → how often
}

func newStory() *story {
	return &story{promised: map[string]map[string]bool{}, may: map[string]map[string]bool{}, served: map[string]int{}}
}

// tell makes a spool do everything that changes its disk. It stops at the first
// step that fails.
func (st *story) tell(m *memFS) error {
	s, err := openMem(m)
	if err != nil {
		return err
	}
	a := itemOf("a", "a1@inside.example", "a2@inside.example", "a3@inside.example")
	b, c, d := itemOf("b", "b1@b.example"), itemOf("c", "c1@c.example", "c2@c.example"), itemOf("d", "d1@d.example")
	d.Held = true
	steps := []func() error{
		func() error { return st.put(s, a) },
		func() error { return st.try(s, a, "a1@inside.example") },
		func() error { return st.put(s, b) },
		func() error { return st.try(s, a) },
		func() error { return st.try(s, b, "b1@b.example") },
		func() error { return st.put(s, c) },
		func() error { return st.try(s, a, "a2@inside.example") },
		func() error { return st.delete(s, c) },
		func() error { return st.put(s, b) }, // the same id again, after its end
		func() error { return st.put(s, d) },
		func() error { return st.resolve(s, d, "d1@d.example") },
		func() error { return st.try(s, a, "a3@inside.example") },
		func() error { return st.put(s, a) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func keys(as []mail.Address) map[string]bool {
	set := map[string]bool{}
	for _, a := range as {
		set[a.Key()] = true
	}
	return set
}

func (st *story) put(s *Spool, it Item) error {
	st.may[it.ID] = keys(it.Recipients)
	err := s.Put(context.Background(), it)
	if err == nil {
		st.promised[it.ID] = keys(it.Recipients)
	}
	return err
}

// done says that recipients are about to be served: they need not be there any
// more. The return value says that this was recorded.
func (st *story) done(it Item, rcpts []string) (recorded func()) {
	for _, r := range rcpts {
		st.served[r]++
		delete(st.promised[it.ID], r)
	}
	return func() {
		for _, r := range rcpts {
			delete(st.may[it.ID], r)
		}
	}
}

func (st *story) try(s *Spool, it Item, rcpts ...string) error {
	if err := s.Retry(it.ID); err != nil {
		return err
	}
	recorded := func() {}
	v, err := one(s, it.Route, &script{deliver: func(*Item) (a Attempt) {
		recorded = st.done(it, rcpts)
		return Attempt{Dispositions: dispositions(rcpts)}
	}})
	if err == nil {
		err = v.err
	}
	if err == nil {
		recorded()
	}
	return err
}

func dispositions(rcpts []string) (ds []Disposition) {
	for _, r := range rcpts {
		ds = append(ds, Disposition{Recipient: address(r), Done: true})
	}
	return ds
}

func (st *story) delete(s *Spool, it Item) error {
	delete(st.promised, it.ID)
	err := s.Delete(it.ID)
	if err == nil {
		delete(st.may, it.ID)
	}
	return err
}

func (st *story) resolve(s *Spool, it Item, rcpts ...string) error {
	recorded := st.done(it, rcpts)
	err := s.Resolve(it.ID, dispositions(rcpts))
	if err == nil {
		recorded()
	}
	return err
}

// check opens what is left and holds it against the story.
func (st *story) check(t *testing.T, m *memFS) {
	t.Helper()
	var l listener
	s, err := openMem(m, func(c *Config) { c.Alarm = l.hear })
	if err != nil {
		t.Fatal("open after the crash:", err)
	}
	equal(t, "alarms", l.heard(), []string{})
	equal(t, "files in tmp and corrupt", append(m.files("/spool/tmp"), m.files("/spool/corrupt")...), []string{})
	here := map[string]map[string]bool{}
	for _, it := range s.List() {
		here[it.ID] = keys(it.Recipients)
		whole, err := s.Get(it.ID)
		if err != nil {
			t.Fatal("get:", err)
		}
		var b bytes.Buffer
		if _, err := whole.Content.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), contentOf(it.ID)) {
			t.Fatalf("item %s is not what was put: %v", it.ID, err)
		}
	}
	for id, rcpts := range st.promised {
		for r := range rcpts {
			if !here[id][r] {
				t.Fatalf("lost: item %s for %s", id, r)
			}
		}
	}
	for id, rcpts := range here {
		for r := range rcpts {
			if !st.may[id][r] {
				t.Fatalf("item %s is there for %s again, though it was recorded as done", id, r)
			}
		}
	}
}

// each crash, in each of the ways in which it may leave the disk.
func (st *story) checkAll(t *testing.T, m *memFS, name string) {
	t.Run(name+"/kill", func(t *testing.T) { st.check(t, m.killed()) })
	for loss := range losses {
		seeds := 1
		if loss == loseSome {
			seeds = 5
		}
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s/power-%d-%d", name, loss, seed), func(t *testing.T) {
				st.check(t, m.cut(loss, rand.New(rand.NewPCG(1, uint64(seed)))))
			})
		}
	}
}

// prepared is a disk on which a spool was opened once.
func prepared(t *testing.T) *memFS {
	m := newMemFS()
	openOn(t, m)
	return m.killed()
}

func TestCrashAtEachStep(t *testing.T) {
	ready := prepared(t)
	whole := ready.killed()
	if err := newStory().tell(whole); err != nil {
		t.Fatal("without a crash:", err)
	}
	// The first steps are Open's: it syncs every shard. Its crashes have their own test.
	from := slices.Index(whole.log, "create /spool/tmp/a.mail.2")
	if from < 0 {
		t.Fatal("the story does not begin as expected:", whole.log[len(whole.log)-60:])
	}
	for n := from; n <= len(whole.log); n++ {
		m := ready.killed()
		m.crashAt = n + 1
		st := newStory()
		if err := st.tell(m); err == nil && n < len(whole.log) {
			t.Fatalf("step %d did not crash", n)
		}
		step := "end"
		if n < len(whole.log) {
			step = fmt.Sprintf("%02d before %s", n-from, whole.log[n])
		}
		st.checkAll(t, m, step)
		t.Run(step+"/kill, start, power", func(t *testing.T) { st.checkRelied(t, m) })
	}
}

// checkRelied kills the process, starts another, and cuts the power: what the
// second one found, and may have told others of, must still be there.
func (st *story) checkRelied(t *testing.T, m *memFS) {
	m.crashAt = 0
	relied := newStory()
	for _, it := range openOn(t, m).List() {
		relied.promised[it.ID], relied.may[it.ID] = keys(it.Recipients), keys(it.Recipients)
	}
	for loss := range losses {
		relied.check(t, m.cut(loss, rand.New(rand.NewPCG(4, 5))))
	}
}

// The folders must be on the disk before anything in them is promised.
func TestPowerCutAfterFirstPut(t *testing.T) {
	m, st := newMemFS(), newStory()
	if err := st.put(openOn(t, m), itemOf("a")); err != nil {
		t.Fatal(err)
	}
	st.checkAll(t, m, "after put")
}

// A state that could not be removed must not be taken for that of a later item
// with the same id.
func TestStateOfAnEarlierItem(t *testing.T) {
	m, st := newMemFS(), newStory()
	s := openOn(t, m)
	it := itemOf("a", "a1@inside.example", "a2@inside.example")
	if err := st.put(s, it); err != nil {
		t.Fatal(err)
	}
	if err := s.Resolve("a", dispositions([]string{"a1@inside.example"})); err != nil {
		t.Fatal(err)
	}
	m.fault = func(op, p string) error {
		if op == "remove" && strings.HasSuffix(p, "/a.state") {
			return errCrash
		}
		return nil
	}
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if err := st.put(s, it); err != nil {
		t.Fatal(err)
	}
	m.fault = nil
	equal(t, "recipients", s.List()[0].Recipients, it.Recipients)
	st.checkAll(t, m, "after put")
}

// A crash of the start itself must leave a disk from which the next start goes on.
func TestCrashAtStart(t *testing.T) {
	told := newStory()
	base := prepared(t)
	base.crashAt = 0
	if err := told.tell(base); err != nil {
		t.Fatal(err)
	}
	for _, first := range []*memFS{newMemFS(), base.cut(loseSome, rand.New(rand.NewPCG(2, 3)))} {
		st := told
		if len(first.root.names) == 0 {
			st = newStory()
		}
		whole := first.killed()
		openOn(t, whole)
		for n := 1; n <= len(whole.log); n++ {
			m := first.killed()
			m.crashAt = n
			if _, err := openMem(m); err == nil && n < len(whole.log)-4 {
				t.Fatalf("step %d did not crash", n)
			}
			st.checkAll(t, m, fmt.Sprintf("step %d %s", n, whole.log[n-1]))
		}
	}
}
