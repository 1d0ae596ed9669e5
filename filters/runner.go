package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"postern/gateway/mail"
)

// grace is how long a filter whose time is over may take to say so itself. What
// it says is better than "timed out": an engine's name, or that the message is
// the cause.
const grace = 100 * time.Millisecond

// maxLate is how many checks of one filter may be under way that nobody waits
// for any more. Beyond it the filter is not called, so that one that hangs can't
// fill the memory with messages.
const maxLate = 100

// Why a filter could not tell, beside what it says itself.
var (
	errLate  = errors.New("no answer in time")
	errStuck = errors.New("too many checks hang")
	errPanic = errors.New("panic")
)

// Runner runs filters. Several goroutines may use it at once.
type Runner struct {
	// Observe, where it is set, is told of each check: how long it took, and
	// why it failed. It is called by several goroutines at once.
	Observe func(filter string, took time.Duration, err error)

	stages map[mail.Stage][]*runner
	log    *slog.Logger
	late   atomic.Int64
}

// runner is one filter of a stage.
type runner struct {
	Entry
	hanging atomic.Int64
}

// New makes a runner of a catalogue. Panics of filters go to log; nil is nowhere.
func New(set Set, log *slog.Logger) *Runner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{stages: make(map[mail.Stage][]*runner), log: log}
	for _, e := range set {
		r.stages[e.Stage] = append(r.stages[e.Stage], &runner{Entry: e})
	}
	return r
}

// Late counts the checks that were given up because the filter went on after its
// time was over.
func (r *Runner) Late() int64 { return r.late.Load() }

// Run runs the filters of a stage at once and waits for all of them. Results
// stand in the order of the catalogue, whoever was first, so that the same mail
// always gets the same header and log line. An error, a time-out and a panic
// become one Result with FaultEngine each. It never takes longer than the
// filters' time-outs and ctx allow.
func (r *Runner) Run(ctx context.Context, stage mail.Stage, m *mail.Message, earlier []mail.Result) []mail.Result {
	stageRunners := r.stages[stage]
	earlier = earlier[:len(earlier):len(earlier)] // what a filter appends is its own
	checks := make([]*check, len(stageRunners))
	for i, f := range stageRunners {
		checks[i] = r.start(ctx, f, m, earlier)
	}
	var all []mail.Result
	for _, c := range checks {
		results, took, err := r.wait(c)
		if r.Observe != nil {
			r.Observe(c.Name, took, err)
		}
		all = appendResults(all, c.Name, results, err)
	}
	return all
}

// appendResults copies results, which may belong to the filter, before it gives
// them their filter's name.
func appendResults(all []mail.Result, name string, results []mail.Result, err error) []mail.Result {
	first := len(all)
	all = append(all, results...)
	for i := range all[first:] {
		if all[first+i].Filter == "" {
			all[first+i].Filter = name
		}
	}
	if err != nil {
		all = append(all, mail.Result{Filter: name, Fault: mail.FaultEngine, Err: err})
	}
	return all
}

// check is one call of a filter.
type check struct {
	*runner
	ctx     context.Context
	cancel  context.CancelFunc
	started time.Time
	done    chan outcome // holds one, so that a late filter does not wait for us
}

type outcome struct {
	results []mail.Result
	took    time.Duration
	err     error
}

// start calls the filter on a goroutine of its own: one that ignores its context
// must not hold the message.
func (r *Runner) start(ctx context.Context, f *runner, m *mail.Message, earlier []mail.Result) *check {
	c := &check{runner: f, ctx: ctx, cancel: func() {}, started: time.Now(), done: make(chan outcome, 1)}
	if f.hanging.Load() >= maxLate {
		c.done <- outcome{err: errStuck}
		return c
	}
	// A context of its own only where it makes a difference: that is half the cost.
	deadline, limited := ctx.Deadline()
	if f.Timeout > 0 && !(limited && deadline.Before(c.started.Add(f.Timeout))) {
		c.ctx, c.cancel = context.WithTimeout(ctx, f.Timeout)
	}
	go func() {
		o := outcome{err: errPanic}
		defer func() {
			o.took = time.Since(c.started)
			if p := recover(); p != nil {
				o.err = fmt.Errorf("%w: %v", errPanic, p)
				r.log.Error("filter panicked", "filter", f.Name, "id", m.ID, "panic", p, "stack", string(debug.Stack()))
			}
			c.done <- o
		}()
		o.results, o.err = f.Filter.Check(c.ctx, m, earlier)
	}()
	return c
}

// wait waits for a check until its time is over, and a moment longer.
func (r *Runner) wait(c *check) ([]mail.Result, time.Duration, error) {
	defer c.cancel()
	select {
	case o := <-c.done:
		return o.results, o.took, o.err
	case <-c.ctx.Done():
	}
	timer := time.NewTimer(graceLeft(c.ctx))
	defer timer.Stop()
	select {
	case o := <-c.done:
		return o.results, o.took, o.err
	case <-timer.C:
	}
	select {
	case o := <-c.done: // long since, while others were waited for
		return o.results, o.took, o.err
	default:
	}
	r.abandon(c)
	return nil, time.Since(c.started), fmt.Errorf("%w: %w", errLate, c.ctx.Err())
}

// graceLeft counts from the deadline, not from now: the graces of several
// filters must not add up.
func graceLeft(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok || errors.Is(ctx.Err(), context.Canceled) {
		return grace
	}
	return time.Until(deadline) + grace
}

// abandon leaves a check to itself and keeps count of it until it ends.
func (r *Runner) abandon(c *check) {
	r.late.Add(1)
	c.hanging.Add(1)
	go func() {
		<-c.done
		c.hanging.Add(-1)
	}()
}
