package clamav

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters/engine"
	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// TestReplies reads testdata/replies: a file a kind of reply, each line a reply,
// " => ", and the symbol with the evidence, "clean", or "error".
func TestReplies(t *testing.T) {
	files, err := filepath.Glob("testdata/replies/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			for line := range strings.Lines(string(text)) {
				reply, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
				if !ok {
					t.Fatalf("%q", line)
				}
				if got := inWords(parse(reply)); got != want {
					t.Errorf("%q is %q, want %q", reply, got, want)
				}
			}
		})
	}
}

// inWords is an answer as TestReplies writes it.
func inWords(a answer, err error) string {
	switch {
	case err != nil:
		return "error"
	case a.symbol == "":
		return "clean"
	case a.fault == mail.FaultMessage:
		return "fault " + a.symbol + " " + a.evidence
	}
	return a.symbol + " " + a.evidence
}

// Out of memory may be the message's fault, a full disk never.
func TestFaultOfWhom(t *testing.T) {
	for reply, want := range map[string]bool{
		"stream: Can't allocate memory ERROR":        true,
		"stream: Can't create temporary file ERROR":  false,
		"Temporary file -> write ERROR":              false,
		"UNKNOWN COMMAND":                            false,
		"stream: Can't write to file ERROR":          false,
		"COMMAND READ TIMED OUT ERROR":               false,
		"INSTREAM: Can't allocate memory here ERROR": true,
	} {
		if _, err := parse(reply); err == nil || errors.Is(err, engine.ErrOnMessage) != want {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

func TestSignatureDate(t *testing.T) {
	date := time.Date(2026, 11, 21, 8, 31, 2, 0, time.Local)
	tests := []struct {
		version string
		want    time.Time
		ok      bool
	}{
		{"ClamAV 1.4.6/27800/Sat Nov 21 08:31:02 2026", date, true},
		{"ClamAV 1.4.6/27800/Sat Nov  7 08:31:02 2026", time.Date(2026, 11, 7, 8, 31, 2, 0, time.Local), true},
		{"ClamAV 1.4.6", time.Time{}, false},
		{"ClamAV 1.4.6/27800/", time.Time{}, false},
		{"", time.Time{}, false},
	}
	for _, test := range tests {
		if got, ok := signatureDate(test.version); ok != test.ok || ok && !got.Equal(test.want) {
			t.Errorf("%q: %v, %v", test.version, got, ok)
		}
	}
}

// FuzzParse: whatever clamd says, only "stream: OK" is clean, and what is told of
// it may stand in a log.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/replies/*.txt")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			reply, _, _ := strings.Cut(line, " => ")
			f.Add(reply)
		}
	}
	f.Fuzz(func(t *testing.T, reply string) {
		a, err := parse(reply)
		if err == nil && a.symbol == "" && reply != "stream: OK" {
			t.Errorf("%q is clean", reply)
		}
		if err == nil {
			filtertest.WellFormed(t, a.results())
		}
	})
}
