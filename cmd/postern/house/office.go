package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/gateway/control"
	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/record"
	"postern/gateway/spool"
	"postern/quarantine"
)

// office does for the commands what they ask for, in the process that has the
// state.
type office struct{ house *House }

var _ control.Office = office{}

// Waiting is how many messages wait for their next hop.
func (h *House) Waiting() int { return h.spool.Len() }

// Filters are the names of the filters that are on, those with an engine of their
// own left out.
func (h *House) Filters() (names []string) {
	for _, e := range h.policy.Load().set {
		if _, hasEngine := e.Filter.(Pinger); !hasEngine {
			names = append(names, e.Name)
		}
	}
	return names
}

// Office answers the commands in this process.
func (h *House) Office() control.Office { return office{h} }

// Queue implements control.Office.
func (o office) Queue(context.Context) ([]control.Queued, error) {
	items := o.house.spool.List()
	list := make([]control.Queued, len(items))
	for i, it := range items {
		list[i] = control.Queued{
			ID: it.ID, Time: it.Time, Sender: it.ReversePath.String(), Recipients: addresses(it.Recipients),
			NextHop: it.NextHop, Attempts: it.Attempts, Next: it.Next, LastReply: it.LastReply, Subject: it.Subject, Held: it.Held,
		}
		if it.NextHop == "" {
			list[i].NextHop = strings.Join(o.house.policy.Load().settings.Domains[it.Route].Route.Hosts, " ")
		}
	}
	return list, nil
}

func addresses(list []mail.Address) []string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return texts
}

// RetryQueued implements control.Office.
func (o office) RetryQueued(_ context.Context, id string) error {
	return missing(id, o.house.spool.Retry(id))
}

// DeleteQueued implements control.Office.
func (o office) DeleteQueued(_ context.Context, id string) error {
	it, unread := o.house.spool.Get(id) // a damaged one can be deleted, too
	if err := o.house.spool.Delete(id); err != nil {
		return missing(id, err)
	}
	o.house.log.Info("deleted from the queue", "id", id, "sender", it.ReversePath.String(), "recipients", addresses(it.Recipients))
	if unread != nil {
		return nil
	}
	for _, rcpt := range it.Recipients {
		o.house.records.Deliver(it.Message, mail.Delivery{Recipient: rcpt.String(), NextHop: "queue", Time: time.Now(), Reply: "deleted by an administrator"})
	}
	return nil
}

// missing gives the stores' "not found" the commands' name.
func missing(id string, err error) error {
	if errors.Is(err, spool.ErrNotFound) || errors.Is(err, quarantine.ErrNotFound) {
		return fmt.Errorf("%s: %w", id, control.ErrNotFound)
	}
	return err
}

// Kept implements control.Office.
func (o office) Kept(ctx context.Context, q control.KeptQuery) ([]control.Kept, error) {
	f := quarantine.Filter{Recipient: q.Recipient, Sender: q.Sender, Since: q.Since, Reason: q.Reason, Limit: q.Limit}
	switch class := mail.Class(q.Reason); class {
	case mail.ClassSpam, mail.ClassVirus, mail.ClassAttachment, mail.ClassPolicy, mail.ClassUndeliverable:
		f.Class, f.Reason = class, ""
	}
	entries, err := o.house.quarantine.List(ctx, f)
	if err != nil {
		return nil, err
	}
	list := make([]control.Kept, len(entries))
	for i, e := range entries {
		list[i] = kept(e)
	}
	return list, nil
}

// kept is an entry of the quarantine as the commands see it.
func kept(e quarantine.Entry) control.Kept {
	k := control.Kept{
		ID: e.ID, Time: e.Time, Sender: e.Sender, Recipients: e.Recipients, Subject: e.Subject, Size: e.Size,
		Class: e.Class, Reason: e.Reason, Symbols: e.Symbols, Score: e.Score, Unscanned: e.Unscanned,
	}
	if k.Symbols == nil {
		k.Symbols = []string{} // a list in JSON, even an empty one
	}
	for _, r := range e.Released {
		k.Released = append(k.Released, mail.Delivery{Recipient: r.To, Time: r.Time, Reply: r.Reply})
	}
	return k
}

// KeptOne implements control.Office.
func (o office) KeptOne(ctx context.Context, id string) (control.Kept, error) {
	e, err := o.house.quarantine.Get(ctx, id)
	return kept(e), missing(id, err)
}

// KeptContent implements control.Office.
func (o office) KeptContent(ctx context.Context, id string, w io.Writer) error {
	content, closer, err := o.house.quarantine.Open(ctx, id)
	if err != nil {
		return missing(id, err)
	}
	defer closer.Close()
	_, err = content.WriteTo(w)
	return err
}

