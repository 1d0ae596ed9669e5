package house

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/filters"
	"postern/gateway/health"
	"postern/gateway/mail"
)

// engine is a filter whose engine does as it is told.
type engine struct {
	ping    func(context.Context) error
	results []mail.Result
	err     error
}

// Check implements filters.Filter.
func (e *engine) Check(context.Context, *mail.Message, []mail.Result) ([]mail.Result, error) {
	return e.results, e.err
}

// Ping implements Pinger.
func (e *engine) Ping(ctx context.Context) error { return e.ping(ctx) }

func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// An engine that takes connections and never answers is as good as away: it is
// shown, it is told of, and it is in nobody's way.
func TestEngineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		h := &House{log: log, board: health.New(log)}
		alerts := make(chan health.Alert, 10)
		h.board.TellAlerts(func(a health.Alert) { alerts <- a })
		answers := func(context.Context) error { return nil }
		h.policy.Store(&Policy{set: filters.Set{
			{Name: "hangs", Filter: &engine{ping: hangs}}, {Name: "answers", Filter: &engine{ping: answers}},
		}})
		ctx, cancel := context.WithCancel(t.Context())
		go h.watchEngines(ctx)
		time.Sleep(pingTime + time.Second)
		facts := h.board.Facts()
		if len(facts) != 2 || !facts[0].OK || facts[1].OK || facts[1].Name != "hangs" {
			t.Errorf("facts %+v", facts)
		}
		if len(alerts) != 0 {
			t.Errorf("alert %+v before its time", <-alerts)
		}
		time.Sleep(silenceAlert + time.Minute)
		if len(alerts) != 1 || (<-alerts).Key != "engine hangs" {
			t.Error("no alert, or too many")
		}
		cancel()
		synctest.Wait()
	})
}

// What a reload took away while it was asked is not put back on the board.
func TestEngineThatIsTakenAway(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	h := &House{log: log, board: health.New(log)}
	h.policy.Store(&Policy{set: filters.Set{{Name: "gone", Filter: &engine{ping: func(context.Context) error {
		h.policy.Store(&Policy{})
		return errors.New("away")
	}}}}})
	h.askEngines(t.Context(), prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"}))
	if facts := h.board.Facts(); len(facts) != 0 {
		t.Errorf("facts %+v", facts)
	}
}

// Alerts are mailed by who has time for it, those included that were raised
// before there was anybody.
func TestAlertsAreMailed(t *testing.T) {
	c := testConfig(t)
	c.Alerts.Mail = []string{"admin@example.com"}
	h := openTestHouse(t, c)
	defer h.Close()
	for i := range maxAlerts + 5 { // more than may wait hold nobody up
		h.board.Alert("damage "+strings.Repeat("i", i), "look at the disk")
	}
	h.Start(t.Context())
	for deadline := time.Now().Add(10 * time.Second); h.spool.Len() != maxAlerts; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d mails wait, want %d", h.spool.Len(), maxAlerts)
		}
	}
	if it := h.spool.List()[0]; it.Recipients[0].String() != "admin@example.com" || !it.ReversePath.IsZero() {
		t.Errorf("%+v", it)
	}
}
