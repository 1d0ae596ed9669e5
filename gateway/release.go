package gateway

import (
	"context"
	"time"

	"postern/gateway/compose"
	"postern/gateway/mail"
	"postern/gateway/relay"
	"postern/gateway/spool"
)

// Release hands on a kept message as it was received: nothing is added, nothing
// is judged. What its next hop can't take now waits in the spool; what the next
// hop refuses stays kept, and the outcome says so.
func (g *Gateway) Release(ctx context.Context, m *mail.Message) (done []mail.Delivery, err error) {
	s := g.settings.Load()
	for _, group := range byDomain(m.Envelope.Recipients) {
		it := releaseItem(m, group)
		outcomes, late := g.Relay.Deliver(ctx, relay.Job{
			Route: s.route(it.Route), ReversePath: it.ReversePath, Recipients: group,
			SMTPUTF8: it.SMTPUTF8, EightBit: it.EightBit, Content: m.Content, Answer: s.Reply, Late: lateAnswer,
		})
		g.observe(s, it.Route, outcomes)
		it.Recipients = nil
		var waits []mail.Delivery
		for _, o := range outcomes {
			d := delivery(o)
			switch o.Status {
			case relay.Later, relay.Down, relay.Waiting:
				it.Recipients = append(it.Recipients, o.Recipient)
				it.Held = it.Held || o.Status == relay.Waiting
				it.LastReply, it.NextHop = o.Reply.String(), o.NextHop
				if o.Status == relay.Later {
					it.Next = time.Now().Add(s.Domains[it.Route].Retry) // as in spoolRest
				}
				d.Reply = "waits in the queue: " + d.Reply
				waits = append(waits, d)
			default:
				done = append(done, d)
			}
		}
		if len(waits) == 0 {
			continue
		}
		if err := g.Spool.Put(ctx, it); err != nil {
			return done, err // without those who would have waited: they have nothing
		}
		done = append(done, waits...)
		if late != nil {
			g.await(it.ID, late)
		}
	}
	return done, nil
}

func releaseItem(m *mail.Message, group []mail.Address) spool.Item {
	now := time.Now()
	return spool.Item{
		ID: mail.NewID(now), Message: m.ID, Time: now, ReversePath: m.Envelope.ReversePath,
		SMTPUTF8: m.Envelope.SMTPUTF8, EightBit: m.Envelope.EightBit, Route: group[0].DomainKey(),
		Subject: subject(m), Content: m.Content, Attempts: 1,
	}
}

// byDomain groups recipients, in the order in which their domains first stand.
func byDomain(recipients []mail.Address) (groups [][]mail.Address) {
	at := map[string]int{}
	for _, rcpt := range recipients {
		i, known := at[rcpt.DomainKey()]
		if !known {
			i = len(groups)
			at[rcpt.DomainKey()] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], rcpt)
	}
	return groups
}

// Tell puts a short mail to those who get the alerts into the spool.
func (g *Gateway) Tell(ctx context.Context, subject, text string) error {
	s := g.settings.Load()
	for _, group := range byDomain(s.Postmaster) {
		now := time.Now()
		id := mail.NewID(now)
		content := s.composer().Alert(compose.Alert{ID: id, Time: now, To: group, Subject: subject, Text: text + "\n"})
		err := g.Spool.Put(ctx, spool.Item{
			ID: id, Message: id, Time: now, Recipients: group, Route: group[0].DomainKey(), Subject: subject, Content: content,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
