package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/cmd/postern/demo"
	"postern/cmd/postern/screen"
	"postern/gateway/control"
	"postern/gateway/mail"
)

// introduce says who takes part.
func (s *show) introduce() {
	c := s.screen
	c.Print(fmt.Sprintf("%s: %d senders outside, the gateway, and a mail server inside\n\n", c.Paint(screen.Bold, "Postern "+version), len(s.samples)))
	gateway := "Postern " + s.doors.Addresses()[0]
	c.Line(2, screen.Plain, "senders  ->  "+gateway+"  ->  mail server inside "+s.inside.Address())
	c.Line(15, screen.Dim, screen.Pad("mx for "+demo.Domain, len(gateway))+"      users: "+strings.Join(demo.Users[:], ", "))
	c.Print("\n")
	c.Filter("filters", "built in", strings.Join(s.doors.House().Filters(), ", "))
	for _, d := range s.daemons {
		c.Filter("", d.filter, s.presence(d))
	}
	c.Print("\n")
	c.VerdictHead("What comes from outside", "Verdict", "What its sender is told")
}

// presence says whether a daemon takes part, and what it means that it does not.
func (s *show) presence(d daemon) string {
	switch {
	case d.address != "":
		return d.name + " at " + d.address
	case d.filter == "clamav":
		return s.screen.Paint(screen.Yellow, "no clamd runs here: there is no antivirus")
	}
	return s.screen.Paint(screen.Yellow, "no "+d.name+" runs here: its rules are not asked")
}

// reason is what one filter, or the gateway itself, says of a message, in pieces
// that belong together.
type reason struct {
	who    string
	pieces []string
}

// refusedAt says in words why the gateway refuses a recipient.
var refusedAt = map[string]string{
	"unknown": "the server inside has no such user; refused at RCPT",
	"relay":   "no domain of ours; refused at RCPT",
}

// why is what each filter found, and what it came to.
func why(r mail.Record) (list []reason) {
	if text := refusedAt[r.Reason]; text != "" {
		return []reason{{"gateway", screen.Words(text)}}
	}
	for _, hits := range byFilter(r.Hits) {
		list = append(list, reason{hits[0].Filter, hitsText(hits)})
	}
	for _, f := range r.Unscanned {
		list = append(list, reason{f, screen.Words("did not answer")})
	}
	switch sum, isScore := strings.CutPrefix(r.Reason, "score "); {
	case isScore:
		list = append(list, reason{"score", screen.Words(sum + ", the threshold of " + r.Action.String())})
	case len(list) == 0 && r.Reason != "":
		list = append(list, reason{"gateway", screen.Words(r.Reason)})
	case len(list) == 0:
		list = append(list, reason{"", screen.Words("nothing found")})
	}
	return list
}

// byFilter groups hits, which stand in the filters' order already.
func byFilter(hits []mail.Hit) (groups [][]mail.Hit) {
	for i, h := range hits {
		if i == 0 || h.Filter != hits[i-1].Filter {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], h)
	}
	return groups
}

// maxFacts is how many facts of one filter are named, the heaviest first.
const maxFacts = 4

// hitsText names facts: one with all that is known of it, several with what they
// weigh.
func hitsText(hits []mail.Hit) (pieces []string) {
	if len(hits) == 1 {
		return append([]string{weighed(hits[0]) + ":"}, screen.Words(because(hits[0]))...)
	}
	hits = slices.SortedStableFunc(slices.Values(hits), func(a, b mail.Hit) int { return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)) })
	rest := 0.0
	for i, h := range hits {
		if i < maxFacts {
			pieces = append(pieces, weighed(h)+",")
		} else {
			rest += h.Score
		}
	}
	if more := len(hits) - maxFacts; more > 0 {
		return append(pieces, fmt.Sprintf("%d more %+.1f", more, rest))
	}
	last := len(pieces) - 1
	pieces[last] = strings.TrimSuffix(pieces[last], ",")
	return pieces
}

// weighed is a symbol with its points.
func weighed(h mail.Hit) string {
	if h.Score == 0 {
		return h.Symbol
	}
	return fmt.Sprintf("%s %+g", h.Symbol, h.Score)
}

