package spamassassin

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filters/engine"
	"postern/filters/filtertest"
)

// TestResponses reads testdata/responses/NAME.txt, a response with bare LF, and
// holds what is read of it to NAME.want: a result a line, or "error".
func TestResponses(t *testing.T) {
	files, err := filepath.Glob("testdata/responses/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, "txt") + "want")
			if err != nil {
				t.Fatal(err)
			}
			a, err := parse(onWire(t, file))
			if got := inWords(a, err); got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// onWire is a file as spamd would send it: CRLF in the head, LF in the report.
func onWire(t testing.TB, file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(b), "\n\n")
	head = strings.ReplaceAll(head, "\n", "\r\n")
	if !ok {
		return head
	}
	return head + "\r\n\r\n" + body
}

func inWords(a answer, err error) string {
	var b strings.Builder
	switch {
	case err != nil:
		return "error\n"
	case a.refused != nil:
		return "refused\n"
	}
	for _, r := range a.results() {
		fmt.Fprintf(&b, "%.1f %s: %s\n", r.Points, r.Symbol, r.Description)
	}
	return b.String()
}

// The codes are those of sysexits: only one says that the message is at fault.
func TestCodes(t *testing.T) {
	for code, want := range map[string]string{
		"65 EX_DATAERR": "refused", "79 Timeout": "message", "69 EX_UNAVAILABLE": "engine", "75 EX_TEMPFAIL": "engine",
		"76 Bad header line": "engine", "1 x": "engine", "99999 x": "engine",
	} {
		a, err := parse("SPAMD/1.5 " + code + "\r\n\r\n")
		got := "engine"
		switch {
		case a.refused != nil:
			got = "refused"
		case errors.Is(err, engine.ErrOnMessage):
			got = "message"
		case err == nil:
			got = "fine"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
}

// The total is spamd's: the rules that it names may differ from it by rounding,
// no further.
func TestRest(t *testing.T) {
	tests := []struct {
		total float64
		rules []float64
		rest  float64
	}{
		{0, nil, 0},
		{0.1, nil, 0.1},
		{-2, nil, -2},
		{5, []float64{2, 3}, 0},
		{5.3, []float64{2, 3}, 0},
		{5.4, []float64{2, 3}, 0.4},
		{4.7, []float64{5}, 0},
		{4.6, []float64{5}, -0.4},
		{1000, []float64{-1}, 1001},
	}
	for _, test := range tests {
		a := answer{total: test.total}
		for _, p := range test.rules {
			a.rules = append(a.rules, rule{name: "R", points: p})
		}
		results, rest := a.results(), 0.0
		for _, r := range results[len(test.rules):] {
			if r.Symbol != "SPAMASSASSIN_SCORE" {
				t.Errorf("symbol %s", r.Symbol)
			}
			rest += r.Points
		}
		if math.Abs(rest-test.rest) > 1e-9 {
			t.Errorf("%v of %v leaves %v, want %v", test.rules, test.total, rest, test.rest)
		}
	}
}

func TestForget(t *testing.T) {
	a := answer{total: 3, rules: []rule{{name: "A", points: 1}, {name: "B", points: 2}}}
	a.forget("C")
	a.forget("A")
	if a.total != 2 || len(a.rules) != 1 || a.rules[0].name != "B" || len(a.results()) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestMinusZero(t *testing.T) {
	if p, err := points("-0.0"); err != nil || math.Signbit(p) {
		t.Errorf("%v, %v", p, err)
	}
}

func TestLimitsOfReport(t *testing.T) {
	table := "---- ---- ----\n" + strings.Repeat(" 0.1 RULE text\n", maxRules+1)
	if n := len(report(table)); n != maxRules {
		t.Errorf("%d rules", n)
	}
	for _, test := range []struct {
		points string
		ok     bool
	}{{"100000", true}, {"100000.1", false}, {"-100000", true}, {"1" + strings.Repeat("0", 400), false}} {
		if _, ok := parseRule(test.points + " RULE text"); ok != test.ok {
			t.Errorf("%.20s points: %v", test.points, ok)
		}
	}
	rules := report("---- ---- ----\n 1.0 RULE text\n" + strings.Repeat(strings.Repeat(" ", 28)+"more\n", 1000))
	if len(rules) != 1 || len(rules[0].text) > maxText {
		t.Errorf("%d rules, %d octets", len(rules), len(rules[0].text))
	}
	for _, test := range []struct {
		size int
		ok   bool
	}{{maxResponse, true}, {maxResponse + 1, false}} {
		if _, err := readResponse(strings.NewReader(strings.Repeat("a", test.size))); (err == nil) != test.ok {
			t.Errorf("%d octets: %v", test.size, err)
		}
	}
}

// FuzzParse: whatever spamd says, results keep their promise, and sum up to the
// total that its Spam field says.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/responses/*.txt")
	for _, file := range files {
		f.Add(onWire(f, file))
	}
	f.Fuzz(func(t *testing.T, response string) {
		a, err := parse(response)
		if err != nil || a.refused != nil {
			return
		}
		results := a.results()
		filtertest.WellFormed(t, results)
		sum := 0.0
		for _, r := range results {
			sum += r.Points
		}
		if math.Abs(sum-a.total) > tolerance+0.051 {
			t.Errorf("%v instead of %v", sum, a.total)
		}
	})
}
