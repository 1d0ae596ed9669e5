package scoring

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"postern/gateway/mail"
)

// policy is a Policy that was checked, with its thresholds as they are compared.
type policy struct {
	Policy
	tag, quarantine, reject milli
}

// milli is a score in thousandths of a point. Whole numbers, so that fifty times
// 0.1 is 5.0 and reaches a threshold of 5.
type milli int64

// maxPoints bounds weights and thresholds, so that no sum overflows.
const maxPoints = 1e6

// toMilli rounds to the nearest thousandth. What is no number counts nothing:
// a proposal comes from an engine, and must not turn a sum into NaN.
func toMilli(points float64) milli {
	if math.IsNaN(points) {
		return 0
	}
	return milli(math.Round(max(-maxPoints, min(maxPoints, points)) * 1000))
}

func (m milli) points() float64 { return float64(m) / 1000 }

// String writes one digit behind the point, and more only where they say more.
func (m milli) String() string {
	if m%100 == 0 {
		return fmt.Sprintf("%.1f", m.points())
	}
	return strings.TrimRight(fmt.Sprintf("%.3f", m.points()), "0")
}

// New checks the policies. A domain's thresholds and subject tag stand for
// themselves; its symbols, actions and OnError are laid over the default's. The
// error joins every fault that was found.
func New(def Policy, domains map[string]Policy) (*Scoring, error) {
	faults := def.faults("")
	s := &Scoring{policies: []policy{compile(def)}, domains: map[string]int{}}
	for _, name := range slices.Sorted(maps.Keys(domains)) {
		d, key := domains[name], strings.ToLower(name)
		if _, twice := s.domains[key]; twice {
			faults = append(faults, fmt.Errorf("domain %s: named twice", key))
		}
		faults = append(faults, d.faults("domain "+key+": ")...)
		s.domains[key] = s.add(compile(d.over(def)))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("score: %w", err)
	}
	return s, nil
}

// add keeps a policy unless one that is equal is there already: recipients of
// two domains that want the same stand in one verdict.
func (s *Scoring) add(p policy) int {
	if i := slices.IndexFunc(s.policies, p.equal); i >= 0 {
		return i
	}
	s.policies = append(s.policies, p)
	return len(s.policies) - 1
}

// over lays what a domain says over the default.
func (p Policy) over(def Policy) Policy {
	p.Symbols = overlay(def.Symbols, p.Symbols)
	p.Actions = overlay(def.Actions, p.Actions)
	p.OnError = overlay(def.OnError, p.OnError)
	return p
}

func overlay[V any](below, above map[string]V) map[string]V {
	m := make(map[string]V, len(below)+len(above))
	maps.Copy(m, below)
	maps.Copy(m, above)
	return m
}

// compile copies the maps too, so that the caller may go on changing its own.
func compile(p Policy) policy {
	return policy{Policy: p.over(Policy{}), tag: toMilli(p.Tag), quarantine: toMilli(p.Quarantine), reject: toMilli(p.Reject)}
}

func (p policy) equal(q policy) bool {
	return p.tag == q.tag && p.quarantine == q.quarantine && p.reject == q.reject &&
		p.Greylist == q.Greylist && p.SubjectTag == q.SubjectTag &&
		maps.Equal(p.Symbols, q.Symbols) && maps.Equal(p.Actions, q.Actions) && maps.Equal(p.OnError, q.OnError)
}

// faults says everything that is wrong with p, each with prefix in front.
func (p Policy) faults(prefix string) []error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(prefix+format, args...)) }
	type threshold struct {
		name  string
		value float64
	}
	last := threshold{}
	for _, t := range []threshold{{"tag", p.Tag}, {"quarantine", p.Quarantine}, {"reject", p.Reject}} {
		if !validThreshold(t.value) {
			fault("%s is %v: a threshold is 0 (never) or between 0.001 and %d", t.name, t.value, int(maxPoints))
			continue
		}
		if t.value == 0 {
			continue
		}
		if t.value < last.value {
			fault("%s is %v, under %s, which is %v", t.name, t.value, last.name, last.value)
		}
		last = t
	}
	if !validThreshold(p.Greylist) {
		fault("greylist is %v: a threshold is 0 (never) or between 0.001 and %d", p.Greylist, int(maxPoints))
	}
	for _, symbol := range slices.Sorted(maps.Keys(p.Symbols)) {
		if w := p.Symbols[symbol]; symbol == "" || !(math.Abs(w) <= maxPoints) {
			fault("symbols: %q = %v: a weight lies between -%d and %[3]d", symbol, w, int(maxPoints))
		}
	}
	for _, symbol := range slices.Sorted(maps.Keys(p.Actions)) {
		if a := p.Actions[symbol]; !validAction(a) {
			fault("actions: %s = %s: want accept, strip, defer, quarantine or reject (a mark comes from the score)", symbol, a)
		}
	}
	for _, filter := range slices.Sorted(maps.Keys(p.OnError)) {
		if a := p.OnError[filter]; a != mail.Accept && a != mail.Defer {
			fault("on_error of %s is %s: want accept or defer", filter, a)
		}
	}
	return all
}

// validThreshold refuses NaN too, and what would be rounded to "never".
func validThreshold(t float64) bool { return t == 0 || t >= 0.001 && t <= maxPoints }

// validAction: Tag is none, since marks follow the score alone (Verdict.Spam).
func validAction(a mail.Action) bool { return a >= mail.Accept && a <= mail.Reject && a != mail.Tag }
