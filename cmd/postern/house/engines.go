package house

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/filters"
	"postern/filters/clamav"
	"postern/gateway/health"
)

// Pinger is a filter whose engine can be asked whether it is there.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Engines are the pings of the filters that have an engine, by name.
func (p *Policy) Engines() map[string]func(context.Context) error {
	pings := map[string]func(context.Context) error{}
	for _, e := range p.set {
		if f, has := e.Filter.(Pinger); has {
			pings[e.Name] = f.Ping
		}
	}
	return pings
}

// Signatures older than this are worth an alert: the update has stopped.
const oldSignatures = 3 * 24 * time.Hour

// watchEngines keeps the facts about the engines true.
func (h *House) watchEngines(ctx context.Context) {
	age := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postern_clamav_signatures_timestamp_seconds", Help: "When ClamAV's signatures were made.",
	})
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		h.askEngines(ctx, age)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *House) askEngines(ctx context.Context, age prometheus.Gauge) {
	p := h.policy.Load()
	for _, e := range p.set {
		f, has := e.Filter.(Pinger)
		if !has {
			continue
		}
		fact := h.askEngine(ctx, e, f, age)
		if ctx.Err() != nil || h.policy.Load() != p { // the end, or a reload, which may have taken it away
			return
		}
		h.board.Set(fact)
		h.alertSilence(e.Name)
	}
}

// pingTime is how long one engine may take to say that it is there.
const pingTime = 10 * time.Second

func (h *House) askEngine(ctx context.Context, e filters.Entry, f Pinger, age prometheus.Gauge) health.Fact {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	fact := health.Fact{Name: e.Name, OK: true, Text: "answers"}
	if err := f.Ping(ctx); err != nil {
		fact.OK, fact.Text = false, err.Error()
	} else if c, isClamAV := e.Filter.(*clamav.Filter); isClamAV {
		fact.Text = h.signatures(ctx, c, age)
	}
	return fact
}

// silenceAlert is how long an engine may be away before somebody is told.
const silenceAlert = 5 * time.Minute

// alertSilence tells of an engine that has been away for long.
func (h *House) alertSilence(name string) {
	for _, f := range h.board.Facts() {
		if f.Name == name && !f.OK && time.Since(f.Since) >= silenceAlert {
			h.board.Alert("engine "+name, fmt.Sprintf("%s has not answered since %s: %s. What becomes of mail meanwhile stands in filters.%s, on_error.",
				name, f.Since.UTC().Format(time.RFC3339), f.Text, name))
		}
	}
}

// signatures says how old ClamAV's signatures are, and alerts where they are
// old.
func (h *House) signatures(ctx context.Context, c *clamav.Filter, age prometheus.Gauge) string {
	v, err := c.Version(ctx)
	if err != nil {
		return "answers, but not which version it is: " + err.Error()
	}
	made := c.Signatures()
	if made.IsZero() {
		return v
	}
	age.Set(float64(made.Unix()))
	_ = h.board.Registry().Register(age) // once they are known; a second time is an error that says so
	if old := time.Since(made); old > oldSignatures {
		h.board.Alert("clamav signatures", fmt.Sprintf("ClamAV's signatures are %d days old: see why freshclam no longer brings new ones.", int(old.Hours()/24)))
	}
	return v
}

// watchState keeps the metrics and facts about what lies in the state true.
func (h *House) watchState(ctx context.Context) {
	r := h.board.Registry()
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("postern_queue_messages", "Messages that wait for their next hop.", func() float64 { return float64(h.spool.Len()) })
	gauge("postern_queue_octets", "Octets of the messages that wait.", func() float64 { return float64(h.spool.Bytes()) })
	gauge("postern_queue_oldest_seconds", "Age of the oldest message that waits.", func() float64 {
		if oldest := h.spool.Oldest(); !oldest.IsZero() {
			return time.Since(oldest).Seconds()
		}
		return 0
	})
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		fact := health.Fact{Name: "spool", OK: true, Text: fmt.Sprintf("%d messages wait", h.spool.Len()), Vital: true}
		if err := h.spool.Failed(); err != nil {
			fact.OK, fact.Text = false, err.Error()
		}
		h.board.Set(fact)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
