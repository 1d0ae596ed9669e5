package house

import (
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/gateway"
	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/relay"
)

func pointer[T any](v T) *T { return &v }

func newTestPolicy(t *testing.T, c *config.Config) *Policy {
	t.Helper()
	p, err := NewPolicy(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// policyConfig has a domain with everything of its own, and one with nothing.
func policyConfig() *config.Config {
	c := config.Default()
	c.Hostname = "mx.example.com"
	own := config.Domain{DeliverTo: []string{"lmtp://inside:24"}, Recipients: []any{"Anna@Own.example"}, Backup: true}
	own.Score.Tag, own.Score.Symbols = pointer(2.0), map[string]float64{"A": 1}
	own.Tag.Subject = pointer("")
	own.Attachments.Action, own.ClamAV.Action = pointer(mail.Quarantine), pointer(mail.Reject)
	own.Delivery.Mode, own.Delivery.TLS, own.Delivery.On4xx = pointer("spool"), pointer("verify"), pointer("spool")
	own.Delivery.Retry, own.Delivery.Lifetime = []config.Duration{config.Duration(time.Second)}, pointer(config.Duration(time.Hour))
	c.Domains = map[string]config.Domain{"Own.example": own, "plain.example": {DeliverTo: []string{"inside"}}}
	c.Score.Symbols = map[string]float64{"A": 3}
	return c
}

func TestDomainSettings(t *testing.T) {
	p := newTestPolicy(t, policyConfig())
	own, plain := p.Domains()["own.example"], p.Domains()["plain.example"]
	if own.Verify != gateway.VerifyList || !own.Listed["anna@own.example"] || !own.Backup || !own.Spool || own.Pass ||
		own.Retry != time.Second || own.Route.TLS != relay.TLSVerify || own.Route.Domain != "own.example" {
		t.Errorf("own: %+v", own)
	}
	if plain.Verify != gateway.VerifyAsk || plain.Backup || plain.Spool || !plain.Pass || plain.Retry != time.Minute || plain.Route.TLS != relay.TLSMay {
		t.Errorf("plain: %+v", plain)
	}
	if got := p.retry("own.example"); !slices.Equal(got, []time.Duration{time.Second}) || p.lifetime("own.example") != time.Hour {
		t.Errorf("retry %v, lifetime %v", got, p.lifetime("own.example"))
	}
	if got := p.retry("elsewhere.example"); len(got) != 4 || p.lifetime("elsewhere.example") != 5*24*time.Hour {
		t.Errorf("of another's: retry %v, lifetime %v", got, p.lifetime("elsewhere.example"))
	}
}

// A domain's own weights, thresholds and actions hold for its recipients, and for
// nobody else's.
func TestDomainVerdicts(t *testing.T) {
	p := newTestPolicy(t, policyConfig())
	anna, bob := mail.Address{Local: "anna", Domain: "OWN.example"}, mail.Address{Local: "bob", Domain: "plain.example"}
	attachment := &mail.Attachment{Name: "x.exe", Part: 1}
	for _, c := range []struct {
		name       string
		result     mail.Result
		own, other mail.Action
		spam       bool // for own
	}{
		{"a weight of its own", mail.Result{Symbol: "A"}, mail.Accept, mail.Accept, false},
		{"a threshold of its own", mail.Result{Symbol: "B", HasPoints: true, Points: 2}, mail.Tag, mail.Accept, true},
		{"an attachment", mail.Result{Symbol: "ATTACHMENT_BLOCKED", Attachment: attachment}, mail.Quarantine, mail.Strip, false},
		{"a virus", mail.Result{Symbol: "CLAMAV_VIRUS"}, mail.Reject, mail.Quarantine, false},
		{"a test virus", mail.Result{Symbol: "EICAR"}, mail.Reject, mail.Quarantine, false},
		{"clamd away", mail.Result{Filter: "clamav", Fault: mail.FaultEngine}, mail.Defer, mail.Defer, false},
		{"spamd away", mail.Result{Filter: "spamassassin", Fault: mail.FaultEngine}, mail.Accept, mail.Accept, false},
		{"a filter of ours fails", mail.Result{Filter: "attachments", Fault: mail.FaultEngine}, mail.Defer, mail.Defer, false},
	} {
		verdicts := p.Judge([]mail.Result{c.result}, []mail.Address{anna, bob})
		if len(verdicts) != 2 || verdicts[0].Action != c.own || verdicts[1].Action != c.other || verdicts[0].Spam() != c.spam {
			t.Errorf("%s: %+v", c.name, verdicts)
		}
		if verdicts[0].SubjectTag != "" || verdicts[1].SubjectTag != "[SPAM] " {
			t.Errorf("%s: subject tags %q and %q", c.name, verdicts[0].SubjectTag, verdicts[1].SubjectTag)
		}
	}
}

func TestPolicyFaults(t *testing.T) {
	for name, change := range map[string]func(*config.Config, *config.Domain){
		"a list that is not there": func(_ *config.Config, d *config.Domain) { d.Recipients = "/nowhere/list" },
		"a policy of TLS":          func(_ *config.Config, d *config.Domain) { d.Delivery.TLS = pointer("perhaps") },
		"thresholds":               func(c *config.Config, _ *config.Domain) { c.Score.Reject = 1 },
	} {
		c := policyConfig()
		d := c.Domains["plain.example"]
		change(c, &d)
		c.Domains["plain.example"] = d
		if _, err := NewPolicy(c, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFiltersThatAreOn(t *testing.T) {
	for _, c := range []struct {
		enabled *bool
		address string
		want    bool
	}{{nil, "", false}, {nil, "tcp:x:1", true}, {pointer(true), "tcp:x:1", true}, {pointer(false), "tcp:x:1", false}} {
		if got := IsOn(c.enabled, c.address); got != c.want {
			t.Errorf("%v %q: %v", c.enabled, c.address, got)
		}
	}
	cfg := policyConfig()
	cfg.Filters.ClamAV.Address, cfg.Filters.SpamAssassin.Address = "tcp:127.0.0.1:1", "tcp:127.0.0.1:1"
	engines := newTestPolicy(t, cfg).Engines()
	if len(engines) != 2 || engines["clamav"] == nil || engines["spamassassin"] == nil {
		t.Errorf("engines %v", engines)
	}
	cfg.Filters.Attachments.Enabled, cfg.Filters.Heuristics.Enabled = false, false
	if p := newTestPolicy(t, cfg); len(p.set) != 2 {
		t.Errorf("%+v", p.set)
	}
}

func TestPostmaster(t *testing.T) {
	c := policyConfig()
	if got := postmaster(c); len(got) != 1 || got[0].Key() != "postmaster@own.example" {
		t.Errorf("%v", got)
	}
	c.Alerts.Mail = []string{"admin@elsewhere.example", "b@plain.example"}
	if got := postmaster(c); len(got) != 2 || got[0].String() != "admin@elsewhere.example" {
		t.Errorf("%v", got)
	}
}

// A reload changes how mail is judged and where it goes; what it can't change
// stays, and what it took away is off the board.
func TestReload(t *testing.T) {
	c := testConfig(t)
	c.Listen = config.Listen{MX: []string{"127.0.0.1:0"}}
	c.Filters.ClamAV.Address = "tcp:127.0.0.1:1"
	c.TLS.Certificate = ""
	d, err := Start(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.End()
	h := d.House()
	h.board.Set(health.Fact{Name: "clamav"})
	next := testConfig(t)
	next.Domains = map[string]config.Domain{"other.example": {DeliverTo: []string{"127.0.0.1:1"}}}
	next.Records.Keep, next.Log.Level = 1, "debug"
	before := h.policy.Load()
	d.Reload(func() (*config.Config, error) { return nil, errors.New("faults") })
	broken := *next
	broken.TLS = config.TLS{Certificate: "/nowhere", Key: "/nowhere"}
	d.Reload(func() (*config.Config, error) { return &broken, nil })
	if h.policy.Load() != before {
		t.Error("a faulty configuration was taken")
	}
	d.Reload(func() (*config.Config, error) { return next, nil })
	if _, has := h.policy.Load().Domains()["other.example"]; !has || len(h.policy.Load().Domains()) != 1 {
		t.Errorf("domains %v", h.policy.Load().Domains())
	}
	if next.State != c.State || !reflect.DeepEqual(next.Listen, c.Listen) || next.Records != c.Records || next.Log != c.Log {
		t.Errorf("what is fixed changed: %+v", next)
	}
	if slices.ContainsFunc(h.board.Facts(), func(f health.Fact) bool { return f.Name == "clamav" }) {
		t.Error("clamav is still on the board")
	}
}
