package attachments

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"

	"postern/filters/filtertest"
	"postern/gateway/mail"
)

var update = flag.Bool("update", false, "write the .want files anew, to be read before they are committed")

// TestCases holds each testdata/*.eml against its .want: one line a result,
// "symbol path (name) size claimed -> true digest: reason [evidence]".
func TestCases(t *testing.T) {
	filtertest.Cases(t, *update, func(t *testing.T, eml string) string { return describe(check(t, Config{}, eml)) })
}

// check runs the filter on a message whose line ends may be bare.
func check(t testing.TB, c Config, eml string) []mail.Result {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	eml = strings.ReplaceAll(strings.ReplaceAll(eml, "\r\n", "\n"), "\n", "\r\n")
	results, err := f.Check(context.Background(), filtertest.Message(eml), nil)
	if err != nil {
		t.Fatal(err)
	}
	filtertest.WellFormed(t, results)
	return results
}

func describe(results []mail.Result) string {
	var b bytes.Buffer
	for _, r := range results {
		symbol := r.Symbol
		if symbol == "" {
			symbol = "-"
		}
		a := r.Attachment
		fmt.Fprintf(&b, "%s %s (%s) %d %s -> %s %.8s", symbol, a.Path, a.Name, a.Size, a.Type, a.TrueType, a.SHA256)
		if a.Blocked {
			fmt.Fprintf(&b, ": %s [%s]", a.Reason, r.Evidence)
		}
		b.WriteByte('\n')
	}
	return b.String()
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
