//go:build integration

package spamassassin_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/filters/filtertest"
	"postern/filters/spamassassin"
	"postern/gateway/mail"
)

func filter(t testing.TB, c spamassassin.Config) *spamassassin.Filter {
	t.Helper()
	c.Hostname = "mx.example.com"
	f, err := spamassassin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const ham = "From: Alice <alice@sender.example>\r\nTo: Bob <bob@example.com>\r\nSubject: Lunch on Monday\r\n" +
	"Date: Sat, 21 Nov 2026 09:59:00 +0000\r\nMessage-ID: <20261121095900.4711@sender.example>\r\n\r\n" +
	"Hello Bob,\r\n\r\nshall we meet at one? The usual place has a table for us.\r\n\r\nAlice\r\n"

func points(results []mail.Result) (sum float64) {
	for _, r := range results {
		sum += r.Points
	}
	return sum
}

func find(results []mail.Result, symbol string) *mail.Result {
	for i := range results {
		if results[i].Symbol == symbol {
			return &results[i]
		}
	}
	return nil
}

func TestIntegrationSpamd(t *testing.T) {
	d := filtertest.StartSpamd(t)
	spam := ham + filtertest.GTUBE() + "\r\n"
	for _, address := range []string{d.TCP, d.Unix} {
		f := filter(t, spamassassin.Config{Addresses: []string{address}})
		t.Run(address[:4]+" GTUBE", func(t *testing.T) {
			results, err := f.Check(t.Context(), filtertest.Message(spam), nil)
			if err != nil {
				t.Fatal(err)
			}
			filtertest.WellFormed(t, results)
			r := find(results, "GTUBE")
			if r == nil || r.Points != 1000 || !r.HasPoints || !strings.Contains(r.Description, "Unsolicited") {
				t.Errorf("GTUBE is %+v", r)
			}
			if find(results, "SPAMASSASSIN_SCORE") != nil {
				t.Errorf("a rest: %+v", results)
			}
		})
		t.Run(address[:4]+" ham", func(t *testing.T) {
			results, err := f.Check(t.Context(), filtertest.Message(ham), nil)
			if err != nil {
				t.Fatal(err)
			}
			filtertest.WellFormed(t, results)
			if p := points(results); p > 2 {
				t.Errorf("%.1f points: %+v", p, results)
			}
		})
	}
}

// spamd judges as at the border: it sees the client, and holds a missing name
// against it only where the name was looked for.
func TestIntegrationTrace(t *testing.T) {
	d := filtertest.StartSpamd(t)
	tests := []struct {
		name    string
		reverse func(context.Context, netip.Addr) (string, error)
		none    bool
	}{
		{"not looked for", nil, false},
		{"could not tell", func(context.Context, netip.Addr) (string, error) { return "", errors.New("no answer") }, false},
		{"has a name", func(context.Context, netip.Addr) (string, error) { return "mail.sender.example", nil }, false},
		{"has none", func(context.Context, netip.Addr) (string, error) { return "", nil }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := filter(t, spamassassin.Config{Addresses: []string{d.Unix}, Reverse: test.reverse})
			results, err := f.Check(t.Context(), filtertest.Message(ham), nil)
			if err != nil {
				t.Fatal(err)
			}
			if find(results, "NO_RELAYS") != nil || find(results, "UNPARSEABLE_RELAY") != nil {
				t.Errorf("the trace isn't read: %+v", results)
			}
			if got := find(results, "RDNS_NONE") != nil; got != test.none {
				t.Errorf("RDNS_NONE is %v: %+v", got, results)
			}
			if find(results, "SPAMASSASSIN_SCORE") != nil {
				t.Errorf("a rest: %+v", results)
			}
		})
	}
}

func TestIntegrationLongMessage(t *testing.T) {
	d := filtertest.StartSpamd(t)
	f := filter(t, spamassassin.Config{Addresses: []string{d.TCP}, MaxSize: 20_000})
	long := ham + filtertest.GTUBE() + "\r\n" + strings.Repeat("and so on\r\n", 10_000)
	results, err := f.Check(t.Context(), filtertest.Message(long), nil)
	if err != nil {
		t.Fatal(err)
	}
	filtertest.WellFormed(t, results)
	if find(results, "GTUBE") == nil {
		t.Errorf("the beginning was not judged: %+v", results)
	}
	if find(results, "SPAMASSASSIN_HEAD") == nil {
		t.Errorf("not said that only the beginning was: %+v", results)
	}
}

func TestIntegrationContract(t *testing.T) {
	d := filtertest.StartSpamd(t)
	filtertest.Run(t, func() filtertest.Filter {
		return filter(t, spamassassin.Config{Addresses: []string{d.Unix}, MaxSize: 64 << 10})
	})
}

func TestIntegrationSpamdStopsAndStarts(t *testing.T) {
	d := filtertest.StartSpamd(t)
	f := filter(t, spamassassin.Config{Addresses: []string{d.TCP}})
	if err := f.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	began := time.Now()
	for range 20 {
		if results, err := f.Check(t.Context(), filtertest.Message(ham), nil); err == nil {
			t.Fatalf("no error without a spamd, but %v", results)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("20 messages waited %v for a spamd that isn't there", took)
	}
	d.Start()
	for began = time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := f.Check(t.Context(), filtertest.Message(ham), nil); err == nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("spamd is back and not used")
		}
	}
}
