package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/gateway/compose"
	"postern/gateway/mail"
	"postern/gateway/relay"
	"postern/gateway/spool"
)

// maxHops and maxOwnHops end a mail loop (RFC 5321, section 6.3): Received
// fields in all, and fields of ours that were written for the same recipient.
const (
	maxHops    = 50
	maxOwnHops = 3
)

// passage is one message on its way from the verdicts to the reply.
type passage struct {
	gateway  *Gateway
	settings *Settings
	message  *mail.Message
	standIns []mail.Address
	started  time.Time

	results  []mail.Result
	verdicts []mail.Verdict
	reply    mail.Reply

	kept       []string        // what the keeper knows the originals by
	consigned  int             // recipients that are kept instead of handed on
	spooled    []string        // items of the spool, should they have to be taken back
	notes      []mail.Delivery // what was kept and spooled, for the record
	deliveries []mail.Delivery // what the next hops said
}

// reply4 makes a reply to the final dot: it carries the message's id.
func (p *passage) reply4(code int, enhanced, text string) mail.Reply {
	return mail.Reply{Code: code, Enhanced: enhanced, Text: text + " (" + p.message.ID + ")"}
}

// loops says whether the message has passed here for the same recipient before.
func (p *passage) loops() bool {
	for _, rcpt := range p.message.Envelope.Recipients {
		if compose.OwnHops(p.message.Header, p.settings.Hostname, rcpt) >= maxOwnHops {
			return true
		}
	}
	return false
}

// weakest is what can be said to the client for all recipients together: Defer
// where one group defers, Reject where all reject, and otherwise the message is
// to be dealt with group by group.
func (p *passage) weakest() mail.Action {
	rejected := 0
	for _, v := range p.verdicts {
		switch v.Action {
		case mail.Defer:
			return mail.Defer
		case mail.Reject:
			rejected++
		}
	}
	if rejected == len(p.verdicts) {
		return mail.Reject
	}
	return mail.Accept
}

// consignment is one message for one next hop: the recipients whose copy and
// whose route are the same.
type consignment struct {
	domain    Domain
	content   mail.Content
	job       relay.Job
	unscanned []string // engines that were silent
	standIn   bool     // we named these recipients ourselves, in the postmaster's place

	outcomes []relay.Outcome
	late     <-chan []relay.Outcome
	held     string // the spool's item while an answer is out
}

// handOn keeps what is to be kept, asks all next hops at once, and says what
// became of it (the sentences of "Next hops", in their order).
func (p *passage) handOn(ctx context.Context) mail.Reply {
	if err := p.keep(ctx); err != nil {
		return p.notKept(err)
	}
	consignments := p.consignments()
	first, asked := split(consignments)
	if err := p.spoolAll(ctx, first); err != nil {
		p.takeBack(ctx)
		return p.notKept(err)
	}
	p.ask(ctx, asked)
	reply := p.settle(ctx, asked, p.consigned > 0 || len(first) > 0)
	if !reply.Positive() {
		p.takeBack(ctx)
	}
	return reply
}

// keep writes the originals that are to be kept, synced, before anything is
// handed on. Where some recipients refuse and others do not, there is no reply
// that says so: the message is kept for those who refuse.
func (p *passage) keep(ctx context.Context) error {
	for i := range p.verdicts {
		v := &p.verdicts[i]
		if v.Action < mail.Quarantine && v.Action != mail.Strip {
			continue
		}
		if v.Action == mail.Reject {
			v.Action = mail.Quarantine
		}
		id, err := p.gateway.Keeper.Keep(ctx, p.message, *v)
		if err != nil {
			p.takeBack(ctx)
			return err
		}
		p.kept = append(p.kept, id)
		if v.Action == mail.Quarantine {
			p.consigned += len(v.Recipients)
			p.note(v.Recipients, "quarantine", "kept as "+id)
		}
	}
	return nil
}

// takeBack undoes what was kept and spooled for a message that is not taken: the
// sender still has it, and will come again.
func (p *passage) takeBack(ctx context.Context) {
	for _, id := range p.kept {
		if err := p.gateway.Keeper.Drop(ctx, id); err != nil {
			p.gateway.Log.Warn("kept copy not taken back", "id", id, "err", err)
		}
	}
	for _, id := range p.spooled {
		if err := p.gateway.Spool.Delete(id); err != nil {
			p.gateway.Log.Warn("spooled copy not taken back", "id", id, "err", err)
		}
	}
	p.kept, p.spooled, p.notes = nil, nil, nil
}

// notKept answers where a write failed: nothing is ours.
func (p *passage) notKept(err error) mail.Reply {
	p.gateway.Board.Alert("not kept", "A message could not be written to the state and was put off with 452: "+err.Error())
	p.gateway.Log.Error("message not kept", "id", p.message.ID, "err", err)
	return p.reply4(452, "4.3.1", "Out of space, try again later")
}

