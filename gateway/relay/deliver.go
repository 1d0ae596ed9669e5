package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/gateway/mail"
	"postern/gateway/relay/client"
)

// delivery is one Deliver under way.
type delivery struct {
	relay    *Relay
	job      Job
	outcomes []Outcome
	done     []bool // recipients that no other host is tried for
	waiting  bool   // for an answer to the final dot
	stuck    bool   // the content can't be sent to anyone
	late     chan []Outcome
}

func newDelivery(r *Relay, j Job) *delivery {
	n := len(j.Recipients)
	return &delivery{relay: r, job: j, outcomes: make([]Outcome, n), done: make([]bool, n)}
}

// Deliver tries the route's hosts in order for the recipients concerned, and
// says what became of each, in the order of j.Recipients. ctx bounds all that
// comes before the final dot. Where outcomes are Waiting, late yields exactly
// one slice with the final outcomes of those recipients, and is closed;
// otherwise it is nil. The content isn't read any more once Deliver returned.
func (r *Relay) Deliver(ctx context.Context, j Job) (outcomes []Outcome, late <-chan []Outcome) {
	d := newDelivery(r, j)
	if j.Content == nil { // without it a transaction only asks
		d.fail("", &hopError{
			status: Later, err: errors.New("the job has no content"),
			reply: unreadable,
		})
		return d.outcomes, nil
	}
	d.run(ctx)
	if d.late != nil {
		late = d.late
	}
	return d.outcomes, late
}

// Verify asks the route's hosts in order whether they know a recipient, by a
// transaction that ends behind RCPT. Taken means that it is known.
func (r *Relay) Verify(ctx context.Context, route Route, rcpt mail.Address) Outcome {
	d := newDelivery(r, Job{Route: route, Recipients: []mail.Address{rcpt}})
	d.run(ctx)
	return d.outcomes[0]
}

func (d *delivery) run(ctx context.Context) {
	for t, err := range d.relay.targets(ctx, d.job.Route) {
		if err == nil {
			err = d.attempt(ctx, t)
		}
		if err != nil {
			d.fail(t.key.String(), err)
		}
		if !slices.Contains(d.done, false) || d.waiting || d.stuck || over(ctx) {
			break
		}
	}
	if len(d.outcomes) > 0 && d.outcomes[0].Status == 0 { // no host was tried
		d.fail("", errors.New("the route has no next hop"))
	}
}

// attempt runs a transaction with one host.
func (d *delivery) attempt(ctx context.Context, t target) error {
	c, err := d.relay.get(ctx, t)
	if err != nil {
		return err
	}
	err = d.transact(ctx, t, c)
	if err == errStale {
		if c, err = d.relay.renew(ctx, t, c); err != nil {
			return err
		}
		err = d.transact(ctx, t, c)
	}
	return err
}

// transact gives the connection back unless it is waited on, or to be replaced,
// or lost.
func (d *delivery) transact(ctx context.Context, to target, c *conn) error {
	t := &transaction{delivery: d, target: to, conn: c}
	err := t.run(ctx)
	if err != errStale && !d.waiting && t.conn != nil {
		d.relay.put(t.conn)
	}
	return err
}

// fail records for all that are still open that a host, as a whole, did not
// take part.
func (d *delivery) fail(nextHop string, err error) {
	o := Outcome{Status: Down, Err: err}
	var known *hopError
	if errors.As(err, &known) {
		o = Outcome{Status: known.status, Reply: known.reply, Err: known.err}
	}
	for i, done := range d.done {
		if !done {
			d.settle(nextHop, i, o)
		}
	}
}

// settle records what became of a recipient at one host. It stays open to the
// next one where this one is down or said 4yz; of those a 4yz says more, since
// somebody is there.
func (d *delivery) settle(nextHop string, i int, o Outcome) {
	before := d.outcomes[i]
	o.Recipient, o.NextHop, o.Time = d.job.Recipients[i], nextHop, time.Now()
	if o.Err != nil && nextHop != "" {
		o.Err = fmt.Errorf("%s: %w", nextHop, o.Err)
	}
	if o.Status == Down && o.Reply.Code == 0 {
		o.Reply = mail.Reply{Code: 451, Enhanced: "4.4.1", Text: "The next mail server can't be reached"}
	}
	switch {
	case o.Status == Down && before.Status == Later:
		return
	case o.Status == Down && before.Status == Down:
		o.Err = fmt.Errorf("%w; %w", before.Err, o.Err)
	}
	d.outcomes[i] = o
	d.done[i] = d.done[i] || o.Status != Down && o.Status != Later
}

