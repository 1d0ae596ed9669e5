package record

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/gateway/mail"
)

const (
	sumAfter      = 10          // refusals of a client and reason in a minute that are kept one by one
	sumPeriod     = time.Minute // from the first of them
	sumKeys       = 50_000      // clients and reasons that are counted at once; others are kept one by one
	sumRecipients = 100         // different recipients that a sum names
)

// Summer sums refusals, so that a flood costs the records of a flooder a few
// lines a minute. A client is an IPv4 address or an IPv6 /64. It looks at no
// clock, and its zero value serves. It is not for several goroutines at once.
type Summer struct {
	counts map[sumKey]*sumCount
}

type sumKey struct{ client, reason string }

type sumCount struct {
	began time.Time
	seen  int
	sum   *mail.Record // nil until there is something to sum
}

// Add counts a refusal, and says whether it is to be kept as a record of its
// own. Otherwise it is part of a sum, which Due returns when its minute ends.
func (s *Summer) Add(r mail.Record, now time.Time) bool {
	key := sumKey{network(r.Client), reason(&r)}
	c := s.counts[key]
	if c == nil {
		if len(s.counts) >= sumKeys {
			return true
		}
		if s.counts == nil {
			s.counts = map[sumKey]*sumCount{}
		}
		c = &sumCount{began: now}
		s.counts[key] = c
	}
	c.seen++
	if c.seen <= sumAfter {
		return true
	}
	c.add(r)
	return false
}

func (c *sumCount) add(r mail.Record) {
	more := max(r.Count, 1)
	if c.sum == nil {
		c.sum = &r
		c.sum.Recipients = slices.Clone(r.Recipients)
		c.sum.Count = more
		return
	}
	c.sum.Count += more
	for _, rcpt := range r.Recipients {
		if len(c.sum.Recipients) < sumRecipients && !slices.Contains(c.sum.Recipients, rcpt) {
			c.sum.Recipients = append(c.sum.Recipients, rcpt)
		}
	}
}

// Due returns the sums whose minute has ended, and forgets them: with the next
// refusal a client's first ten begin anew.
func (s *Summer) Due(now time.Time) []mail.Record {
	return s.end(func(c *sumCount) bool {
		age := now.Sub(c.began)
		return age >= sumPeriod || age < 0 // the clock was set back
	})
}

// Rest returns all sums, for the end.
func (s *Summer) Rest() []mail.Record {
	return s.end(func(*sumCount) bool { return true })
}

func (s *Summer) end(ended func(*sumCount) bool) (sums []mail.Record) {
	for key, c := range s.counts {
		if !ended(c) {
			continue
		}
		if c.sum != nil {
			sums = append(sums, *c.sum)
		}
		delete(s.counts, key)
	}
	return sums
}

// network is whom one attacker's addresses have in common.
func network(client string) string {
	a, err := netip.ParseAddr(client)
	if err != nil {
		return client
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return client
	}
	return p.String()
}

// reason is what the refusals have in common: a reply's text bears an id, so
// where no reason is given only the reply's codes count.
func reason(r *mail.Record) string {
	if r.Reason != "" {
		return cut(r.Reason, maxText)
	}
	codes := strings.SplitN(r.Reply, " ", 3)
	return strings.Join(codes[:min(len(codes), 2)], " ")
}
