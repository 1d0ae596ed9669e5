package config

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"postern/gateway/mail"
	"postern/gateway/relay"
)

// check finds what is wrong in a configuration that could be read.
func (l *loader) check() {
	c := l.config
	l.checkNames()
	l.checkListen()
	l.checkLimits()
	l.checkDelivery()
	l.checkScores("score", c.Score.Tag, c.Score.Quarantine, c.Score.Reject)
	l.checkFilters()
	l.checkNotBuilt()
	for _, name := range slices.Sorted(maps.Keys(c.Domains)) {
		l.checkDomain(name, c.Domains[name])
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		l.fault("tls", "certificate and key go together: name both, or neither for a self-signed one")
	}
	l.oneOf("log.format", c.Log.Format, "text", "json")
	l.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	l.span("quarantine.keep", c.Quarantine.Keep)
	l.span("records.keep", c.Records.Keep)
	l.positive("quarantine.size", int64(c.Quarantine.Size))
	for _, a := range c.Alerts.Mail {
		if parsed, err := mail.ParseAddress(a); err != nil || parsed.Domain == "" {
			l.fault("alerts.mail", fmt.Sprintf("%q is no mail address", a))
		}
	}
	for _, s := range c.DNS.Servers {
		l.hostPort("dns.servers", s)
	}
}

// maxState leaves room for "/control.sock" in the 107 octets that Linux gives the
// path of a socket (unix(7)).
const maxState = 107 - len("/control.sock")

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

func (l *loader) checkNames() {
	c := l.config
	switch {
	case c.Hostname == "":
		l.fault("hostname", "is missing: write the name that this gateway's MX record has, as hostname = \"mx.example.com\"")
	case !hostname.MatchString(c.Hostname) || len(c.Hostname) > 253:
		l.fault("hostname", fmt.Sprintf("%q is no host name", c.Hostname))
	}
	switch {
	case c.State == "":
		l.fault("state", "is empty: name a folder that only Postern uses")
	case len(c.State) > maxState:
		l.fault("state", fmt.Sprintf("is longer than %d octets: a socket lies in it, and the path of one is short", maxState))
	}
	if len(c.Domains) == 0 {
		l.fault("domains", "no domain: write at least one, as [domains.\"example.com\"] with deliver_to = [\"mail.internal:25\"]")
	}
}

func (l *loader) checkListen() {
	c := l.config
	if len(c.Listen.MX) == 0 {
		l.fault("listen.mx", "is empty: no mail could come in")
	}
	for _, a := range c.Listen.MX {
		l.hostPort("listen.mx", a)
	}
	if c.Listen.Metrics != "" {
		l.hostPort("listen.metrics", c.Listen.Metrics)
	}
}

func (l *loader) checkLimits() {
	m := l.config.Limits
	l.positive("limits.message_size", int64(m.MessageSize))
	l.positive("limits.recipients", int64(m.Recipients))
	l.positive("limits.connections", int64(m.Connections))
	l.positive("limits.per_client", int64(m.PerClient))
	if m.Rate < 0 {
		l.fault("limits.rate", "is negative; 0 is no limit")
	}
	l.span("limits.command", m.Command)
	l.span("limits.data", m.Data)
	l.span("limits.transaction", m.Transaction)
	l.span("limits.reply", m.Reply)
	l.oneOf("limits.bare_newline", m.BareNewline, "refuse", "normalise")
	for _, n := range m.NormaliseFrom {
		if _, err := netip.ParsePrefix(n); err != nil {
			l.fault("limits.normalise_from", fmt.Sprintf("%q is no network: write \"10.0.0.0/24\"", n))
		}
	}
}

func (l *loader) checkDelivery() {
	d := l.config.Delivery
	l.oneOf("delivery.mode", d.Mode, "through", "spool")
	l.oneOf("delivery.tls", d.TLS, "none", "may", "encrypt", "verify")
	l.oneOf("delivery.on_4xx", d.On4xx, "pass", "spool")
	l.positive("delivery.connections", int64(d.Connections))
	l.retries("delivery.retry", d.Retry)
	l.span("delivery.lifetime", d.Lifetime)
}

func (l *loader) retries(key string, retry []Duration) {
	if len(retry) == 0 {
		l.fault(key, "is empty: mail would never be tried again")
	}
	for _, r := range retry {
		l.span(key, r)
	}
}

