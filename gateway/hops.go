package gateway

import (
	"fmt"
	"sync"
	"time"

	"postern/gateway/health"
	"postern/gateway/relay"
)

// alertAfter is how long a next hop may be down before somebody is told.
const alertAfter = 5 * time.Minute

// hops knows since when which of our domains' next hops are down.
type hops struct {
	board *health.Board

	mu   sync.Mutex
	down map[string]outage // by domain
}

type outage struct {
	since  time.Time
	reason string
}

func newHops(b *health.Board) *hops { return &hops{board: b, down: map[string]outage{}} }

// observe learns from what a next hop did. Where it is one of a stranger's, as
// for a DSN, it is no concern of the administrator's.
func (g *Gateway) observe(s *Settings, domain string, outcomes []relay.Outcome) {
	if _, ours := s.domain(domain); ours {
		g.hops.observe(domain, outcomes)
	}
	for _, o := range outcomes {
		if o.Status == relay.Taken {
			g.Spool.Up(domain) // what waits for it need not wait for its own turn
			return
		}
	}
}

func (h *hops) observe(domain string, outcomes []relay.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range outcomes {
		before, was := h.down[domain]
		switch {
		case o.Status != relay.Down && was:
			delete(h.down, domain)
			h.board.Set(health.Fact{Name: hopName(domain), OK: true, Text: "answers again"})
		case o.Status == relay.Down && !was:
			before.since = time.Now()
			fallthrough
		case o.Status == relay.Down:
			before.reason = reasonOf(o)
			h.down[domain] = before
			h.board.Set(health.Fact{Name: hopName(domain), Text: before.reason})
		}
	}
}

// keep forgets the domains that are no longer ours: nobody would ever say that
// their next hops answer again.
func (h *hops) keep(domains map[string]Domain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for domain := range h.down {
		if _, ours := domains[domain]; !ours {
			delete(h.down, domain)
			h.board.Drop(hopName(domain))
		}
	}
}

func hopName(domain string) string { return "next hop of " + domain }

func reasonOf(o relay.Outcome) string {
	if o.Err != nil {
		return o.Err.Error()
	}
	return o.NextHop + " says " + o.Reply.String()
}

// check alerts for every outage that lasts.
func (h *hops) check(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for domain, o := range h.down {
		if now.Sub(o.since) >= alertAfter {
			h.board.Alert(hopName(domain), fmt.Sprintf("The server inside for %s has been down since %s: %s. Its mail waits in the spool; see \"postern queue list\".",
				domain, o.since.UTC().Format(time.RFC3339), o.reason))
		}
	}
}
