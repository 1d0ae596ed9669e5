// Package scoring weighs what the filters found and says what is to become of a
// message, recipient by recipient. It follows no RFC: the scale is the field's
// (5 points are spam), the actions are those of package mail.
//
// A filter reports facts, this package gives them weight, the gateway turns the
// action into a reply. Nothing here looks at a clock, at the network or at what
// was judged before: the same results and recipients always give the same
// verdicts, so a record can be judged again under other weights.
package scoring

import (
	"maps"
	"slices"
	"strings"

	"postern/gateway/mail"
)

// Policy is what one domain, or everybody, wants done. A threshold of 0 is
// never. The zero Policy weighs by the built-in table, acts on viruses and
// attachments, and never on a score.
type Policy struct {
	// Scores from which on the message is marked, kept or refused.
	Tag, Quarantine, Reject float64
	// Greylist is the score from which on a first attempt may be put off; the
	// greylist reads it, Judge does not.
	Greylist float64

	SubjectTag string                 // handed on in the verdict; "" is off
	Symbols    map[string]float64     // weights that override all others
	Actions    map[string]mail.Action // facts that decide by themselves; Accept takes a built-in action away
	OnError    map[string]mail.Action // by filter, when its engine can't answer: Defer, or Accept to go on without
}

// Weight is a line of the built-in table: what a fact adds to the score, and
// what it does by itself.
type Weight struct {
	Score  float64
	Class  mail.Class  // of what is kept because of the fact's action
	Action mail.Action // Accept: none of its own
}

// Scoring holds the policies of one configuration. It never changes, and may be
// used by several goroutines at once.
type Scoring struct {
	policies []policy       // equal ones only once; the first is the default
	domains  map[string]int // lower-case domain: index in policies
}

// Judge gives each recipient exactly one verdict. Recipients stand in one
// verdict when the same policy and the same results hold for them; verdicts
// stand in the order of their first recipients. Without recipients the default
// policy gives one verdict on the results that hold for all.
func (s *Scoring) Judge(results []mail.Result, recipients []mail.Address) []mail.Verdict {
	if len(recipients) == 0 {
		return []mail.Verdict{s.policies[0].judge(newView(results).holding(""))}
	}
	var verdicts []mail.Verdict
	seen := map[group]int{}
	view := newView(results)
	for _, r := range recipients {
		g := group{policy: s.domains[r.DomainKey()], results: view.mask(r.Key())}
		i, known := seen[g]
		if !known {
			i = len(verdicts)
			seen[g] = i
			verdicts = append(verdicts, s.policies[g.policy].judge(view.holding(g.results)))
		}
		verdicts[i].Recipients = append(verdicts[i].Recipients, r)
	}
	return verdicts
}

// group is what makes two recipients alike.
type group struct {
	policy  int
	results string // the mask of the results that hold
}

// view knows which results hold for whom.
type view struct {
	results    []mail.Result
	restricted []map[string]bool // in the order of results that name recipients: their keys
}

func newView(results []mail.Result) view {
	v := view{results: results}
	for _, r := range results {
		if len(r.Recipients) == 0 {
			continue
		}
		keys := make(map[string]bool, len(r.Recipients))
		for _, a := range r.Recipients {
			keys[a.Key()] = true
		}
		v.restricted = append(v.restricted, keys)
	}
	return v
}

// mask says, an octet for each restricted result, whether it holds for the
// recipient.
func (v view) mask(key string) string {
	if len(v.restricted) == 0 {
		return ""
	}
	b := make([]byte, len(v.restricted))
	for i, keys := range v.restricted {
		b[i] = '-'
		if keys[key] {
			b[i] = '+'
		}
	}
	return string(b)
}

// holding is the results that a mask lets through; those for all always are.
func (v view) holding(mask string) []mail.Result {
	if len(v.restricted) == 0 {
		return v.results
	}
	out := make([]mail.Result, 0, len(v.results))
	n := 0
	for _, r := range v.results {
		if len(r.Recipients) > 0 {
			n++
			if mask == "" || mask[n-1] != '+' {
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// classRank orders classes by how much care who releases the message needs.
func classRank(c mail.Class) int {
	return slices.Index([]mail.Class{mail.ClassSpam, mail.ClassPolicy, mail.ClassAttachment, mail.ClassVirus}, c)
}

// Builtin is a copy of the built-in table, for documentation and checks.
func Builtin() map[string]Weight { return maps.Clone(builtin) }

// symbolOf names a fact. A message that a filter could not read is held even
// where the filter forgot to say so by name.
func symbolOf(r mail.Result) string {
	if r.Symbol == "" && r.Fault == mail.FaultMessage {
		return strings.ToUpper(r.Filter) + "_UNSCANNABLE"
	}
	return r.Symbol
}
