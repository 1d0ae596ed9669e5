package gateway

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"postern/gateway/compose"
	"postern/gateway/mail"
	"postern/gateway/relay"
	"postern/gateway/spool"
)

// Deliver implements spool.Deliverer: one attempt for an item that waits.
func (g *Gateway) Deliver(ctx context.Context, it *spool.Item) spool.Attempt {
	s := g.settings.Load()
	outcomes, late := g.Relay.Deliver(ctx, relay.Job{
		Route: s.route(it.Route), ReversePath: it.ReversePath, Recipients: it.Recipients,
		SMTPUTF8: it.SMTPUTF8, EightBit: it.EightBit, Content: it.Content,
		Answer: s.Reply, Late: lateAnswer,
	})
	g.observe(s, it.Route, outcomes)
	for _, o := range outcomes {
		g.Recorder.Deliver(it.Message, delivery(o))
	}
	dispositions, down := g.dispose(ctx, s, it, outcomes)
	if late != nil {
		g.await(it.ID, late)
	}
	return spool.Attempt{Dispositions: dispositions, Down: down, Held: late != nil}
}

// dispose turns outcomes into what the spool has to do. A refusal is dealt with,
// durably, before its recipient counts as done.
func (g *Gateway) dispose(ctx context.Context, s *Settings, it *spool.Item, outcomes []relay.Outcome) (ds []spool.Disposition, down bool) {
	refused := slices.DeleteFunc(slices.Clone(outcomes), func(o relay.Outcome) bool { return o.Status != relay.Refused })
	reported := true
	if len(refused) > 0 {
		if err := g.undeliverable(ctx, s, *it, refused); err != nil {
			g.Log.Error("refusal not reported", "id", it.ID, "err", err)
			reported = false
		}
	}
	down = true
	for _, o := range outcomes {
		down = down && o.Status == relay.Down
		done := o.Status == relay.Taken || o.Status == relay.Refused && reported
		if o.Status == relay.Waiting {
			continue // settled when the answer comes
		}
		ds = append(ds, spool.Disposition{Recipient: o.Recipient, Done: done, Reply: o.Reply.String(), NextHop: o.NextHop})
	}
	return ds, down
}

// GiveUp implements spool.Deliverer: the lifetime is over.
func (g *Gateway) GiveUp(ctx context.Context, it *spool.Item) error {
	outcomes := make([]relay.Outcome, len(it.Recipients))
	for i, rcpt := range it.Recipients {
		outcomes[i] = relay.Outcome{
			Recipient: rcpt, Status: relay.Refused, NextHop: it.NextHop, Time: time.Now(),
			Reply: mail.Reply{Code: 554, Enhanced: "5.4.7", Text: "Not delivered in time; last answer: " + it.LastReply},
		}
	}
	for _, o := range outcomes {
		g.Recorder.Deliver(it.Message, delivery(o))
	}
	return g.undeliverable(ctx, g.settings.Load(), *it, outcomes)
}

// await settles a held item when the answer to its final dot comes, or when the
// connection it was to come on is dead. At the end of the process the item is on
// disk, and a restart counts as a dead connection.
func (g *Gateway) await(item string, late <-chan []relay.Outcome) {
	g.late.begin()
	g.metrics.waiting.Inc()
	go func() {
		defer g.late.end()
		defer g.metrics.waiting.Dec()
		select {
		case outcomes := <-late:
			g.settleLate(item, outcomes)
			return
		case <-g.closing:
		}
		select {
		case outcomes := <-late: // at the same time: what is known must not be asked again
			g.settleLate(item, outcomes)
		default:
		}
	}()
}

func (g *Gateway) settleLate(item string, outcomes []relay.Outcome) {
	ctx := context.Background()
	it, err := g.Spool.Get(item)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		g.Log.Warn("late answer for an item that was deleted", "id", item)
		return
	case err != nil:
		g.Log.Error("item of a late answer can't be read", "id", item, "err", err)
		// Who took it must not get it again, and the others must not be held for
		// ever: who refused is asked again, when the item can be read.
		outcomes = slices.DeleteFunc(outcomes, func(o relay.Outcome) bool { return o.Status == relay.Refused })
	default:
		for _, o := range outcomes {
			g.Recorder.Deliver(it.Message, delivery(o))
		}
	}
	dispositions, _ := g.dispose(ctx, g.settings.Load(), &it, outcomes)
	if err := g.Spool.Resolve(item, dispositions); err != nil {
		g.Log.Error("late answer not written", "id", item, "err", err)
	}
}

