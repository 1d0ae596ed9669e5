package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"time"

	"postern/gateway/spool/disk"
)

const (
	endRetry   = time.Minute     // a removal that failed
	cancelWait = 5 * time.Second // for attempts whose context has ended
)

// Run makes the attempts until ctx ends, then starts no more and waits for those
// in flight: Config.Drain, and a few seconds after their own context has ended. An
// error says that some did not come back; their items are as they were on disk.
func (s *Spool) Run(ctx context.Context, d Deliverer) error {
	s.mu.Lock()
	already := s.running
	s.running = true
	s.mu.Unlock()
	if already {
		return errors.New("the spool runs already")
	}
	attempts, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for ctx.Err() == nil {
		timer.Reset(s.dispatch(attempts, d))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		case <-beat.C:
			if s.Len() > 0 {
				s.beat()
			}
		}
	}
	return s.drain(cancel)
}

// drain ends Run.
func (s *Spool) drain(cancel context.CancelFunc) error {
	left := s.settled(s.cfg.Drain)
	if left > 0 {
		cancel()
		left = s.settled(cancelWait)
	}
	s.flush()
	s.beat()
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("stop the spool: %d attempts still in flight", left)
	}
	return nil
}

// settled waits until no attempt is in flight, and says how many still are.
func (s *Spool) settled(patience time.Duration) int {
	s.mu.Lock()
	if s.active == 0 {
		s.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	s.idle = idle
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// ending is where an item goes when the work on it is over.
type ending struct {
	outcome outcome       // for its route
	over    bool          // it is forgotten
	held    bool          // otherwise: wait for Resolve
	next    time.Duration // otherwise: when it is due
	err     error         // that the disk could not be told
}

// outcome is what an attempt says of the route.
type outcome uint8

const (
	unknown outcome = iota
	reached
	down
)

// work does one job and all that follows from it.
func (s *Spool) work(ctx context.Context, d Deliverer, j job) {
	s.conclude(j, s.try(ctx, d, j))
}

// conclude gives an item back to the schedule, after what Resolve brought
// meanwhile, if it did.
func (s *Spool) conclude(j job, v ending) ending {
	for {
		late, more := s.finish(j, v)
		if !more {
			return v
		}
		v = s.resolve(j.entry, late, v)
	}
}

// try makes one attempt, or gives up.
func (s *Spool) try(ctx context.Context, d Deliverer, j job) ending {
	e := j.entry
	if e.ended {
		return s.end(e)
	}
	r, err := s.peek(e.id)
	if err == nil {
		err = s.folder.Verify(r)
	}
	if err != nil {
		return s.unfit(e, err)
	}
	if j.expired {
		return s.giveUp(ctx, d, e, r)
	}
	a := s.deliver(ctx, d, s.item(r))
	if ctx.Err() != nil && len(a.Dispositions) == 0 && !a.Held {
		return ending{next: e.next} // cut short by ourselves: it doesn't count
	}
	r.Now.Attempts++
	v := s.settle(e, r, a, 0)
	if !v.over && !v.held && ctx.Err() == nil && s.clock.now() >= e.since+s.lifetime(e.route.name) {
		last := s.giveUp(ctx, d, e, r)
		last.outcome = v.outcome
		return last
	}
	return v
}

// deliver calls d. An item that makes it panic must not take the others down, at
// each start again.
func (s *Spool) deliver(ctx context.Context, d Deliverer, it Item) (a Attempt) {
	defer func() {
		if p := recover(); p != nil {
			s.alarm("attempt panicked: "+it.ID, fmt.Errorf("%v\n%s", p, debug.Stack()))
			a = Attempt{}
		}
	}()
	return d.Deliver(ctx, &it)
}

// settle records what came of an attempt in r and on disk. next is when the item
// is due should the attempt not say so; 0 is by its schedule.
func (s *Spool) settle(e *entry, r *disk.Record, a Attempt, next time.Duration) ending {
	v := ending{outcome: reached, held: a.Held}
	if a.Down {
		v.outcome = down
	}
	served := apply(&r.Now, a.Dispositions)
	if len(r.Now.Recipients) == 0 {
		last := s.end(e)
		last.outcome = v.outcome
		return last
	}
	switch {
	case next > 0:
		v.next = next
	case a.Down, a.Held:
		v.next = s.clock.now() + 1 // behind all that wait for the route, so that each slot tries another
	default:
		r.Now.Deferrals++
		v.next = s.nextTry(e, r.Now.Deferrals)
	}
	r.Now.Next = v.next
	v.err = s.keep(e, r, served)
	return v
}

// apply takes out who is done, and says whether there was one.
func apply(p *disk.Progress, ds []Disposition) (served bool) {
	done := make(map[string]bool)
	last := Disposition{}
	for _, d := range ds {
		switch {
		case d.Done:
			done[d.Recipient.Key()] = true
		case d.Reply != "" || d.NextHop != "":
			last = d
		}
	}
	if last.Reply != "" {
		p.LastReply = last.Reply
	}
	if last.NextHop != "" {
		p.NextHop = last.NextHop
	}
	before := len(p.Recipients)
	rest := p.Recipients[:0:0]
	for _, a := range p.Recipients {
		if !done[a.Key()] {
			rest = append(rest, a)
		}
	}
	p.Recipients = rest
	return len(rest) < before
}

// keep writes an item's progress. What the disk can't take stays in memory, holds,
// and goes with the next change.
func (s *Spool) keep(e *entry, r *disk.Record, durable bool) error {
	p := r.Now
	p.Clock = s.clock.now()
	err := s.folder.Update(e.id, &p, durable || e.pending != nil)
	s.mu.Lock()
	e.pending = nil
	if err != nil {
		e.pending = &p
	}
	s.mu.Unlock()
	if err != nil {
		s.alarm("progress of an item is only in memory: "+e.id, err) // who hears it may call us
	}
	return err
}

// giveUp ends an item whose lifetime is over.
func (s *Spool) giveUp(ctx context.Context, d Deliverer, e *entry, r *disk.Record) ending {
	it := s.item(r)
	if err := d.GiveUp(ctx, &it); err != nil {
		s.cfg.Log.Error("item past its lifetime is kept", "id", e.id, "err", err)
		r.Now.Deferrals++
		v := ending{next: s.clock.now() + s.step(e.route.name, r.Now.Deferrals)}
		r.Now.Next = v.next
		v.err = s.keep(e, r, false)
		return v
	}
	return s.end(e)
}

// end removes an item. One that can't be removed is not attempted again.
func (s *Spool) end(e *entry) ending {
	err := s.folder.Remove(e.id)
	if err == nil {
		return ending{over: true}
	}
	s.alarm("finished item can't be removed: "+e.id, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ended = true
	return ending{next: s.clock.now() + endRetry, err: err}
}

// unfit decides about an item that can't be read.
func (s *Spool) unfit(e *entry, err error) ending {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.cfg.Log.Warn("item is gone from the spool", "id", e.id)
		return ending{over: true}
	case !errors.Is(err, ErrDamaged):
		s.alarm("item can't be read: "+e.id, err)
		return ending{next: s.clock.now() + s.step(e.route.name, 1<<30)}
	}
	s.alarm("damaged item set aside: "+e.id, err)
	if err := s.folder.SetAside(e.id); err != nil {
		s.alarm("damaged item stays where it is: "+e.id, err)
		return ending{next: s.clock.now() + s.step(e.route.name, 1<<30)}
	}
	return ending{over: true}
}

// finish gives an item back to the schedule; or, where Resolve came meanwhile,
// hands out what it brought.
func (s *Spool) finish(j job, v ending) (late []Disposition, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, r := j.entry, j.entry.route
	if late, more = s.late[e.id]; more && !v.over && !e.ended && !e.gone {
		delete(s.late, e.id)
		return late, true
	}
	if j.counted {
		r.active--
		s.active--
	}
	if j.probe {
		r.probing = false
	}
	switch v.outcome {
	case reached:
		s.setUp(r)
	case down:
		s.setDown(r, j.probe)
	}
	if v.over || e.gone {
		s.drop(e)
	} else {
		e.next, e.state = v.next, waiting
		if v.held {
			e.state = held
		}
		s.wait(e)
	}
	if s.active == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	s.replace(r)
	return nil, false
}

// Resolve brings the outcome of a late answer, for an item that is held or whose
// attempt is about to say so. Recipients that are done leave, durably; the others
// are attempted again by the schedule. Where the disk can't be told, the outcome
// still holds for this process, and the error says so.
func (s *Spool) Resolve(id string, ds []Disposition) error {
	s.mu.Lock()
	e := s.entries[id]
	switch {
	case e == nil || !e.committed():
		s.mu.Unlock()
		return fmt.Errorf("resolve %q: %w", id, ErrNotFound)
	case e.state == busy:
		s.late[id] = append(s.late[id], ds...)
		s.mu.Unlock()
		return nil
	}
	before := ending{held: e.state == held, next: e.next}
	s.take(e)
	e.state = busy
	s.mu.Unlock()
	if v := s.conclude(job{entry: e}, s.resolve(e, ds, before)); v.err != nil {
		return fmt.Errorf("resolve %s: %w", id, v.err)
	}
	return nil
}

// resolve settles a late answer for an item that was to go on as before says. The
// answer came on an old connection and says nothing of the route now.
func (s *Spool) resolve(e *entry, ds []Disposition, before ending) ending {
	r, err := s.peek(e.id)
	if err != nil {
		v := s.unfit(e, err)
		v.outcome = before.outcome
		return v
	}
	var next time.Duration
	if !before.held {
		next = max(1, before.next)
	}
	v := s.settle(e, r, Attempt{Dispositions: ds}, next)
	v.outcome = before.outcome
	return v
}

// flush tries once more to write what the disk could not take.
func (s *Spool) flush() {
	s.mu.Lock()
	open := make(map[*entry]ending)
	for _, e := range s.entries {
		if e.pending != nil && (e.state == waiting || e.state == held) {
			open[e] = ending{held: e.state == held, next: e.next}
			s.take(e)
			e.state = busy
		}
	}
	s.mu.Unlock()
	for e, v := range open {
		if err := s.folder.Update(e.id, e.pending, true); err != nil {
			s.alarm("progress of an item is lost: "+e.id, err)
		}
		s.conclude(job{entry: e}, v)
	}
}
