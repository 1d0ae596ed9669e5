package house

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"postern/cmd/postern/config"
	"postern/filters"
	"postern/filters/attachments"
	"postern/filters/clamav"
	"postern/filters/heuristics"
	"postern/filters/spamassassin"
	"postern/gateway"
	"postern/gateway/mail"
	"postern/gateway/relay"
	"postern/scoring"
)

// Policy is what a reload replaces: how mail is judged, and where it goes.
type Policy struct {
	config   *config.Config
	set      filters.Set
	runner   *filters.Runner
	scoring  *scoring.Scoring
	settings *gateway.Settings
	delivery map[string]config.Delivery // by domain, where it has its own
}

// NewPolicy builds the filters, the weights and the routes.
func NewPolicy(c *config.Config, log *slog.Logger) (*Policy, error) {
	p := &Policy{config: c, delivery: map[string]config.Delivery{}}
	var err error
	if p.set, err = filters.Build(filterConfig(c)); err != nil {
		return nil, err
	}
	p.runner = filters.New(p.set, log)
	if p.scoring, err = newScoring(c); err != nil {
		return nil, err
	}
	p.settings = &gateway.Settings{
		Hostname: c.Hostname, Recipients: c.Limits.Recipients, Reply: c.Limits.Reply.Std(),
		Domains: map[string]gateway.Domain{}, Postmaster: postmaster(c), Filters: p.runner, Judge: p.scoring,
	}
	for name, d := range c.Domains {
		key := mail.Address{Domain: name}.DomainKey()
		p.delivery[key] = c.DeliveryFor(d)
		if p.settings.Domains[key], err = newDomain(c, key, d); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// filterConfig says which filters are on, and how.
func filterConfig(c *config.Config) (f filters.Config) {
	if a := c.Filters.Attachments; a.Enabled {
		f.Attachments = &attachments.Config{
			Extensions:      append(strings.Fields(attachments.DefaultExtensions), a.Block...),
			AllowExtensions: a.Allow,
			Types:           append(strings.Fields(attachments.DefaultTypes), a.Types...),
		}
	}
	if c.Filters.Heuristics.Enabled {
		f.Heuristics = &heuristics.Config{}
	}
	if e := c.Filters.ClamAV; IsOn(e.Enabled, e.Address) {
		f.ClamAV = &clamav.Config{Addresses: []string{e.Address}, Timeout: e.Timeout.Std(), Connections: e.Connections}
	}
	if e := c.Filters.SpamAssassin; IsOn(e.Enabled, e.Address) {
		f.SpamAssassin = &spamassassin.Config{
			Addresses: []string{e.Address}, Timeout: e.Timeout.Std(), MaxSize: int64(e.MaxSize),
			Connections: e.Connections, Hostname: c.Hostname, Reverse: reverse(resolver(c.DNS.Servers)),
		}
	}
	return f
}

// IsOn says whether an engine is used: it has an address and was not switched
// off.
func IsOn(enabled *bool, address string) bool {
	return address != "" && (enabled == nil || *enabled)
}

// newScoring turns the thresholds and the filters' actions into policies.
func newScoring(c *config.Config) (*scoring.Scoring, error) {
	def := scorePolicy(c, c.Score, c.Tag.Subject)
	domains := map[string]scoring.Policy{}
	for name, d := range c.Domains {
		subject := c.Tag.Subject
		if d.Tag.Subject != nil {
			subject = *d.Tag.Subject
		}
		p := scorePolicy(c, c.ScoreFor(d), subject)
		if a := d.Attachments.Action; a != nil {
			p.Actions["ATTACHMENT_BLOCKED"] = *a
		}
		if a := d.ClamAV.Action; a != nil {
			p.Actions["CLAMAV_VIRUS"], p.Actions["EICAR"] = *a, *a
		}
		domains[name] = p
	}
	return scoring.New(def, domains)
}

func scorePolicy(c *config.Config, s config.Score, subject string) scoring.Policy {
	f := c.Filters
	return scoring.Policy{
		Tag: s.Tag, Quarantine: s.Quarantine, Reject: s.Reject, Greylist: s.Greylist, SubjectTag: subject,
		Symbols: maps.Clone(s.Symbols),
		Actions: map[string]mail.Action{
			"ATTACHMENT_BLOCKED": f.Attachments.Action, "ATTACHMENT_LIMIT": f.Attachments.OnLimit,
			"CLAMAV_VIRUS": f.ClamAV.Action, "EICAR": f.ClamAV.Action,
			"CLAMAV_LIMIT": f.ClamAV.OnLimit, "CLAMAV_UNSCANNABLE": f.ClamAV.OnLimit,
		},
		OnError: map[string]mail.Action{
			"clamav": onError(f.ClamAV.OnError), "spamassassin": onError(f.SpamAssassin.OnError),
			// These have no engine that could be away: what goes wrong in them
			// must not let a message through unseen.
			"attachments": mail.Defer, "heuristics": mail.Defer,
		},
	}
}

func onError(word string) mail.Action {
	if word == "defer" {
		return mail.Defer
	}
	return mail.Accept
}

// newDomain says where a domain's mail goes and whom it has.
func newDomain(c *config.Config, name string, d config.Domain) (gateway.Domain, error) {
	v := c.DeliveryFor(d)
	g := gateway.Domain{
		Route:  relay.Route{Domain: name, Hosts: d.DeliverTo},
		Backup: d.Backup, Spool: v.Mode == "spool", Pass: v.On4xx == "pass", Retry: v.Retry[0].Std(),
	}
	if err := g.Route.TLS.UnmarshalText([]byte(v.TLS)); err != nil {
		return g, err
	}
	mode, list, err := d.RecipientList()
	if err != nil {
		return g, err
	}
	g.Verify = map[string]gateway.Verification{"any": gateway.VerifyAny, "verify": gateway.VerifyAsk, "list": gateway.VerifyList}[mode]
	g.Listed = map[string]bool{}
	for _, a := range list {
		g.Listed[a.Key()] = true
	}
	return g, nil
}

// postmaster is who gets mail for the bare postmaster: those who get the alerts,
// or else postmaster at the alphabetically first domain (RFC 5321, section
// 4.5.1).
func postmaster(c *config.Config) (list []mail.Address) {
	for _, text := range c.Alerts.Mail {
		if a, err := mail.ParseAddress(text); err == nil {
			list = append(list, a)
		}
	}
	if names := slices.Sorted(maps.Keys(c.Domains)); len(list) == 0 && len(names) > 0 {
		list = []mail.Address{{Local: "postmaster", Domain: names[0]}}
	}
	return list
}

// retry is the schedule of a route: a domain of ours, or another's for a DSN.
func (p *Policy) retry(route string) []time.Duration {
	var waits []time.Duration
	for _, d := range p.deliveryFor(route).Retry {
		waits = append(waits, d.Std())
	}
	return waits
}

func (p *Policy) lifetime(route string) time.Duration { return p.deliveryFor(route).Lifetime.Std() }

func (p *Policy) deliveryFor(route string) config.Delivery {
	if d, has := p.delivery[route]; has {
		return d
	}
	return p.config.Delivery
}

// Inspect runs every stage on a message with content; only names the filters
// that are asked, nil is all.
func (p *Policy) Inspect(ctx context.Context, m *mail.Message, only []string) (results []mail.Result) {
	runner := p.runner
	if only != nil {
		set := slices.DeleteFunc(slices.Clone(p.set), func(e filters.Entry) bool { return !slices.Contains(only, e.Name) })
		runner = filters.New(set, slog.New(slog.DiscardHandler))
	}
	for stage := mail.StageConnect; stage <= mail.StageDerived; stage++ {
		results = append(results, runner.Run(ctx, stage, m, results)...)
	}
	return results
}

// Judge weighs results for recipients.
func (p *Policy) Judge(results []mail.Result, recipients []mail.Address) []mail.Verdict {
	return p.scoring.Judge(results, recipients)
}

// Domains are those that mail is taken for, by name.
func (p *Policy) Domains() map[string]gateway.Domain { return p.settings.Domains }