// arrivals shows what the server inside has now.
func (s *show) arrivals() {
	s.screen.Heading("What arrived inside", "")
	t := screen.Table{{"TO", "SUBJECT", "X-SPAM-STATUS"}}
	for _, a := range s.inside.Arrived() {
		status, _, _ := strings.Cut(a.Field("X-Spam-Status"), " tests=")
		t = append(t, []string{strings.Join(a.To, " "), a.Field("Subject"), status})
	}
	s.screen.Rows(1, t)
}

// quarantine shows what is kept.
func (s *show) quarantine(items []control.Kept) {
	s.screen.Heading("What is kept", "quarantine list")
	t := screen.Table{{"ID", "CLASS", "SUBJECT", "REASON"}}
	for _, k := range items {
		t = append(t, []string{k.ID, string(k.Class), k.Subject, k.Reason})
	}
	s.screen.Rows(2, t)
}

// track shows the record of one message as the command of that name does.
func (s *show) track(ctx context.Context, id string) error {
	records, err := s.doors.House().Office().Track(ctx, id)
	if err != nil {
		return err
	}
	s.screen.Heading("What is known of the last one", "track "+id)
	var b bytes.Buffer
	for _, r := range records[:min(1, len(records))] {
		if err := writeRecord(terminal{out: &b}, r); err != nil {
			return err
		}
	}
	for line := range strings.Lines(b.String()) {
		label, text, _ := strings.Cut(strings.TrimSpace(line), "  ")
		for i, folded := range screen.Fold(screen.Words(strings.TrimSpace(text)), s.screen.Width-14) {
			if i > 0 {
				label = ""
			}
			s.screen.Line(2, screen.Plain, screen.Pad(label, 12)+folded)
		}
	}
	return nil
}

// conclude says what to type next.
func (s *show) conclude() {
	c, me := s.screen, program()
	c.Print("\n" + s.outcome() + "\n")
	if !s.keep {
		c.Heading("What next", "")
		for _, row := range [][2]string{
			{"demo --keep", "leave it running, and try the other commands on it"},
			{"scan --local FILE", "judge mail of your own; nothing is delivered"},
			{"serve --help", "run it; README.md has the way in front of a real server"},
		} {
			c.Print("  " + me + " " + screen.Pad(row[0], 19) + row[1] + "\n")
		}
		return
	}
	config := " --config " + s.path("postern.toml") + " "
	c.Heading("It runs until Ctrl-C", "")
	for _, row := range []string{
		"state    " + s.path("state"), "log      " + s.path("log"), "metrics  http://" + s.doors.Metrics() + "/metrics", "",
		me + config + "track " + demo.Users[0] + "@" + demo.Domain,
		me + config + "quarantine list",
		me + config + "queue list",
		"swaks --server " + s.doors.Addresses()[0] + " --from you@elsewhere.example --to " + demo.Users[0] + "@" + demo.Domain,
	} {
		c.Print(strings.TrimRight("  "+row, " ") + "\n") // to be copied: never cut
	}
}

// outcome is the last word on the promises.
func (s *show) outcome() string {
	n, took := len(s.samples), time.Since(s.started).Seconds()
	if s.broken > 0 {
		return s.screen.Paint(screen.Red, fmt.Sprintf("%d of %d not as promised, in %.1f s", s.broken, n, took))
	}
	return s.screen.Paint(screen.Green, fmt.Sprintf("All %d as promised, in %.1f s", n, took))
}

// complain shows the end of the gateway's log, which goes with the folder.
func (s *show) complain() {
	text, err := os.ReadFile(s.path("log"))
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Fprintln(s.terminal.err, "\npostern: the end of the gateway's log:")
	for _, line := range lines[max(0, len(lines)-20):] {
		fmt.Fprintln(s.terminal.err, line)
	}
}

// program is what was typed to run us, so that what we say can be typed again.
func program() string {
	if filepath.Base(os.Args[0]) == "postern" {
		return os.Args[0]
	}
	return "postern"
}