// answers reads the answers to the final dot, in the background once j.Answer
// is over. What of the recipients is settled here is never tried elsewhere: the
// host may have delivered the message whatever it said, or did not say.
func (t *transaction) answers() {
	d, c := t.delivery, t.conn
	now := time.Now()
	late := orDefault(d.job.Late, defaultLate)
	patience := min(orDefault(d.job.Answer, late), late)
	if by := d.job.AnswerBy; !by.IsZero() {
		patience = min(patience, by.Sub(now))
	}
	for _, i := range t.accepted {
		d.done[i], d.outcomes[i] = true, Outcome{} // what an earlier host said is over
	}
	err := t.collect(now.Add(patience), func(i int, o Outcome) { d.settle(c.name, i, o) })
	switch {
	case err == nil:
		return
	case !client.TimedOut(err) || patience == late:
		t.lost(err, func(i int, o Outcome) { d.settle(c.name, i, o) })
		return
	}
	for _, i := range t.accepted {
		d.settle(c.name, i, Outcome{Status: Waiting})
	}
	d.waiting = true
	d.late = make(chan []Outcome, 1)
	d.relay.wait(t, now.Add(late))
}

// collect reads the answers that are still out, one for all recipients or, in
// LMTP, one for each (RFC 2033, section 4.2), and passes on what they mean.
func (t *transaction) collect(by time.Time, settle func(int, Outcome)) error {
	c := t.conn
	for len(t.accepted) > 0 {
		rep, err := c.Await(by)
		if err != nil {
			return err
		}
		o, n := outcomeOf(rep.Mail()), len(t.accepted)
		if o.Status == Down {
			c.Spoil()
		} else if c.key.lmtp {
			n = 1
		}
		for _, i := range t.accepted[:n] {
			settle(i, o)
		}
		t.accepted = t.accepted[n:]
	}
	return nil
}

// lost is what becomes of those whose answer never came.
func (t *transaction) lost(err error, settle func(int, Outcome)) {
	t.conn.Spoil()
	if client.TimedOut(err) {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	err = fmt.Errorf("after the final dot: %w", err)
	for _, i := range t.accepted {
		settle(i, Outcome{Status: Down, Err: err})
	}
	t.accepted = nil
}

// wait reads the late answers in the background. No caller's context ends it:
// the message is in the host's hands, and trying again would double it.
func (r *Relay) wait(t *transaction, by time.Time) {
	d, c := t.delivery, t.conn
	finish := func() {
		d.late <- t.lateOutcomes(by)
		close(d.late)
		r.mu.Lock()
		delete(r.silent, c)
		r.mu.Unlock()
		r.put(c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed { // too late for Close to wait
		c.Sever()
		go finish()
		return
	}
	r.silent[c] = struct{}{}
	r.waits.Go(finish)
}

func (t *transaction) lateOutcomes(by time.Time) []Outcome {
	own := newDelivery(t.delivery.relay, *t.job())
	waited := slices.Clone(t.accepted)
	settle := func(i int, o Outcome) { own.settle(t.conn.name, i, o) }
	if err := t.collect(by, settle); err != nil {
		t.lost(err, settle)
	}
	all := make([]Outcome, len(waited))
	for n, i := range waited {
		all[n] = own.outcomes[i]
	}
	return all
}

// remember keeps what was offered on the way to an entry of a route.
func (r *Relay) remember(entry key, caps Capabilities) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.nextHop(entry)
	h.caps, h.known = caps, true
}

// Capabilities are those of the last EHLO of the route's first host that ever
// answered; known is false where none did.
func (r *Relay) Capabilities(route Route) (c Capabilities, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, host := range route.Hosts {
		entry, err := route.entryOf(host)
		if h := r.nextHops[entry]; err == nil && h != nil && h.known {
			return h.caps, true
		}
	}
	return Capabilities{}, false
}

// Probe is Capabilities, and connects to the route's hosts in order where
// nothing is known.
func (r *Relay) Probe(ctx context.Context, route Route) (Capabilities, error) {
	if caps, known := r.Capabilities(route); known {
		return caps, nil
	}
	failed := errors.New("the route has no next hop")
	for t, err := range r.targets(ctx, route) {
		if err == nil {
			var c *conn
			if c, err = r.get(ctx, t); err == nil {
				r.put(c)
				return c.Capabilities, nil
			}
		}
		failed = fmt.Errorf("%s: %w", t.key, err)
	}
	return Capabilities{}, failed
}
