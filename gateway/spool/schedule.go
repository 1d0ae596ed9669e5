package spool

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"
	"time"

	"postern/gateway/spool/disk"
)

// never is a time of the spool's clock that does not come.
const never = time.Duration(math.MaxInt64)

var (
	defaultRetry    = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	defaultLifetime = 5 * 24 * time.Hour
)

const (
	minRetry   = 10 * time.Millisecond // a schedule of zeros must not spin
	sweepEvery = time.Second           // expired items of a down route are looked for at most so often
)

// entry is what the memory knows of an item: just enough to know when it is due.
// Who made it busy is alone in changing it, under Spool.mu where others look.
type entry struct {
	id      string
	route   *route
	since   time.Duration
	next    time.Duration
	time    int64          // Item.Time in Unix nanoseconds
	size    int64          // octets of content
	pending *disk.Progress // newer than the disk, which could not take it
	index   int            // in route.waiting; -1 elsewhere
	state   entryState
	gone    bool // deleted while busy
	ended   bool // done, only the file could not be removed yet
}

type entryState uint8

const (
	writing entryState = iota // Put has not returned
	waiting                   // in route.waiting or route.expired
	busy                      // somebody works on it
	held                      // only Resolve ends this
)

// committed says that the item exists for others.
func (e *entry) committed() bool { return e.state != writing && !e.gone && !e.ended }

// route is the items that have one next hop.
type route struct {
	name    string
	waiting queue
	expired []*entry // over their lifetime while the route is down: given up without an attempt
	members int      // entries in all
	active  int      // attempts in flight

	down    bool
	steps   int           // of the schedule since it is down
	probeAt time.Duration // no attempt before
	probing bool          // an attempt asks whether it is up again
	sweepAt time.Duration // the next time that an item that waits may be expired and due

	queued bool          // in Spool.ready
	wakeAt time.Duration // where it is in Spool.timers
	index  int
}

// job is one thing to do for an item, in a goroutine of its own.
type job struct {
	entry   *entry
	counted bool // as an attempt in flight
	probe   bool // its route is down
	expired bool // give it up without an attempt
}

// step is the n-th wait of a route's schedule, counted from 1.
func (s *Spool) step(name string, n int) time.Duration {
	var steps []time.Duration
	if s.cfg.Retry != nil {
		steps = s.cfg.Retry(name)
	}
	if len(steps) == 0 {
		steps = defaultRetry
	}
	return max(minRetry, steps[max(0, min(n, len(steps))-1)])
}

func (s *Spool) lifetime(name string) time.Duration {
	if s.cfg.Lifetime != nil {
		if d := s.cfg.Lifetime(name); d > 0 {
			return d
		}
	}
	return defaultLifetime
}

// nextTry is when an item that failed n times on its own is due: never past the
// end of its lifetime, when there is one last attempt.
func (s *Spool) nextTry(e *entry, n int) time.Duration {
	now := s.clock.now()
	next := now + s.step(e.route.name, n)
	if end := e.since + s.lifetime(e.route.name); now < end && end < next {
		return end
	}
	return next
}

// All below is called with s.mu held.

// add makes a committed item known.
func (s *Spool) add(e *entry, name string) {
	r := s.routes[name]
	if r == nil {
		r = &route{name: name, index: -1}
		s.routes[name] = r
	}
	e.route, e.index = r, -1
	if e.state == writing {
		e.state = waiting
	}
	r.members++
	s.entries[e.id] = e
	s.count++
	s.bytes += e.size
}

// drop forgets an item.
func (s *Spool) drop(e *entry) {
	delete(s.entries, e.id)
	delete(s.late, e.id)
	s.count--
	s.bytes -= e.size
	if e.route.members--; e.route.members == 0 {
		delete(s.routes, e.route.name)
	}
}

// wait puts an entry where its state says.
func (s *Spool) wait(e *entry) {
	if e.state != waiting {
		return
	}
	r := e.route
	heap.Push(&r.waiting, e)
	if r.down {
		r.sweepAt = min(r.sweepAt, s.sweepable(e))
	}
}

// take is the reverse of wait.
func (s *Spool) take(e *entry) {
	switch {
	case e.state != waiting:
	case e.index >= 0:
		heap.Remove(&e.route.waiting, e.index)
	default:
		r := e.route
		r.expired = slices.DeleteFunc(r.expired, func(x *entry) bool { return x == e })
	}
}

