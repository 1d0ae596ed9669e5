// Package config reads Postern's configuration: one TOML file, the files that it
// includes, and defaults that serve. Every fault is reported with its file, line
// and key, all of them at once.
package config

import (
	"time"

	"postern/gateway/mail"
)

// Config is the file. The names of the keys are part of Postern's contract with
// its users; docs/configuration.md describes each.
type Config struct {
	Hostname   string            `toml:"hostname"`
	State      string            `toml:"state"`
	Include    []string          `toml:"include"`
	Listen     Listen            `toml:"listen"`
	TLS        TLS               `toml:"tls"`
	Limits     Limits            `toml:"limits"`
	Domains    map[string]Domain `toml:"domains"`
	Delivery   Delivery          `toml:"delivery"`
	Score      Score             `toml:"score"`
	Tag        Tag               `toml:"tag"`
	Rules      Rules             `toml:"rules"`
	Filters    Filters           `toml:"filters"`
	Quarantine Quarantine        `toml:"quarantine"`
	Records    Records           `toml:"records"`
	Alerts     Alerts            `toml:"alerts"`
	DNS        DNS               `toml:"dns"`
	Log        Log               `toml:"log"`
}

// Listen says where Postern listens: "host:port".
type Listen struct {
	MX          []string `toml:"mx"`
	Submission  []string `toml:"submission"`
	Submissions []string `toml:"submissions"`
	POP         []string `toml:"pop"`
	Console     string   `toml:"console"`
	Metrics     string   `toml:"metrics"`
}

