package heuristics

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"strings"
	"testing"

	"postern/filters/filtertest"
	"postern/gateway/mail"
)

var update = flag.Bool("update", false, "write the .want files anew, to be read before they are committed")

// TestCases holds each testdata/*.eml against its .want: a line a fact, symbol
// and evidence. {GTUBE} and {EICAR} stand for the test strings, so that no
// scanner takes the files for what they are about; .base64 and .qp behind the
// name for their encoded forms.
func TestCases(t *testing.T) {
	filtertest.Cases(t, *update, func(t *testing.T, eml string) string {
		var got strings.Builder
		for _, r := range check(t, filtertest.Message(expand(eml))) {
			got.WriteString(strings.TrimSpace(r.Symbol+" "+r.Evidence) + "\n")
		}
		return got.String()
	})
}

// expand writes line ends as mail has them, and the test strings.
func expand(eml string) string {
	for _, s := range testStrings() {
		half := len(s.octets) / 2
		eml = strings.NewReplacer(
			"{"+s.symbol+"}", s.octets,
			"{"+s.symbol+".base64}", base64.StdEncoding.EncodeToString([]byte(s.octets)),
			"{"+s.symbol+".qp}", s.octets[:half]+"=\n"+fmt.Sprintf("=%02X", s.octets[half])+s.octets[half+1:],
		).Replace(eml)
	}
	return strings.ReplaceAll(eml, "\n", "\r\n")
}

func check(t testing.TB, m *mail.Message) []mail.Result {
	t.Helper()
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	results, err := f.Check(context.Background(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	filtertest.WellFormed(t, results)
	for _, r := range results {
		if r.Filter != Name || r.Description == "" {
			t.Errorf("%s has filter %q and description %q", r.Symbol, r.Filter, r.Description)
		}
	}
	return results
}

func TestContract(t *testing.T) {
	filtertest.Run(t, func() filtertest.Filter {
		f, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}
