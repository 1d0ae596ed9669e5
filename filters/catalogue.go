package filters

import (
	"time"

	"postern/filters/attachments"
	"postern/filters/clamav"
	"postern/filters/heuristics"
	"postern/filters/spamassassin"
	"postern/gateway/mail"
)

// Config holds the configuration of each filter; nil is off.
type Config struct {
	Heuristics   *heuristics.Config
	Attachments  *attachments.Config
	ClamAV       *clamav.Config
	SpamAssassin *spamassassin.Config
}

// Build makes the filters that are on. Their order here is the order of their
// results: in log, header and record.
func Build(c Config) (set Set, err error) {
	add := func(name string, stage mail.Stage, timeout time.Duration, f Filter, e error) {
		if e != nil && err == nil {
			err = e
		}
		set = append(set, Entry{Name: name, Stage: stage, Timeout: timeout, Filter: f})
	}
	if c.Heuristics != nil {
		f, e := heuristics.New(*c.Heuristics)
		add("heuristics", mail.StageContent, 0, f, e)
	}
	if c.Attachments != nil {
		f, e := attachments.New(*c.Attachments)
		add("attachments", mail.StageContent, 0, f, e)
	}
	if c.ClamAV != nil {
		f, e := clamav.New(*c.ClamAV)
		add("clamav", mail.StageContent, c.ClamAV.Timeout, f, e)
	}
	if c.SpamAssassin != nil {
		f, e := spamassassin.New(*c.SpamAssassin)
		add("spamassassin", mail.StageContent, c.SpamAssassin.Timeout, f, e)
	}
	return set, err
}