// consignments sorts the recipients that get a copy by copy and route.
func (p *passage) consignments() []*consignment {
	var all []*consignment
	for _, v := range p.verdicts {
		if v.Action >= mail.Defer {
			continue
		}
		content := p.settings.composer().Outgoing(p.message, v, p.authentication())
		type way struct {
			domain  string
			standIn bool // of what becomes of them the sender hears nothing
		}
		ways := map[way]*consignment{}
		for _, rcpt := range v.Recipients {
			w := way{rcpt.DomainKey(), slices.Contains(p.standIns, rcpt)}
			c := ways[w]
			if c == nil {
				c = p.consign(w.domain, content)
				c.unscanned, c.standIn = v.Unscanned, w.standIn
				ways[w] = c
				all = append(all, c)
			}
			c.job.Recipients = append(c.job.Recipients, rcpt)
			c.job.SMTPUTF8 = c.job.SMTPUTF8 || !rcpt.ASCII()
		}
	}
	return all
}

func (p *passage) consign(domain string, content mail.Content) *consignment {
	d, _ := p.settings.domain(domain)
	e := p.message.Envelope
	return &consignment{domain: d, content: content, job: relay.Job{
		Route: p.settings.route(domain), ReversePath: e.ReversePath, Content: content,
		SMTPUTF8: !e.ReversePath.ASCII(), EightBit: e.EightBit,
		AnswerBy: p.started.Add(p.settings.Reply), Late: lateAnswer,
	}}
}

// lateAnswer is how long the answer to a final dot is waited for (RFC 5321,
// section 4.5.3.2.6).
const lateAnswer = 10 * time.Minute

// split parts what is spooled first from what is handed on in the session.
func split(all []*consignment) (first, asked []*consignment) {
	for _, c := range all {
		if c.domain.Spool {
			first = append(first, c)
		} else {
			asked = append(asked, c)
		}
	}
	return first, asked
}

func (p *passage) spoolAll(ctx context.Context, cs []*consignment) error {
	for _, c := range cs {
		if _, err := p.spool(ctx, c, c.job.Recipients, spool.Item{}); err != nil {
			return err
		}
		p.note(c.job.Recipients, "spool", "taken to be delivered")
	}
	return nil
}

// ask hands the message to all next hops at once.
func (p *passage) ask(ctx context.Context, cs []*consignment) {
	ctx, cancel := context.WithDeadline(ctx, p.started.Add(p.settings.Reply))
	defer cancel()
	done := make(chan struct{}, len(cs))
	for i, c := range cs {
		run := func() { c.outcomes, c.late = p.gateway.Relay.Deliver(ctx, c.job); done <- struct{}{} }
		if i == len(cs)-1 {
			run() // one next hop is the rule, and needs no other goroutine
		} else {
			go run()
		}
	}
	for range cs {
		<-done
	}
	for _, c := range cs {
		p.gateway.observe(p.settings, c.job.Route.Domain, c.outcomes)
		for _, o := range c.outcomes {
			p.deliveries = append(p.deliveries, delivery(o))
		}
	}
}

// settle is the table of "Next hops": what the client is told, and what is
// written before it is told.
func (p *passage) settle(ctx context.Context, cs []*consignment, taken bool) mail.Reply {
	passed, refused := mail.Reply{}, mail.Reply{}
	undecided := false
	for _, c := range cs {
		for _, o := range c.outcomes {
			switch o.Status {
			case relay.Taken, relay.Waiting:
				taken = true
			case relay.Refused:
				// Whom we put in the postmaster's place ourselves is refused
				// without the sender's fault: the message is kept.
				taken = taken || c.standIn
				if refused.Code == 0 {
					refused = o.Reply
				}
			case relay.Later:
				undecided = true
				if c.domain.Pass && passed.Code == 0 {
					passed = o.Reply
				}
			default:
				undecided = true
			}
		}
	}
	switch {
	case taken:
	case !undecided && refused.Code != 0:
		return p.inside(refused)
	case passed.Code != 0:
		return p.inside(passed)
	}
	if err := p.takeOver(ctx, cs); err != nil {
		return p.notKept(err)
	}
	return p.reply4(250, "2.0.0", "OK")
}

// inside passes on what the server inside said, behind our id: its text is
// printable ASCII of at most 400 octets.
func (p *passage) inside(r mail.Reply) mail.Reply {
	text := r.Text
	if len(text) > 400 {
		text = text[:400]
	}
	return mail.Reply{Code: r.Code, Enhanced: enhanced(r), Text: "(" + p.message.ID + ") " + text}
}

// enhanced is the reply's enhanced code. We offer ENHANCEDSTATUSCODES, so there
// must be one, and of the reply's own class (RFC 2034, section 4), whatever the
// inside left out.
func enhanced(r mail.Reply) string {
	class := strconv.Itoa(r.Code / 100)
	if strings.HasPrefix(r.Enhanced, class+".") {
		return r.Enhanced
	}
	return class + ".0.0"
}

