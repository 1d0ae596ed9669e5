// Package health is the board on which every part of the gateway writes how it
// is: metrics, facts that say whether it can do its duty, and alerts for the
// administrator. It does not know who reads it.
package health

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Fact is the state of one thing that the gateway needs.
type Fact struct {
	Name  string    `json:"name"` // "clamav", "next hop example.com"
	OK    bool      `json:"ok"`
	Text  string    `json:"text"` // for the admin: what is wrong and what to do
	Since time.Time `json:"since"`
	Vital bool      `json:"vital"` // while it is not OK, the gateway should get no new connections
}

// Alert is something that an administrator has to know.
type Alert struct {
	Key  string // alerts of one key are said at most once an hour
	Text string // what happened, and what to do
}

// Board collects. The zero value is not usable; see New.
type Board struct {
	registry *prometheus.Registry
	log      *slog.Logger
	alerts   *prometheus.CounterVec
	unwell   *prometheus.GaugeVec

	mu    sync.Mutex
	facts map[string]Fact
	said  map[string]time.Time
	tell  func(Alert)
	ready bool
}

// Repeat is the least time between two alerts of one key.
const Repeat = time.Hour

// New makes an empty board with the metrics of the process itself.
func New(log *slog.Logger) *Board {
	b := &Board{
		registry: prometheus.NewRegistry(),
		log:      log,
		facts:    map[string]Fact{},
		said:     map[string]time.Time{},
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_alerts_total", Help: "Alerts raised, by key, repeated ones included.",
		}, []string{"key"}),
		unwell: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "postern_health", Help: "1 where a thing that the gateway needs is well, 0 where it is not.",
		}, []string{"name"}),
	}
	b.registry.MustRegister(b.alerts, b.unwell, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return b
}

// Registry takes further metrics.
func (b *Board) Registry() prometheus.Registerer { return b.registry }

// TellAlerts hands each alert that is not a repetition to tell, which must not
// block.
func (b *Board) TellAlerts(tell func(Alert)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell = tell
}

// Alert says something to the administrator: into the log, the metric, and, at
// most once an hour for each key, to whoever TellAlerts named.
func (b *Board) Alert(key, text string) {
	b.alerts.WithLabelValues(key).Inc()
	b.mu.Lock()
	last, said := b.said[key]
	now := time.Now()
	repeated := said && now.Sub(last) < Repeat
	if !repeated {
		b.said[key] = now
	}
	tell := b.tell
	b.mu.Unlock()
	if repeated {
		return
	}
	b.log.Error("alert", "key", key, "text", text)
	if tell != nil {
		tell(Alert{Key: key, Text: text})
	}
}

// Set writes a fact. Since stays while OK does not change.
func (b *Board) Set(f Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.facts[f.Name]; known && old.OK == f.OK {
		f.Since = old.Since
	} else if f.Since.IsZero() {
		f.Since = time.Now()
	}
	b.facts[f.Name] = f
	value := 0.0
	if f.OK {
		value = 1
	}
	b.unwell.WithLabelValues(f.Name).Set(value)
}

// Drop forgets a fact, when a reload took away what it was about.
func (b *Board) Drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.facts, name)
	b.unwell.DeleteLabelValues(name)
}

// Facts are all facts, by name.
func (b *Board) Facts() []Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := slices.Sorted(maps.Keys(b.facts))
	facts := make([]Fact, len(names))
	for i, name := range names {
		facts[i] = b.facts[name]
	}
	return facts
}

// SetReady says whether every listener is bound and every filter loaded.
func (b *Board) SetReady(ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

func (b *Board) isReady() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.facts {
		if f.Vital && !f.OK {
			return false
		}
	}
	return b.ready
}

// Handler serves /metrics in Prometheus' text format; /healthz, which answers
// 200 while the process lives; and /readyz, which answers 503 until the gateway
// takes mail and whenever it should get no more of it. Both list the facts.
func (b *Board) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { b.writeFacts(w, http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status := http.StatusServiceUnavailable
		if b.isReady() {
			status = http.StatusOK
		}
		b.writeFacts(w, status)
	})
	return mux
}

func (b *Board) writeFacts(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	word := map[bool]string{true: "ok", false: "not ok"}
	fmt.Fprintln(w, word[status == http.StatusOK])
	for _, f := range b.Facts() {
		fmt.Fprintf(w, "%s: %s since %s: %s\n", f.Name, word[f.OK], f.Since.UTC().Format(time.RFC3339), f.Text)
	}
}
