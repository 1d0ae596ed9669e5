package health

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, b *Board, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestReady(t *testing.T) {
	b := New(slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		name  string
		do    func()
		ready int
	}{
		{"at first", func() {}, 503},
		{"listening", func() { b.SetReady(true) }, 200},
		{"an engine is away", func() { b.Set(Fact{Name: "clamav", Text: "refused"}) }, 200},
		{"the disk is gone", func() { b.Set(Fact{Name: "spool", Text: "i/o error", Vital: true}) }, 503},
		{"the disk is back", func() { b.Set(Fact{Name: "spool", OK: true, Vital: true}) }, 200},
		{"stopping", func() { b.SetReady(false) }, 503},
	} {
		step.do()
		if code, body := get(t, b, "/readyz"); code != step.ready {
			t.Errorf("%s: /readyz %d, want %d: %s", step.name, code, step.ready, body)
		}
		if code, _ := get(t, b, "/healthz"); code != 200 {
			t.Errorf("%s: /healthz %d", step.name, code)
		}
	}
	if _, body := get(t, b, "/healthz"); !strings.Contains(body, "clamav: not ok since") {
		t.Errorf("/healthz does not list the facts:\n%s", body)
	}
}

func TestFactKeepsItsSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(slog.New(slog.DiscardHandler))
		b.Set(Fact{Name: "x", Text: "one"})
		first := b.Facts()[0].Since
		time.Sleep(time.Minute)
		b.Set(Fact{Name: "x", Text: "two"})
		if got := b.Facts()[0]; got.Since != first || got.Text != "two" {
			t.Errorf("the fact is %+v, want since %v", got, first)
		}
		b.Set(Fact{Name: "x", OK: true})
		if got := b.Facts()[0]; got.Since == first {
			t.Error("a change did not begin a new time")
		}
		b.Drop("x")
		if len(b.Facts()) != 0 {
			t.Error("a dropped fact stays")
		}
	})
}

// An alert is told at once, and its repetitions once an hour.
func TestAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(slog.New(slog.DiscardHandler))
		var told []string
		b.TellAlerts(func(a Alert) { told = append(told, a.Key+": "+a.Text) })
		b.Alert("disk", "full")
		b.Alert("disk", "full")
		b.Alert("clamav", "old")
		time.Sleep(Repeat - time.Second)
		b.Alert("disk", "full")
		if len(told) != 2 {
			t.Errorf("told %q, want two", told)
		}
		time.Sleep(time.Second)
		b.Alert("disk", "still full")
		if len(told) != 3 || told[2] != "disk: still full" {
			t.Errorf("told %q", told)
		}
	})
}

func TestMetrics(t *testing.T) {
	b := New(slog.New(slog.DiscardHandler))
	b.Alert("disk", "full")
	b.Set(Fact{Name: "spool", OK: true})
	_, body := get(t, b, "/metrics")
	for _, want := range []string{`postern_alerts_total{key="disk"} 1`, `postern_health{name="spool"} 1`, "process_resident_memory_bytes", "go_goroutines"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}
