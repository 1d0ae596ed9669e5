package heuristics

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// The strings are those that everybody knows.
func TestStringsAreRight(t *testing.T) {
	for i, want := range []string{filtertest.GTUBE(), filtertest.EICAR()} {
		got := testStrings()[i]
		if got.octets != want || len(want) != 68 || len(want)-1 != overlap {
			t.Errorf("%s is %q", got.symbol, got.octets)
		}
	}
}

// TestSearch finds a string wherever it stands and however it is written.
func TestSearch(t *testing.T) {
	gtube, eicar := testStrings()[0].octets, testStrings()[1].octets
	pad := strings.Repeat("x", 150)
	for name, c := range map[string]struct {
		content      string
		gtube, eicar bool
	}{
		"empty":            {"", false, false},
		"alone":            {gtube, true, false},
		"at the begin":     {eicar + pad, false, true},
		"at the end":       {pad + gtube, true, false},
		"both":             {gtube + eicar, true, true},
		"far apart":        {pad + eicar + pad + pad + gtube + pad, true, true},
		"less one":         {pad + gtube[:67] + pad, false, false},
		"without the head": {pad + gtube[1:] + pad, false, false},
		"needle alone":     {strings.Repeat(needle, 30), false, false},
		"needle, then it":  {needle + gtube, true, false},
		"twice":            {gtube + gtube, true, false},
		"in lower case":    {strings.ToLower(gtube), false, false},
	} {
		for chunk := 1; chunk < 300; chunk++ {
			s := newSearch(context.Background(), testStrings())
			for rest := c.content; rest != ""; {
				n := min(chunk, len(rest))
				if _, err := io.WriteString(s, rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if s.seen[0] != c.gtube || s.seen[1] != c.eicar {
				t.Fatalf("%s in chunks of %d: %v", name, chunk, s.seen)
			}
		}
	}
}

// What stands at the end of one body and the begin of the next is no string.
func TestRestart(t *testing.T) {
	gtube := testStrings()[0].octets
	s := newSearch(context.Background(), testStrings())
	_, _ = io.WriteString(s, gtube[:40])
	s.restart()
	_, _ = io.WriteString(s, gtube[40:])
	if s.seen[0] {
		t.Error("found over a border")
	}
}

// The first place counts.
func TestPlace(t *testing.T) {
	s := newSearch(context.Background(), testStrings())
	_, _ = io.WriteString(s, testStrings()[1].octets)
	s.place("first")
	_, _ = io.WriteString(s, testStrings()[1].octets)
	s.place("second")
	if s.found[0] != "" || s.found[1] != "first" {
		t.Errorf("found %q", s.found)
	}
}

// A decoded part is looked at to maxDecoded octets.
func TestDecodedLimit(t *testing.T) {
	eicar := testStrings()[1].octets
	for before, want := range map[int]bool{maxDecoded - len(eicar): true, maxDecoded - len(eicar) + 1: false} {
		body := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + eicar))
		m := filtertest.Message("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body)
		found := false
		for _, r := range check(t, m) {
			found = found || r.Symbol == "EICAR"
		}
		if found != want {
			t.Errorf("%d octets before it: found is %v", before, found)
		}
	}
}

// TestOverLimit: what the reader did not look at in full is held.
func TestOverLimit(t *testing.T) {
	m := filtertest.Message("Subject: x\r\n\r\nbody")
	m.Oddity = []mail.Oddity{{Symbol: mail.MIMEPartsLimit, Evidence: "1000"}, {Symbol: mail.MIMEBadQP, Part: "2"}}
	results := check(t, m)
	last := results[len(results)-2:]
	if last[0].Symbol != "MIME_PARTS_LIMIT" || last[0].Fault != mail.FaultMessage || last[0].Err == nil {
		t.Errorf("got %+v", last[0])
	}
	if last[1].Symbol != "MIME_BAD_QP" || last[1].Fault != mail.FaultNone || last[1].Evidence != "part 2" {
		t.Errorf("got %+v", last[1])
	}
}

func TestSMTPUTF8(t *testing.T) {
	m := filtertest.Message("From: Jürgen <a@b.example>\r\nTo: c@d.example\r\nSubject: Grüße\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@b.example>\r\n\r\nbody")
	m.Envelope.SMTPUTF8 = true
	for _, r := range check(t, m) {
		if strings.HasSuffix(r.Symbol, "_ILLEGAL_CHARS") {
			t.Errorf("%s although SMTPUTF8 was declared", r.Symbol)
		}
	}
}

func TestDates(t *testing.T) {
	for s, want := range map[string]bool{
		"Sat, 21 Nov 2026 10:00:00 +0100":           true,
		"21 Nov 2026 10:00 +0100":                   true,
		"Sat, 21 Nov 2026 10:00:00 GMT":             true,
		"Sat, 21 Nov 2026 10:00:00 +0100 (CET)":     true,
		"Sat,  1 Nov 98 10:00:00 EST":               true,
		"Sat, 21 Nov 2026":                          false,
		"2026-11-21T10:00:00Z":                      false,
		"Sat, 31 Foo 2026 10:00:00 +0100":           false,
		"Sam, 21 Nov 2026 10:00:00 +0100 something": false,
		"": false,
	} {
		if got := validDate(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for s, want := range map[string]bool{
		"<1@b.example>": true, "<no-at-sign>": true, "<$1$%@[10.0.0.1]>": true,
		"": false, "<>": false, "1@b.example": false, "<1@b.example": false, "<1@b .example>": false, "<a><b>": false,
	} {
		if got := validID(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// White space of any length up to maxBlank, then a letter, is a text.
func TestBlank(t *testing.T) {
	for body, want := range map[string]bool{
		"": true, " \r\n\t": true, "x": false,
		strings.Repeat("\r\n", maxBlank/2-1) + "x": false,
		strings.Repeat("\r\n", maxBlank/2) + "x":   true,
	} {
		m := filtertest.Message("Subject: x\r\n\r\n" + body)
		if got, err := blank(&m.Parts[0]); got != want || err != nil {
			t.Errorf("%d octets: %v, %v", len(body), got, err)
		}
	}
}

// broken is content on a disk that fails.
type broken struct{ mail.Bytes }

var errDisk = errors.New("input/output error")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }
func (broken) WriteTo(io.Writer) (int64, error)  { return 0, errDisk }

func TestUnreadable(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	m := filtertest.Message("Subject: x\r\n\r\nbody")
	m.Content = broken{}
	if _, err := f.Check(context.Background(), m, nil); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("From: a\r\nFrom: b\r\n\r\nx")
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nWDVP\r\n--b--")
	f.Add(testStrings()[0].octets)
	f.Fuzz(func(t *testing.T, content string) {
		want := strings.Contains(content, testStrings()[0].octets)
		got := false
		for _, r := range check(t, filtertest.Message(content)) {
			got = got || r.Symbol == "GTUBE"
		}
		if want && !got {
			t.Error("missed the test string")
		}
	})
}

func BenchmarkText(b *testing.B) {
	benchmark(b, strings.Repeat("A line of an ordinary mail, as LONG as They -- are STill.\r\n", 350))
}

func BenchmarkBase64(b *testing.B) {
	var lines strings.Builder
	for range 270 {
		lines.WriteString(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("Some text, in German or so. ", 2))) + "\r\n")
	}
	benchmark(b, lines.String())
}

func benchmark(b *testing.B, body string) {
	f, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	header := "From: a@b.example\r\nTo: c@d.example\r\nSubject: x\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@b.example>\r\n" +
		strings.Repeat("Received: from x.example by y.example; Sat, 21 Nov 2026 10:00:00 +0100\r\n", 20)
	if strings.HasPrefix(b.Name(), "BenchmarkBase64") {
		header += "Content-Transfer-Encoding: base64\r\n"
	}
	m := filtertest.Message(header + "\r\n" + body)
	b.SetBytes(m.Content.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Check(b.Context(), m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