// TLS names the certificate; both empty is a self-signed one.
type TLS struct {
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

// Limits bound what a client may do.
type Limits struct {
	MessageSize   Size     `toml:"message_size"`
	Recipients    int      `toml:"recipients"`
	Connections   int      `toml:"connections"`
	PerClient     int      `toml:"per_client"`
	Rate          int      `toml:"rate"`
	Command       Duration `toml:"command"`
	Data          Duration `toml:"data"`
	Transaction   Duration `toml:"transaction"`
	Reply         Duration `toml:"reply"`
	BareNewline   string   `toml:"bare_newline"`
	NormaliseFrom []string `toml:"normalise_from"`
}

// Domain is one that we take mail for.
type Domain struct {
	DeliverTo   []string            `toml:"deliver_to"`
	Recipients  any                 `toml:"recipients"` // "verify", "any", a file, or a list; see Recipients
	Backup      bool                `toml:"backup"`
	Score       ScoreOverride       `toml:"score"`
	Tag         TagOverride         `toml:"tag"`
	Attachments AttachmentsOverride `toml:"attachments"`
	ClamAV      ClamAVOverride      `toml:"clamav"`
	Delivery    DeliveryOverride    `toml:"delivery"`
}

// ScoreOverride is what a domain may say of [score].
type ScoreOverride struct {
	Tag        *float64           `toml:"tag"`
	Quarantine *float64           `toml:"quarantine"`
	Reject     *float64           `toml:"reject"`
	Greylist   *float64           `toml:"greylist"`
	Symbols    map[string]float64 `toml:"symbols"`
}

// TagOverride is what a domain may say of [tag].
type TagOverride struct {
	Subject *string `toml:"subject"`
}

// AttachmentsOverride is what a domain may say of [filters.attachments].
type AttachmentsOverride struct {
	Action *mail.Action `toml:"action"`
}

// ClamAVOverride is what a domain may say of [filters.clamav].
type ClamAVOverride struct {
	Action *mail.Action `toml:"action"`
}

// DeliveryOverride is what a domain may say of [delivery].
type DeliveryOverride struct {
	Mode     *string    `toml:"mode"`
	TLS      *string    `toml:"tls"`
	On4xx    *string    `toml:"on_4xx"`
	Retry    []Duration `toml:"retry"`
	Lifetime *Duration  `toml:"lifetime"`
}

// Delivery says how mail is handed on.
type Delivery struct {
	Mode        string     `toml:"mode"`
	TLS         string     `toml:"tls"`
	Connections int        `toml:"connections"`
	On4xx       string     `toml:"on_4xx"`
	Retry       []Duration `toml:"retry"`
	Lifetime    Duration   `toml:"lifetime"`
}

// Score holds the thresholds and the administrator's weights.
type Score struct {
	Tag        float64            `toml:"tag"`
	Quarantine float64            `toml:"quarantine"`
	Reject     float64            `toml:"reject"`
	Greylist   float64            `toml:"greylist"`
	Symbols    map[string]float64 `toml:"symbols"`
}

// Tag is the mark in the subject.
type Tag struct {
	Subject string `toml:"subject"`
}

// Rules are known but not built yet: anything but their absence is a fault.
type Rules struct {
	Builtin *bool    `toml:"builtin"`
	Files   []string `toml:"files"`
}

// Filters hold a table for each filter.
type Filters struct {
	Attachments  Attachments  `toml:"attachments"`
	Heuristics   Heuristics   `toml:"heuristics"`
	ClamAV       ClamAV       `toml:"clamav"`
	SpamAssassin SpamAssassin `toml:"spamassassin"`
	MailAuth     Later        `toml:"mailauth"`
	DNSBL        Later        `toml:"dnsbl"`
	Greylist     Later        `toml:"greylist"`
	ICAP         Later        `toml:"icap"`
	Classifier   Later        `toml:"classifier"`
	Rules        Later        `toml:"rules"`
}

// Later is a filter that this version does not have: it can only be switched
// off.
type Later struct {
	Enabled bool `toml:"enabled"`
}

// Attachments configures filters/attachments.
type Attachments struct {
	Enabled bool        `toml:"enabled"`
	Action  mail.Action `toml:"action"`
	OnLimit mail.Action `toml:"on_limit"`
	Block   []string    `toml:"block"` // extensions beside the built-in ones
	Allow   []string    `toml:"allow"` // extensions that are not blocked after all
	Types   []string    `toml:"types"` // MIME types, claimed or true
}

// Heuristics configures filters/heuristics.
type Heuristics struct {
	Enabled bool `toml:"enabled"`
}

// ClamAV configures filters/clamav.
type ClamAV struct {
	Enabled     *bool       `toml:"enabled"` // absent: on where an address is given
	Address     string      `toml:"address"`
	Action      mail.Action `toml:"action"`
	OnError     string      `toml:"on_error"`
	OnLimit     mail.Action `toml:"on_limit"`
	Timeout     Duration    `toml:"timeout"`
	Connections int         `toml:"connections"`
}

// SpamAssassin configures filters/spamassassin.
type SpamAssassin struct {
	Enabled     *bool    `toml:"enabled"`
	Address     string   `toml:"address"`
	OnError     string   `toml:"on_error"`
	Timeout     Duration `toml:"timeout"`
	MaxSize     Size     `toml:"max_size"`
	Connections int      `toml:"connections"`
}

// Quarantine bounds what is kept.
type Quarantine struct {
	Keep Duration `toml:"keep"`
	Size Size     `toml:"size"`
}

// Records bounds the history.
type Records struct {
	Keep Duration `toml:"keep"`
}

// Alerts says who is told.
type Alerts struct {
	Mail []string `toml:"mail"`
}

// DNS names the servers to ask.
type DNS struct {
	Servers []string `toml:"servers"`
}

// Log says how to log.
type Log struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// Default is the configuration of an empty file.
func Default() *Config {
	const day = 24 * time.Hour
	return &Config{
		State:  "/var/lib/postern",
		Listen: Listen{MX: []string{"0.0.0.0:25"}, Metrics: "127.0.0.1:9125"},
		Limits: Limits{
			MessageSize: 50_000_000, Recipients: 100, Connections: 1000, PerClient: 50,
			Command: Duration(5 * time.Minute), Data: Duration(3 * time.Minute), Transaction: Duration(15 * time.Minute),
			Reply: Duration(120 * time.Second), BareNewline: "refuse",
		},
		Delivery: Delivery{
			Mode: "through", TLS: "may", Connections: 10, On4xx: "pass", Lifetime: Duration(5 * day),
			Retry: []Duration{Duration(time.Minute), Duration(5 * time.Minute), Duration(15 * time.Minute), Duration(time.Hour)},
		},
		Score: Score{Tag: 5, Quarantine: 8, Reject: 15, Greylist: 4},
		Tag:   Tag{Subject: "[SPAM] "},
		Filters: Filters{
			Attachments: Attachments{Enabled: true, Action: mail.Strip, OnLimit: mail.Quarantine},
			Heuristics:  Heuristics{Enabled: true},
			ClamAV: ClamAV{
				Action: mail.Quarantine, OnError: "defer", OnLimit: mail.Quarantine,
				Timeout: Duration(30 * time.Second), Connections: 10,
			},
			SpamAssassin: SpamAssassin{OnError: "ignore", Timeout: Duration(30 * time.Second), MaxSize: 512 << 10, Connections: 5},
		},
		Quarantine: Quarantine{Keep: Duration(30 * day), Size: 20_000_000_000},
		Records:    Records{Keep: Duration(30 * day)},
		Log:        Log{Format: "text", Level: "info"},
	}
}
