//go:build integration

package main

import (
	"regexp"
	"strings"
	"testing"

	"postern/filters/filtertest"
)

// With a real clamd and a real spamd the promises hold too, and what they find is
// said to be theirs.
func TestIntegrationDemo(t *testing.T) {
	clamd, spamd := filtertest.StartClamd(t, filtertest.Clamd{}), filtertest.StartSpamd(t)
	for name, addresses := range map[string][2]string{
		"both":  {clamd.TCP, spamd.TCP},
		"clamd": {clamd.Unix, ""},
		"spamd": {"", spamd.Unix},
	} {
		t.Run(name, func(t *testing.T) {
			var out output
			s := newTestShow(t, &out)
			s.daemons[0].address, s.daemons[1].address = addresses[0], addresses[1]
			if err := s.run(t.Context()); err != nil {
				t.Fatal(err, out.String())
			}
			text := out.String()
			for _, c := range []struct {
				found, want bool
				what        string
			}{
				{regexp.MustCompile(`clamav +CLAMAV_VIRUS`).MatchString(text), addresses[0] != "", "clamd finds the virus"},
				{strings.Contains(text, "there is no antivirus"), addresses[0] == "", "there is no antivirus"},
				{regexp.MustCompile(`spamassassin +\S+ [+-]`).MatchString(text), addresses[1] != "", "spamd finds something"},
			} {
				if c.found != c.want {
					t.Errorf("%s: %v in\n%s", c.what, c.found, text)
				}
			}
			nothingLeft(t)
		})
	}
}
