package spool

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"postern/gateway/mail"
)

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err) // a mistake in a test
	}
	return a
}

func addresses(list ...string) (as []mail.Address) {
	for _, s := range list {
		as = append(as, address(s))
	}
	return as
}

// contentOf is content that can be told from the id alone.
func contentOf(id string) mail.Bytes {
	return append([]byte("Subject: "+id+"\r\n\r\n"), bytes.Repeat([]byte(id+"\r\n.\r\n"), 1000)...)
}

func itemOf(id string, recipients ...string) Item {
	if len(recipients) == 0 {
		recipients = []string{id + "@inside.example"}
	}
	as := addresses(recipients...)
	return Item{
		ID: id, Message: "m-" + id, ReversePath: address("sender@outside.example"), Recipients: as,
		Route: as[0].DomainKey(), Subject: "about " + id, Content: contentOf(id),
	}
}

// listen collects alarms.
type listener struct {
	mu     sync.Mutex
	alarms []string
}

func (l *listener) hear(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarms = append(l.alarms, text)
}

func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.alarms...)
}

func openOn(t testing.TB, m *memFS, change ...func(*Config)) *Spool {
	t.Helper()
	s, err := openMem(m, change...)
	if err != nil {
		t.Fatal("open:", err)
	}
	return s
}

func openMem(m *memFS, change ...func(*Config)) (*Spool, error) {
	cfg := Config{Dir: "/spool", fs: m, shards: 8}
	for _, f := range change {
		f(&cfg)
	}
	return Open(cfg)
}

// place is the path of an item's file, or its state's.
func place(m *memFS, name string) string {
	for _, p := range m.files("/spool/items") {
		if path.Base(p) == name {
			return p
		}
	}
	return "/not/there/" + name
}

func put(t testing.TB, s *Spool, items ...Item) {
	t.Helper()
	for _, it := range items {
		if err := s.Put(t.Context(), it); err != nil {
			t.Fatal("put:", err)
		}
	}
}

// script is a Deliverer that does as it is told.
type script struct {
	mu       sync.Mutex
	deliver  func(it *Item) Attempt
	giveUp   func(it *Item) error
	attempts []string // ids, in order
	given    []string
	times    []time.Time
}

func (d *script) Deliver(_ context.Context, it *Item) Attempt {
	d.mu.Lock()
	d.attempts = append(d.attempts, it.ID)
	d.times = append(d.times, time.Now())
	deliver := d.deliver
	d.mu.Unlock()
	if deliver == nil {
		return served(it)
	}
	return deliver(it)
}

func (d *script) GiveUp(_ context.Context, it *Item) error {
	d.mu.Lock()
	d.given = append(d.given, it.ID)
	giveUp := d.giveUp
	d.mu.Unlock()
	if giveUp == nil {
		return nil
	}
	return giveUp(it)
}

func (d *script) tried() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.attempts...)
}

// gave are the ids that were given up.
func (d *script) gave() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.given...)
}

// become changes what attempts do from now on.
func (d *script) become(deliver func(it *Item) Attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deliver = deliver
}

// served is the attempt in which all went well.
func served(it *Item) (a Attempt) {
	for _, r := range it.Recipients {
		a.Dispositions = append(a.Dispositions, Disposition{Recipient: r, Done: true, Reply: "250 2.0.0 ok", NextHop: "inside:25"})
	}
	return a
}

// deferred is the attempt in which nobody was served, by the item's own fault.
func deferred(it *Item) (a Attempt) {
	for _, r := range it.Recipients {
		a.Dispositions = append(a.Dispositions, Disposition{Recipient: r, Reply: "451 4.7.1 later", NextHop: "inside:25"})
	}
	return a
}

func downFor(it *Item) Attempt {
	a := deferred(it)
	a.Down = true
	return a
}

// one does what is due on a route, one job, in this goroutine.
func one(s *Spool, name string, d Deliverer) (ending, error) {
	s.mu.Lock()
	r := s.routes[name]
	if r == nil {
		s.mu.Unlock()
		return ending{}, fmt.Errorf("no route %s", name)
	}
	j, ok := s.pick(r, s.clock.now())
	if !ok {
		s.mu.Unlock()
		return ending{}, fmt.Errorf("nothing due on %s", name)
	}
	j.entry.state = busy
	r.active++
	s.active++
	s.mu.Unlock()
	return s.conclude(j, s.try(context.Background(), d, j)), nil
}

func ids(items []Item) (list []string) {
	for _, it := range items {
		list = append(list, it.ID)
	}
	return list
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: got %s, want %s", what, g, w)
	}
}
