//go:build integration

package clamav_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/filters/clamav"
	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// withAttachment is a message with an attachment, whose first field is first.
func withAttachment(first, attachment string) string {
	return first + "From: a@sender.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n" +
		"--b\r\nContent-Type: application/octet-stream; name=x.com\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(attachment)) + "\r\n--b--\r\n"
}

func filter(t testing.TB, addresses ...string) *clamav.Filter {
	t.Helper()
	f, err := clamav.New(clamav.Config{Addresses: addresses, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestIntegrationClamd(t *testing.T) {
	d := filtertest.StartClamd(t, filtertest.Clamd{})
	tests := []struct{ name, content, symbol, evidence string }{
		{"ham", "Subject: lunch\r\n\r\nAt one?\r\n", "", ""},
		{"empty", "", "", ""},
		{"eicar in the text", "Subject: x\r\n\r\n" + filtertest.EICAR() + "\r\n", "CLAMAV_VIRUS", "Eicar-Signature.UNOFFICIAL"},
		{"eicar attached", withAttachment("", filtertest.EICAR()), "CLAMAV_VIRUS", "Eicar-Signature.UNOFFICIAL"},
		{"behind a field named like a picture", withAttachment("GIF89a: x\r\n", filtertest.EICAR()), "CLAMAV_VIRUS", "Eicar-Signature.UNOFFICIAL"},
		{"behind a field named like a program", withAttachment("MZ: x\r\n", filtertest.EICAR()), "CLAMAV_VIRUS", "Eicar-Signature.UNOFFICIAL"},
		{"test file", withAttachment("", filtertest.MarkTestFile), "CLAMAV_VIRUS", "Postern.Test-File.UNOFFICIAL"},
		{"unofficial", withAttachment("", filtertest.MarkUnofficial), "CLAMAV_UNOFFICIAL", "Postern.Malware.UNOFFICIAL"},
		{"unwanted", withAttachment("", filtertest.MarkPUA), "CLAMAV_PUA", "PUA.Postern.Tool.UNOFFICIAL"},
		{"heuristic", withAttachment("", filtertest.MarkHeuristic), "CLAMAV_HEURISTIC", "Heuristics.Postern.Shape.UNOFFICIAL"},
	}
	for _, address := range []string{d.TCP, d.Unix} {
		f := filter(t, address)
		for _, test := range tests {
			t.Run(address[:4]+" "+test.name, func(t *testing.T) {
				results, err := f.Check(context.Background(), filtertest.Message(test.content), nil)
				if err != nil {
					t.Fatal(err)
				}
				filtertest.WellFormed(t, results)
				if got, want := text(results), strings.TrimSpace(test.symbol+" "+test.evidence); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

func text(results []mail.Result) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s %s", r.Symbol, r.Evidence)
	}
	return b.String()
}

func TestIntegrationContract(t *testing.T) {
	d := filtertest.StartClamd(t, filtertest.Clamd{})
	for _, address := range []string{d.TCP, d.Unix} {
		t.Run(address[:4], func(t *testing.T) {
			filtertest.Run(t, func() filtertest.Filter { return filter(t, address) })
		})
	}
}

// A message that is over clamd's limits is the message's fault, be it one octet
// over or so much that clamd hangs up in the middle.
func TestIntegrationClamdLimits(t *testing.T) {
	const limit = 1 << 20
	d := filtertest.StartClamd(t, filtertest.Clamd{StreamMaxLength: "1M", Lines: []string{"MaxFileSize 500K"}})
	head := "Subject: long\r\n\r\n"
	preamble := len("Received: by postern\r\n")
	for _, address := range []string{d.TCP, d.Unix} {
		f := filter(t, address)
		for _, test := range []struct {
			name     string
			size     int
			evidence string
		}{
			{"under all", 400_000, ""},
			{"over one of a file", limit - preamble, "Heuristics.Limits.Exceeded.MaxFileSize"},
			{"over the stream by one", limit - preamble + 1, "INSTREAM size limit exceeded."},
			{"far over the stream", 30 * limit, "INSTREAM size limit exceeded."},
		} {
			t.Run(address[:4]+" "+test.name, func(t *testing.T) {
				body := bytes.Repeat([]byte("x"), test.size-len(head))
				results, err := f.Check(context.Background(), filtertest.Message(head+string(body)), nil)
				if err != nil {
					t.Fatal(err)
				}
				filtertest.WellFormed(t, results)
				want := ""
				if test.evidence != "" {
					want = "CLAMAV_LIMIT " + test.evidence
				}
				if got := text(results); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

func TestIntegrationVersion(t *testing.T) {
	d := filtertest.StartClamd(t, filtertest.Clamd{})
	f := filter(t, d.Unix)
	if err := f.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	version, err := f.Version(t.Context())
	if err != nil || !strings.HasPrefix(version, "ClamAV ") {
		t.Errorf("version %q, %v", version, err)
	}
	if !f.Signatures().IsZero() {
		t.Errorf("a clamd without official signatures has some of %v", f.Signatures())
	}
}

// A clamd that goes away costs little, and is used again when it is back.
func TestIntegrationClamdStopsAndStarts(t *testing.T) {
	d := filtertest.StartClamd(t, filtertest.Clamd{})
	f := filter(t, d.TCP, d.Unix)
	m := filtertest.Message(withAttachment("", filtertest.EICAR()))
	infected := func() bool {
		results, err := f.Check(t.Context(), m, nil)
		return err == nil && len(results) == 1 && results[0].Symbol == "CLAMAV_VIRUS"
	}
	if !infected() {
		t.Fatal("not found")
	}
	d.Stop()
	began := time.Now()
	for range 20 {
		if results, err := f.Check(t.Context(), m, nil); err == nil {
			t.Fatalf("no error without a clamd, but %v", results)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("20 messages waited %v for a clamd that isn't there", took)
	}
	d.Start()
	began = time.Now()
	for !infected() {
		if time.Since(began) > 30*time.Second {
			t.Fatal("clamd is back and not used")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A clamd that hangs costs its time-out once and not for every message.
func TestIntegrationClamdHangs(t *testing.T) {
	d := filtertest.StartClamd(t, filtertest.Clamd{})
	f, err := clamav.New(clamav.Config{Addresses: []string{d.Unix}, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m := filtertest.Message("Subject: x\r\n\r\nx\r\n")
	d.Pause()
	began := time.Now()
	for range 20 {
		if results, err := f.Check(t.Context(), m, nil); err == nil {
			t.Fatalf("no error from a clamd that hangs, but %v", results)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("20 messages waited %v", took)
	}
	d.Resume()
	for began = time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err = f.Check(t.Context(), m, nil); err == nil {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("clamd goes on and is not used")
		}
	}
}

// BenchmarkClamd scans messages that all differ, since clamd knows again what it
// has found clean.
func BenchmarkClamd(b *testing.B) {
	d := filtertest.StartClamd(b, filtertest.Clamd{})
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 34_000/72)
	number := 0
	for _, address := range []string{d.TCP, d.Unix} {
		b.Run(address[:4], func(b *testing.B) {
			f := filter(b, address)
			for b.Loop() {
				number++
				m := filtertest.Message(fmt.Sprintf("Subject: %d\r\n\r\n%s", number, body))
				if _, err := f.Check(b.Context(), m, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
