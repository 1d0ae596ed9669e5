package spool

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"postern/gateway/spool/disk"
)

// peek reads what is known of an item: its files, and what they could not take.
func (s *Spool) peek(id string) (*disk.Record, error) {
	r, err := s.folder.Load(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil && e.pending != nil {
		r.Now = *e.pending
	}
	return r, nil
}

// item is a record in the words of others. Its content is read when it is asked
// for.
func (s *Spool) item(r *disk.Record) Item {
	return Item{
		ID: r.ID, Message: r.Message, Time: r.Time, ReversePath: r.ReversePath, Recipients: slices.Clone(r.Now.Recipients),
		SMTPUTF8: r.SMTPUTF8, EightBit: r.EightBit, Route: r.Route, Notify: r.Notify, Unscanned: r.Unscanned, Subject: r.Subject,
		Content:  s.folder.Content(r),
		Attempts: r.Now.Attempts, Next: s.date(r.Now.Next), LastReply: r.Now.LastReply, NextHop: r.Now.NextHop,
	}
}

// view is what the schedule knows of an item at one moment.
type view struct {
	id   string
	time int64
	next time.Duration
	held bool
}

func (s *Spool) view(e *entry) view {
	v := view{id: e.id, time: e.time, next: e.next, held: e.state == held}
	if e.state == waiting && e.route.down {
		v.next = max(v.next, e.route.probeAt)
	}
	return v
}

// describe reads the item that v is about.
func (s *Spool) describe(v view, verify bool) (Item, error) {
	r, err := s.peek(v.id)
	if err == nil && verify {
		err = s.folder.Verify(r)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound // it went meanwhile
	}
	if err != nil {
		return Item{}, err
	}
	it := s.item(r)
	it.Held, it.Next = v.held, s.date(max(v.next, s.clock.now()))
	return it, nil
}

// List is all items that wait, oldest first, without their content. An item that
// can't be read is left out; an attempt will say so. It reads each item's envelope
// from disk: for 100,000 items that takes seconds.
func (s *Spool) List() []Item {
	s.mu.Lock()
	views := make([]view, 0, s.count)
	for _, e := range s.entries {
		if e.committed() {
			views = append(views, s.view(e))
		}
	}
	s.mu.Unlock()
	slices.SortFunc(views, func(a, b view) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.id, b.id)) })
	items := make([]Item, 0, len(views))
	for _, v := range views {
		if it, err := s.describe(v, false); err == nil {
			it.Content = nil
			items = append(items, it)
		}
	}
	return items
}

// Get is one item with its content, which is verified before. ErrNotFound, or
// ErrDamaged.
func (s *Spool) Get(id string) (Item, error) {
	s.mu.Lock()
	e := s.entries[id]
	if e == nil || !e.committed() {
		s.mu.Unlock()
		return Item{}, fmt.Errorf("get %q: %w", id, ErrNotFound)
	}
	v := s.view(e)
	s.mu.Unlock()
	it, err := s.describe(v, true)
	if err != nil {
		return Item{}, fmt.Errorf("get %s: %w", id, err)
	}
	return it, nil
}

// Retry makes an item due now, and its route's next probe where that is down; ""
// makes all items due, and all routes count as up. ErrNotFound; ErrHeld for an item
// whose answer is still out, which "" leaves alone. An item that is being attempted
// is left to that.
func (s *Spool) Retry(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	if id == "" {
		for _, r := range s.routes {
			s.setUp(r)
			for _, e := range r.waiting {
				e.next = min(e.next, now)
			}
			heap.Init(&r.waiting)
			s.replace(r)
		}
		return nil
	}
	e := s.entries[id]
	switch {
	case e == nil || !e.committed():
		return fmt.Errorf("retry %q: %w", id, ErrNotFound)
	case e.state == held:
		return fmt.Errorf("retry %s: %w", id, ErrHeld)
	case e.state == waiting:
		s.take(e)
		e.next = -1 // in front of all others
		e.route.probeAt = now
		s.wait(e)
		s.replace(e.route)
	}
	return nil
}

// Up says that a route's next hop was reached by somebody else: what waits for it
// is due.
func (s *Spool) Up(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.routes[name]; r != nil && r.down {
		s.setUp(r)
		s.replace(r)
	}
}

// Delete removes an item for good, durably. The attempt that it may be in goes on
// to its end, and what it says then is ignored. ErrNotFound.
func (s *Spool) Delete(id string) error {
	s.mu.Lock()
	e := s.entries[id]
	if e == nil || !e.committed() {
		s.mu.Unlock()
		return fmt.Errorf("delete %q: %w", id, ErrNotFound)
	}
	// Whoever has it finishes with it; until then nobody else gets its ID.
	idle := e.state != busy
	v := ending{held: e.state == held, next: e.next}
	if idle {
		s.take(e)
		e.state = busy
	}
	e.gone = true
	s.mu.Unlock()
	err := s.folder.Remove(id)
	s.mu.Lock()
	e.gone = err == nil
	s.mu.Unlock()
	if idle {
		s.conclude(job{entry: e}, v)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}