// sweepable is when e is to be given up should its route stay down.
func (s *Spool) sweepable(e *entry) time.Duration {
	return max(e.next, e.since+s.lifetime(e.route.name))
}

// sweep finds the items of a down route that are due and over their lifetime.
func (s *Spool) sweep(r *route, now time.Duration) {
	r.sweepAt = never
	rest := r.waiting[:0]
	for _, e := range r.waiting {
		if at := s.sweepable(e); at > now {
			r.sweepAt = min(r.sweepAt, max(at, now+sweepEvery))
			e.index = len(rest)
			rest = append(rest, e)
			continue
		}
		e.index = -1
		r.expired = append(r.expired, e)
	}
	clear(r.waiting[len(rest):])
	r.waiting = rest
	heap.Init(&r.waiting)
}

// setDown notes that an attempt found the route down. Only the first of those
// that were in flight counts, and after it each probe.
func (s *Spool) setDown(r *route, probe bool) {
	now := s.clock.now()
	switch {
	case !r.down:
		s.cfg.Log.Warn("next hop is down", "route", r.name, "waiting", r.members)
		r.down, r.steps, r.sweepAt = true, 1, now
	case probe:
		r.steps++
	default:
		return
	}
	r.probeAt = now + s.step(r.name, r.steps)
}

// setUp makes all that waited for the route due.
func (s *Spool) setUp(r *route) {
	if !r.down {
		return
	}
	s.cfg.Log.Info("next hop is up", "route", r.name, "waiting", r.members)
	r.down, r.probing = false, false
	expired := r.expired
	r.expired = nil
	for _, e := range expired { // they get a last attempt
		s.wait(e)
	}
}

// moment is when the route can start something.
func (s *Spool) moment(r *route, now time.Duration) time.Duration {
	switch {
	case r.active >= s.cfg.Connections:
		return never // the end of an attempt asks again
	case len(r.expired) > 0:
		return now
	case len(r.waiting) == 0:
		return never
	case !r.down:
		return r.waiting[0].next
	case r.probing:
		return r.sweepAt
	}
	return min(r.sweepAt, max(r.probeAt, r.waiting[0].next))
}

// place puts a route where the dispatcher finds it in time.
func (s *Spool) place(r *route, now time.Duration) {
	if r.index >= 0 {
		heap.Remove(&s.timers, r.index)
	}
	if r.queued {
		return
	}
	switch at := s.moment(r, now); {
	case at <= now:
		r.queued = true
		s.ready = append(s.ready, r)
	case at < never:
		r.wakeAt = at
		heap.Push(&s.timers, r)
	}
}

// replace places a route that changed, and wakes the dispatcher.
func (s *Spool) replace(r *route) {
	s.place(r, s.clock.now())
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// pick takes what the route may start now.
func (s *Spool) pick(r *route, now time.Duration) (job, bool) {
	if r.active >= s.cfg.Connections {
		return job{}, false
	}
	if r.down && now >= r.sweepAt {
		s.sweep(r, now)
	}
	if len(r.expired) > 0 {
		e := r.expired[0]
		r.expired = r.expired[1:]
		return job{entry: e, counted: true, expired: true}, true
	}
	if len(r.waiting) == 0 || r.waiting[0].next > now || r.down && (r.probing || now < r.probeAt) {
		return job{}, false
	}
	r.probing = r.down
	e := heap.Pop(&r.waiting).(*entry)
	return job{entry: e, counted: true, probe: r.down}, true
}

// dispatch starts all that may be started, one item of a route after one of
// another, and says how long there is nothing more to do. It takes s.mu itself.
func (s *Spool) dispatch(ctx context.Context, d Deliverer) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	for len(s.timers) > 0 && s.timers[0].wakeAt <= now {
		s.place(s.timers[0], now)
	}
	for s.active < s.cfg.Total && len(s.ready) > 0 {
		r := s.ready[0]
		s.ready = s.ready[1:]
		r.queued = false
		if j, ok := s.pick(r, now); ok {
			j.entry.state = busy
			r.active++
			s.active++
			go s.work(ctx, d, j)
		}
		s.place(r, now)
	}
	if len(s.timers) == 0 {
		return time.Hour
	}
	return cmp.Or(max(0, s.timers[0].wakeAt-now), minRetry)
}