// checkScores finds thresholds that contradict each other; 0 is never.
func (l *loader) checkScores(key string, tag, quarantine, reject float64) {
	last, lastName := 0.0, ""
	for _, t := range []struct {
		name  string
		value float64
	}{{"tag", tag}, {"quarantine", quarantine}, {"reject", reject}} {
		switch {
		case t.value < 0:
			l.fault(key+"."+t.name, "is negative; 0 is never")
		case t.value == 0:
		case t.value < last:
			l.fault(key+"."+t.name, fmt.Sprintf("%g is below %s = %g: the milder action would never be taken", t.value, lastName, last))
		default:
			last, lastName = t.value, t.name
		}
	}
}

func (l *loader) checkFilters() {
	f := l.config.Filters
	l.action("filters.attachments.action", f.Attachments.Action, mail.Strip, mail.Quarantine, mail.Reject)
	l.action("filters.attachments.on_limit", f.Attachments.OnLimit, mail.Accept, mail.Quarantine, mail.Reject)
	l.action("filters.clamav.action", f.ClamAV.Action, mail.Quarantine, mail.Reject)
	l.action("filters.clamav.on_limit", f.ClamAV.OnLimit, mail.Accept, mail.Quarantine, mail.Reject)
	l.oneOf("filters.clamav.on_error", f.ClamAV.OnError, "defer", "ignore")
	l.span("filters.clamav.timeout", f.ClamAV.Timeout)
	l.positive("filters.clamav.connections", int64(f.ClamAV.Connections))
	l.engine("filters.clamav", f.ClamAV.Enabled, f.ClamAV.Address)
	l.oneOf("filters.spamassassin.on_error", f.SpamAssassin.OnError, "defer", "ignore")
	l.span("filters.spamassassin.timeout", f.SpamAssassin.Timeout)
	l.positive("filters.spamassassin.connections", int64(f.SpamAssassin.Connections))
	l.positive("filters.spamassassin.max_size", int64(f.SpamAssassin.MaxSize))
	l.engine("filters.spamassassin", f.SpamAssassin.Enabled, f.SpamAssassin.Address)
}

// engine checks an engine's address; enabled is nil where the file is silent.
func (l *loader) engine(key string, enabled *bool, address string) {
	if address == "" {
		if enabled != nil && *enabled {
			l.fault(key+".address", "is missing: write \"tcp:127.0.0.1:3310\" or \"unix:/run/engine.sock\"")
		}
		return
	}
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		if !strings.HasPrefix(path, "/") {
			l.fault(key+".address", fmt.Sprintf("%q: a socket's path starts with /", address))
		}
		return
	}
	tcp, isTCP := strings.CutPrefix(address, "tcp:")
	if !isTCP {
		l.fault(key+".address", fmt.Sprintf("%q: write \"tcp:host:port\" or \"unix:/path\"", address))
		return
	}
	l.hostPort(key+".address", tcp)
}

// checkNotBuilt refuses what the configuration language has and this version
// does not: a duty that is asked for and not done would be worse than an error.
func (l *loader) checkNotBuilt() {
	c := l.config
	const text = "is not in this version of Postern; leave it out"
	for key, asked := range map[string]bool{
		"listen.submission": len(c.Listen.Submission) > 0, "listen.submissions": len(c.Listen.Submissions) > 0,
		"listen.pop": len(c.Listen.POP) > 0, "listen.console": c.Listen.Console != "",
		"rules.files": len(c.Rules.Files) > 0, "rules.builtin": c.Rules.Builtin != nil && *c.Rules.Builtin,
		"filters.mailauth": c.Filters.MailAuth.Enabled, "filters.dnsbl": c.Filters.DNSBL.Enabled,
		"filters.greylist": c.Filters.Greylist.Enabled, "filters.icap": c.Filters.ICAP.Enabled,
		"filters.classifier": c.Filters.Classifier.Enabled, "filters.rules": c.Filters.Rules.Enabled,
	} {
		if asked {
			l.fault(key, text)
		}
	}
}

