// Package gateway is the way of a message: from the session through the filters
// and the verdict to the next hop, the spool or the quarantine, and to the reply
// (RFC 5321). It names in small interfaces what it needs from above, and knows
// neither filters nor weights nor where the quarantine lies.
package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/gateway/compose"
	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/recipients"
	"postern/gateway/relay"
	"postern/gateway/smtpd"
	"postern/gateway/spool"
)

// Inspector runs the filters of one stage at once; its results stand in one
// order, whoever was first.
type Inspector interface {
	Run(ctx context.Context, stage mail.Stage, m *mail.Message, earlier []mail.Result) []mail.Result
}

// Judge weighs results for recipients. Each recipient stands in one verdict.
type Judge interface {
	Judge(results []mail.Result, recipients []mail.Address) []mail.Verdict
}

// Keeper keeps the original of a message. What it reports as kept must survive
// the loss of power.
type Keeper interface {
	// Keep stores m for the verdict's recipients and returns what it is known by.
	Keep(ctx context.Context, m *mail.Message, v mail.Verdict) (id string, err error)
	// Drop takes back what Keep stored, when the sender keeps the message after all.
	Drop(ctx context.Context, id string) error
}

// Recorder remembers what became of messages. Its methods must not block.
type Recorder interface {
	Observe(ctx context.Context, r mail.Record)
	Refusal(r mail.Record) // before DATA; may be summed
	Deliver(id string, d mail.Delivery)
}

// Settings are what a reload may change. A transaction keeps those that it began
// with.
type Settings struct {
	Hostname   string
	Domains    map[string]Domain // by name in lower case
	Recipients int               // in one transaction
	Reply      time.Duration     // from the final dot to our reply
	Postmaster []mail.Address    // who gets mail for the bare postmaster
	Filters    Inspector
	Judge      Judge
}

// Domain is one that we take mail for.
type Domain struct {
	Route  relay.Route
	Verify Verification
	Listed map[string]bool // by Address.Key; for VerifyList
	Backup bool            // we stand in for its primary
	Spool  bool            // mode = "spool": take it, then deliver
	Pass   bool            // on_4xx = "pass"
	Retry  time.Duration   // before what was put off is tried again for the first time
}

// Verification says how a domain's recipients are known.
type Verification int

// The ways to know recipients.
const (
	VerifyAsk  Verification = iota // "verify": ask the inside
	VerifyAny                      // "any"
	VerifyList                     // a list or a file
)

// Parts are what a Gateway is assembled from.
type Parts struct {
	Relay      *relay.Relay
	Spool      *spool.Spool
	Keeper     Keeper
	Recorder   Recorder
	Recipients *recipients.Book
	Board      *health.Board
	Log        *slog.Logger
	TempDir    string // for large contents while they are in hand
}

// Gateway is the border. Its methods may be called at once.
type Gateway struct {
	Parts
	settings atomic.Pointer[Settings]
	inMemory atomic.Int64
	hops     *hops
	metrics  *metrics
	late     answers
	closing  chan struct{}
	close    sync.Once // of closing
}

// New assembles a gateway.
func New(p Parts, s *Settings) *Gateway {
	g := &Gateway{Parts: p, hops: newHops(p.Board), metrics: newMetrics(p.Board.Registry()), closing: make(chan struct{})}
	g.Configure(s)
	return g
}

// Configure gives the gateway other settings, for the transactions to come.
func (g *Gateway) Configure(s *Settings) {
	g.settings.Store(s)
	g.hops.keep(s.Domains)
}

// NewSession is what the SMTP server calls for each connection.
func (g *Gateway) NewSession(c mail.Client) smtpd.Session {
	return &session{gateway: g, client: c}
}

// Close waits for the answers that are still out, at most until ctx ends: each
// that comes saves the next start a second copy. What is not known then counts as
// a dead connection, and the spool has it. It may be called again.
func (g *Gateway) Close(ctx context.Context) {
	select {
	case <-g.late.none():
	case <-ctx.Done():
	}
	g.close.Do(func() { close(g.closing) })
	<-g.late.none() // those that just came are being written
}

// domain finds one of ours. Its name must be the whole name: neither a suffix
// nor a subdomain of it is ours.
func (s *Settings) domain(name string) (Domain, bool) {
	d, ours := s.Domains[strings.ToLower(name)]
	return d, ours
}

// route is where mail for a domain goes: inside for ours, by MX for others, to
// which only we ourselves write (DSNs, alerts).
func (s *Settings) route(domain string) relay.Route {
	if d, ours := s.domain(domain); ours {
		return d.Route
	}
	return relay.Route{Domain: domain, Hosts: []string{"mx:"}, TLS: relay.TLSMay}
}

// composer writes in the name that the settings give us.
func (s *Settings) composer() *compose.Composer { return &compose.Composer{Hostname: s.Hostname} }

// Transaction is a message whose content has come in.
type Transaction struct {
	Settings *Settings
	Message  *mail.Message
	Early    []mail.Result  // what the filters of the stages before the content found
	StandIns []mail.Address // recipients who stand in for the bare postmaster
}

// Process takes a message from the end of its content to the reply. All verdicts
// are computed before anything is done.
func (g *Gateway) Process(ctx context.Context, t Transaction) mail.Reply {
	p := &passage{gateway: g, settings: t.Settings, message: t.Message, standIns: t.StandIns, started: time.Now()}
	p.results = g.inspect(ctx, t)
	p.verdicts = t.Settings.Judge.Judge(p.results, t.Message.Envelope.Recipients)
	p.reply = p.act(ctx)
	g.remember(ctx, p)
	return p.reply
}

// inspect runs the stages that see the content, within half of the time that
// there is for the reply.
func (g *Gateway) inspect(ctx context.Context, t Transaction) []mail.Result {
	ctx, cancel := context.WithTimeout(ctx, t.Settings.Reply/2)
	defer cancel()
	t.Message.Parse(mail.DefaultLimits)
	filters, results := t.Settings.Filters, slices.Clone(t.Early)
	for _, stage := range []mail.Stage{mail.StageContent, mail.StageDerived} {
		results = append(results, filters.Run(ctx, stage, t.Message, results)...)
	}
	return results
}

// act does what the verdicts say: one switch, and the only one.
func (p *passage) act(ctx context.Context) mail.Reply {
	if hops := compose.Hops(p.message.Header); hops > maxHops || p.loops() {
		return p.reply4(554, "5.4.6", "Mail loop: too many hops")
	}
	switch p.weakest() {
	case mail.Reject:
		return p.reply4(550, "5.7.1", "Message refused")
	case mail.Defer:
		return p.reply4(451, "4.7.1", "Try again later")
	}
	return p.handOn(ctx)
}
