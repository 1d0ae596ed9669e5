//go:build integration

package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// check says every fault with its file, line and key.
func TestIntegrationCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(folder(t), "postern.toml")
	writeFile(t, file, `hostname = "mx example"
colour = "blue"
[limits]
message_size = "much"
recipients = 0
[domains."example.com"]
deliver_to = []
[score]
tag = 8.0
quarantine = 5.0
[filters.clamav]
address = "127.0.0.1:3310"
on_error = "shrug"
`)
	out, errs, code := runProgram(t, "check", "--config", file)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		":1: hostname", ":2: colour", ":4: limits.message_size", ":5: limits.recipients", "domains.example.com.deliver_to",
		":10: score.quarantine", ":12: filters.clamav.address", ":13: filters.clamav.on_error",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if n := strings.Count(errs, file); n < 8 {
		t.Errorf("%d faults\n%s%s", n, out, errs)
	}
	if errs, code := serveOnce(t, file); code != 1 || !strings.Contains(errs, ":2: colour") {
		t.Errorf("serve: exit code %d\n%s", code, errs)
	}
	if _, errs, code := runProgram(t, "check", "--config", filepath.Join(folder(t), "absent.toml")); code != 1 || !strings.HasPrefix(errs, "postern: ") {
		t.Errorf("check of an absent file: exit code %d, %q", code, errs)
	}
}

func serveOnce(t *testing.T, file string) (errs string, code int) {
	_, errs, code = runProgram(t, "serve", "--config", file)
	return errs, code
}

// What can't be reached, or is unwise, is a warning and fails nothing.
func TestIntegrationCheckWarnings(t *testing.T) {
	t.Parallel()
	catchAll, away := newInside(t), newInside(t)
	away.stop()
	w := newWorld(t, fmt.Sprintf(`
[domains."example.com"]
deliver_to = [%q]
[domains."away.example"]
deliver_to = [%q]
[filters.clamav]
address = "unix:/nowhere/clamd.ctl"
`, catchAll.address, away.address))
	_, errs, code := w.run("check")
	if code != 0 {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	for _, want := range []string{"clamav", "away.example", "any name"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no warning of %s:\n%s", want, errs)
		}
	}
	catchAll.none(t)

	picky := newInside(t)
	picky.set(func(address string) string {
		if address == "anna@example.com" {
			return ""
		}
		return "550 5.1.1 who?"
	}, nil)
	w.configure(fmt.Sprintf("[domains.\"example.com\"]\ndeliver_to = [%q]\n", picky.address))
	if _, errs, code := w.run("check"); code != 0 || strings.Contains(errs, "any name") || strings.Contains(errs, "reached") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

// A port that somebody has is an error with advice, not a crash.
func TestIntegrationPortTaken(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	for _, key := range []string{"mx", "metrics"} {
		w := newWorld(t, domain(in, ""))
		if key == "mx" {
			w.mx = in.address
		} else {
			w.metrics = in.address
		}
		w.configure(domain(in, ""))
		if errs := w.mustFail("serve"); !strings.Contains(errs, in.address) || strings.Contains(errs, "goroutine") {
			t.Errorf("%s: %q", key, errs)
		}
	}
}