func (l *loader) checkDomain(name string, d Domain) {
	key := "domains." + name
	if !hostname.MatchString(name) || len(name) > 253 {
		l.fault(key, fmt.Sprintf("%q is no domain; write an international one as xn--…", name))
	}
	if len(d.DeliverTo) == 0 {
		l.fault(key+".deliver_to", "is missing: write where the domain's mail goes, as deliver_to = [\"mail.internal:25\"]")
	}
	for _, host := range d.DeliverTo {
		if err := relay.ParseHost(host); err != nil {
			l.fault(key+".deliver_to", err.Error())
		}
	}
	if _, _, err := d.RecipientList(); err != nil {
		l.fault(key+".recipients", err.Error())
	}
	if o := d.Score; o.Tag != nil || o.Quarantine != nil || o.Reject != nil {
		s := l.config.ScoreFor(d)
		l.checkScores(key+".score", s.Tag, s.Quarantine, s.Reject)
	}
	if a := d.Attachments.Action; a != nil {
		l.action(key+".attachments.action", *a, mail.Strip, mail.Quarantine, mail.Reject)
	}
	if a := d.ClamAV.Action; a != nil {
		l.action(key+".clamav.action", *a, mail.Quarantine, mail.Reject)
	}
	v := l.config.DeliveryFor(d)
	l.oneOf(key+".delivery.mode", v.Mode, "through", "spool")
	l.oneOf(key+".delivery.tls", v.TLS, "none", "may", "encrypt", "verify")
	l.oneOf(key+".delivery.on_4xx", v.On4xx, "pass", "spool")
	l.retries(key+".delivery.retry", v.Retry)
	l.span(key+".delivery.lifetime", v.Lifetime)
}

// ScoreFor is [score] as the domain has it.
func (c *Config) ScoreFor(d Domain) Score {
	s := c.Score
	override(&s.Tag, d.Score.Tag)
	override(&s.Quarantine, d.Score.Quarantine)
	override(&s.Reject, d.Score.Reject)
	override(&s.Greylist, d.Score.Greylist)
	s.Symbols = maps.Clone(s.Symbols)
	if s.Symbols == nil {
		s.Symbols = map[string]float64{}
	}
	maps.Copy(s.Symbols, d.Score.Symbols)
	return s
}

// DeliveryFor is [delivery] as the domain has it.
func (c *Config) DeliveryFor(d Domain) Delivery {
	v := c.Delivery
	override(&v.Mode, d.Delivery.Mode)
	override(&v.TLS, d.Delivery.TLS)
	override(&v.On4xx, d.Delivery.On4xx)
	override(&v.Lifetime, d.Delivery.Lifetime)
	if d.Delivery.Retry != nil {
		v.Retry = d.Delivery.Retry
	}
	return v
}

func override[T any](value *T, by *T) {
	if by != nil {
		*value = *by
	}
}

// RecipientList reads the domain's recipients: mode is "verify", "any" or
// "list".
func (d Domain) RecipientList() (mode string, list []mail.Address, err error) {
	switch r := d.Recipients.(type) {
	case nil:
		return "verify", nil, nil
	case string:
		if r == "verify" || r == "any" {
			return r, nil, nil
		}
		if !strings.HasPrefix(r, "/") {
			return "", nil, fmt.Errorf("%q: write \"verify\", \"any\", a list of addresses, or the full path of a file with one address a line", r)
		}
		list, err = readList(r)
		return "list", list, err
	case []any:
		for _, item := range r {
			text, isText := item.(string)
			if !isText {
				return "", nil, fmt.Errorf("%v is no mail address", item)
			}
			if list, err = appendAddress(list, text); err != nil {
				return "", nil, err
			}
		}
		return "list", list, nil
	}
	return "", nil, fmt.Errorf("write \"verify\", \"any\", a list of addresses, or the full path of a file")
}

// readList reads a file of addresses, one a line; # starts a comment.
func readList(path string) (list []mail.Address, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if list, err = appendAddress(list, text); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return list, lines.Err()
}

func appendAddress(list []mail.Address, text string) ([]mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil || a.Domain == "" {
		return list, fmt.Errorf("%q is no mail address", text)
	}
	return append(list, a), nil
}

func (l *loader) positive(key string, n int64) {
	if n <= 0 {
		l.fault(key, "must be more than 0")
	}
}

// span refuses durations that can only be a number without its unit.
func (l *loader) span(key string, d Duration) {
	if d < 1e6 {
		l.fault(key, "is no useful duration: write it with a unit, as \"90s\", \"15m\" or \"5d\"")
	}
}

func (l *loader) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		l.fault(key, fmt.Sprintf("%q: write %s", value, alternatives(allowed)))
	}
}

func (l *loader) action(key string, a mail.Action, allowed ...mail.Action) {
	if slices.Contains(allowed, a) {
		return
	}
	names := make([]string, len(allowed))
	for i, x := range allowed {
		names[i] = x.String()
	}
	l.fault(key, fmt.Sprintf("%q: write %s", a, alternatives(names)))
}

func alternatives(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

func (l *loader) hostPort(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		l.fault(key, fmt.Sprintf("%q is no address: write \"host:port\"", address))
	}
}