// answers counts those that are still out. Unlike a WaitGroup it may be waited on
// while others begin.
type answers struct {
	mu      sync.Mutex
	out     int
	waiters []chan struct{}
}

func (a *answers) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out++
}

func (a *answers) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out--; a.out > 0 {
		return
	}
	for _, w := range a.waiters {
		close(w)
	}
	a.waiters = nil
}

// none is closed at the next moment at which no answer is out.
func (a *answers) none() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := make(chan struct{})
	if a.out == 0 {
		close(w)
	} else {
		a.waiters = append(a.waiters, w)
	}
	return w
}

// undeliverable deals with recipients that a next hop refused after our 250: a
// DSN where the reverse-path may be told, and otherwise the quarantine. Either is
// on disk when it returns nil.
func (g *Gateway) undeliverable(ctx context.Context, s *Settings, it spool.Item, refused []relay.Outcome) error {
	where, what := "report", "undeliverable: the sender is told"
	var err error
	if it.Notify && !it.ReversePath.IsZero() {
		err = g.notify(ctx, s, it, refused)
	} else {
		where, what, err = g.keepUndeliverable(ctx, it, refused)
	}
	if err != nil {
		return err
	}
	g.metrics.undeliverable.Add(float64(len(refused)))
	for _, o := range refused {
		g.Recorder.Deliver(it.Message, mail.Delivery{Recipient: o.Recipient.String(), NextHop: where, Time: time.Now(), Reply: what})
	}
	return nil
}

// keepUndeliverable keeps what was to be delivered: where parts were stripped
// from it, nobody wants them released with it.
func (g *Gateway) keepUndeliverable(ctx context.Context, it spool.Item, refused []relay.Outcome) (where, what string, err error) {
	rcpts := make([]mail.Address, len(refused))
	for i, o := range refused {
		rcpts[i] = o.Recipient
	}
	m := &mail.Message{
		ID: it.Message, Received: it.Time, Content: it.Content,
		Envelope: mail.Envelope{ReversePath: it.ReversePath, Recipients: rcpts, SMTPUTF8: it.SMTPUTF8, EightBit: it.EightBit},
	}
	m.Parse(mail.DefaultLimits)
	id, err := g.Keeper.Keep(ctx, m, mail.Verdict{
		Recipients: rcpts, Action: mail.Quarantine, Class: mail.ClassUndeliverable,
		Reason: refused[0].NextHop + ": " + refused[0].Reply.String(), Unscanned: it.Unscanned,
	})
	return "quarantine", "undeliverable: kept as " + id, err
}

// notify spools a DSN (RFC 3464). Its name follows from the item's, so that the
// same report is not written twice when a crash comes between it and the item's
// end.
func (g *Gateway) notify(ctx context.Context, s *Settings, it spool.Item, refused []relay.Outcome) error {
	now := time.Now()
	d := compose.DSN{
		ID: dsnID(it, refused), Time: now, To: it.ReversePath, Original: it.Content, OriginalID: it.Message, Arrival: it.Time,
	}
	for _, o := range refused {
		d.Recipients = append(d.Recipients, compose.Undelivered{
			Recipient: o.Recipient, Status: o.Reply.Enhanced, Diagnostic: o.Reply.String(), RemoteMTA: o.NextHop, Last: o.Time,
		})
	}
	content, err := s.composer().DSN(d)
	if err != nil {
		return fmt.Errorf("compose DSN: %w", err)
	}
	err = g.Spool.Put(ctx, spool.Item{
		ID: d.ID, Message: it.Message, Time: now, Recipients: []mail.Address{it.ReversePath},
		SMTPUTF8: !it.ReversePath.ASCII(), Route: it.ReversePath.DomainKey(), Subject: "Undelivered mail", Content: content,
	})
	if errors.Is(err, spool.ErrExists) {
		return nil // written before a crash, with another date
	}
	return err
}

// dsnID names the report on refused recipients of an item.
func dsnID(it spool.Item, refused []relay.Outcome) string {
	sum := crc32.NewIEEE()
	fmt.Fprint(sum, it.ID)
	for _, o := range refused {
		fmt.Fprint(sum, "\n", o.Recipient.Key())
	}
	return fmt.Sprintf("%s.d%08x", it.Message, sum.Sum32())
}