// takeOver makes ours what the next hops have not taken: it is on disk, or
// reported, before the client is told 250.
func (p *passage) takeOver(ctx context.Context, cs []*consignment) error {
	for _, c := range cs {
		if err := p.spoolRest(ctx, c); err != nil {
			return err
		}
	}
	// Reports come last: a report that is on its way can't be taken back.
	for _, c := range cs {
		refused := slices.DeleteFunc(slices.Clone(c.outcomes), func(o relay.Outcome) bool { return o.Status != relay.Refused })
		if len(refused) == 0 {
			continue
		}
		if err := p.gateway.undeliverable(ctx, p.settings, p.item(c, nil), refused); err != nil {
			return err
		}
	}
	for _, c := range cs {
		if c.held != "" {
			p.gateway.await(c.held, c.late)
		}
	}
	return nil
}

// spoolRest writes the recipients that are to be tried again, and those whose
// answer is out.
func (p *passage) spoolRest(ctx context.Context, c *consignment) error {
	var later, waiting []mail.Address
	for _, o := range c.outcomes {
		switch o.Status {
		case relay.Later, relay.Down:
			later = append(later, o.Recipient)
		case relay.Waiting:
			waiting = append(waiting, o.Recipient)
		}
	}
	if len(later) > 0 {
		last := lastReply(c.outcomes, later[0])
		item := spool.Item{Attempts: 1, LastReply: last.Reply.String(), NextHop: last.NextHop}
		if last.Status == relay.Later {
			item.Next = time.Now().Add(c.domain.Retry) // it asked for patience; one that is down is probed
		}
		if _, err := p.spool(ctx, c, later, item); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		id, err := p.spool(ctx, c, waiting, spool.Item{Attempts: 1, Held: true})
		if err != nil {
			return err
		}
		c.held = id
	}
	return nil
}

func lastReply(outcomes []relay.Outcome, rcpt mail.Address) relay.Outcome {
	i := slices.IndexFunc(outcomes, func(o relay.Outcome) bool { return o.Recipient == rcpt })
	return outcomes[max(i, 0)]
}

// spool puts a consignment's recipients on disk; rest is what is known of earlier
// attempts.
func (p *passage) spool(ctx context.Context, c *consignment, rcpts []mail.Address, rest spool.Item) (string, error) {
	it := p.item(c, rcpts)
	it.ID = p.message.ID
	if n := len(p.spooled); n > 0 {
		it.ID = fmt.Sprintf("%s.%d", p.message.ID, n+1)
	}
	it.Attempts, it.Next, it.LastReply, it.NextHop, it.Held = rest.Attempts, rest.Next, rest.LastReply, rest.NextHop, rest.Held
	if err := p.gateway.Spool.Put(ctx, it); err != nil {
		return "", err
	}
	p.spooled = append(p.spooled, it.ID)
	return it.ID, nil
}

func (p *passage) item(c *consignment, rcpts []mail.Address) spool.Item {
	e := p.message.Envelope
	return spool.Item{
		Message: p.message.ID, Time: time.Now(), ReversePath: e.ReversePath, Recipients: rcpts,
		SMTPUTF8: c.job.SMTPUTF8, EightBit: e.EightBit, Route: c.job.Route.Domain,
		Notify: !c.standIn && p.mayNotify(), Unscanned: c.unscanned,
		Subject: bounded(subject(p.message), 200), Content: c.content,
	}
}

// mayNotify says whether the reverse-path may be told by a DSN what became of
// the message: it is ours, or it proved to be the sender's own. Anybody else
// would get an answer to mail that they never sent.
func (p *passage) mayNotify() bool {
	from := p.message.Envelope.ReversePath
	if from.IsZero() {
		return false
	}
	if _, ours := p.settings.domain(from.Domain); ours {
		return true
	}
	return slices.ContainsFunc(p.results, func(r mail.Result) bool {
		// Only what we verified ourselves counts: an engine may have read it in the
		// message.
		return r.Filter == "mailauth" && (r.Symbol == "SPF_PASS" || r.Symbol == "DKIM_VALID_EF")
	})
}

// authentication is what stands in Authentication-Results behind our name.
func (p *passage) authentication() string { return "" }

func (p *passage) note(rcpts []mail.Address, where, what string) {
	for _, rcpt := range rcpts {
		p.notes = append(p.notes, mail.Delivery{Recipient: rcpt.String(), NextHop: where, Time: time.Now(), Reply: what})
	}
}

func delivery(o relay.Outcome) mail.Delivery {
	reply := o.Reply.String()
	if o.Status == relay.Waiting {
		reply = "answer to the final dot still out"
	}
	return mail.Delivery{Recipient: o.Recipient.String(), NextHop: o.NextHop, Time: o.Time, Reply: reply}
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