// DeleteKept implements control.Office.
func (o office) DeleteKept(ctx context.Context, id string) error {
	if err := o.house.quarantine.Delete(ctx, id); err != nil {
		return missing(id, err)
	}
	o.house.log.Info("deleted from the quarantine", "id", id)
	return nil
}

// ReleaseKept implements control.Office: the original goes to its recipients as
// it was received, never judged again. A virus, or what an engine has not seen
// and now calls one, only goes when that is asked for.
func (o office) ReleaseKept(ctx context.Context, id string, how control.Release) ([]mail.Delivery, error) {
	e, err := o.house.quarantine.Get(ctx, id)
	if err != nil {
		return nil, missing(id, err)
	}
	content, closer, err := o.house.quarantine.Open(ctx, id)
	if err != nil {
		return nil, missing(id, err)
	}
	defer closer.Close()
	m, err := original(e, content, how.To)
	if err != nil {
		return nil, err
	}
	if !how.Virus {
		if err := o.harmless(ctx, e, m); err != nil {
			return nil, err
		}
	}
	// From here on it may have been delivered: that is noted, whoever hung up.
	ctx = context.WithoutCancel(ctx)
	done, err := o.house.gateway.Release(ctx, m)
	for _, d := range done {
		o.house.log.Info("released", "id", id, "recipient", d.Recipient, "next_hop", d.NextHop, "reply", d.Reply)
		o.house.records.Deliver(e.Message, d)
		err = errors.Join(err, o.house.quarantine.MarkReleased(ctx, id, quarantine.Release{To: d.Recipient, Time: d.Time, Reply: d.Reply}))
	}
	return done, err
}

// original is the kept message again, for its recipients or for somebody else.
func original(e quarantine.Entry, content mail.Content, to string) (*mail.Message, error) {
	m := &mail.Message{ID: e.Message, Received: e.Time, Content: content}
	m.Envelope.SMTPUTF8, m.Envelope.EightBit = e.SMTPUTF8, e.EightBit
	recipients := e.Recipients
	if to != "" {
		recipients = []string{to}
	}
	var err error
	if m.Envelope.ReversePath, err = mail.ParseAddress(e.Sender); err != nil {
		return nil, fmt.Errorf("sender %q: %w", e.Sender, err)
	}
	for _, text := range recipients {
		rcpt, err := mail.ParseAddress(text)
		if err != nil || rcpt.IsZero() {
			return nil, fmt.Errorf("recipient %q is no mail address", text)
		}
		m.Envelope.Recipients = append(m.Envelope.Recipients, rcpt)
	}
	m.Parse(mail.DefaultLimits)
	return m, nil
}

// harmless says no to what is known to hold a virus, and shows the message to
// the engines that were silent when it was kept.
func (o office) harmless(ctx context.Context, e quarantine.Entry, m *mail.Message) error {
	if e.Class == mail.ClassVirus {
		return Hint{fmt.Errorf("%s %w: %s", e.ID, control.ErrVirus, e.Reason), "--virus releases it all the same"}
	}
	if len(e.Unscanned) == 0 {
		return nil
	}
	p := o.house.policy.Load()
	for _, name := range e.Unscanned {
		if !slices.ContainsFunc(p.set, func(f filters.Entry) bool { return f.Name == name }) {
			return Hint{fmt.Errorf("%s was kept unscanned, and %s is not in use any more", e.ID, name), "--virus releases it all the same"}
		}
	}
	results := p.Inspect(ctx, m, e.Unscanned)
	for _, r := range results {
		if r.Fault == mail.FaultEngine {
			return fmt.Errorf("%s was kept unscanned, and %s still can't be asked: %w", e.ID, r.Filter, r.Err)
		}
	}
	for _, v := range p.scoring.Judge(results, m.Envelope.Recipients) {
		if v.Class == mail.ClassVirus {
			return Hint{fmt.Errorf("%s %w, found now: %s", e.ID, control.ErrVirus, v.Reason), "--virus releases it all the same"}
		}
	}
	return nil
}

// trackLimit is how many records one question brings at most.
const trackLimit = 1000

// Track implements control.Office.
func (o office) Track(ctx context.Context, query string) ([]mail.Record, error) {
	if err := o.house.records.Flush(ctx); err != nil {
		return nil, err
	}
	return o.house.records.Search(ctx, record.Query{Text: query, Limit: trackLimit})
}

// Health implements control.Office.
func (o office) Health(context.Context) ([]health.Fact, error) { return o.house.board.Facts(), nil }

// Backup implements control.Office.
func (o office) Backup(ctx context.Context, w io.Writer) error { return backup(ctx, o.house, w) }
