package scoring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

// random is a judgement to be made, drawn from small sets so that symbols,
// recipients and policies meet often.
type random struct {
	*rand.Rand
	scoring    *Scoring
	results    []mail.Result
	recipients []mail.Address
}

var someSymbols = []string{"", "GTUBE", "EICAR", "CLAMAV_VIRUS", "CLAMAV_LIMIT", "ATTACHMENT_BLOCKED", "A", "B", "C", "D"}

func draw(t testing.TB, seed uint64) random {
	r := random{Rand: rand.New(rand.NewPCG(seed, 1))}
	domains := map[string]Policy{}
	for i := range r.IntN(4) {
		domains[fmt.Sprintf("d%d.example", i)] = r.policy()
	}
	r.scoring = mustNew(t, r.policy(), domains)
	for i := range 1 + r.IntN(8) {
		r.recipients = append(r.recipients, mail.Address{Local: fmt.Sprint("u", i), Domain: fmt.Sprintf("d%d.example", r.IntN(5))})
	}
	for range r.IntN(12) {
		r.results = append(r.results, r.result())
	}
	return r
}

func (r random) policy() Policy {
	p := Policy{Tag: float64(r.IntN(6)), Symbols: map[string]float64{"A": float64(r.IntN(100))/10 - 3}}
	if r.IntN(3) > 0 {
		p.Quarantine = p.Tag + float64(r.IntN(5))
	}
	if r.IntN(3) > 0 {
		p.Reject = max(p.Tag, p.Quarantine) + float64(r.IntN(5))
	}
	actions := []mail.Action{mail.Accept, mail.Strip, mail.Defer, mail.Quarantine, mail.Reject}
	p.Actions = map[string]mail.Action{someSymbols[1+r.IntN(len(someSymbols)-1)]: actions[r.IntN(len(actions))]}
	if r.IntN(2) > 0 {
		p.OnError = map[string]mail.Action{"f0": mail.Defer}
	}
	return p
}

func (r random) result() mail.Result {
	f := mail.Result{
		Filter: fmt.Sprint("f", r.IntN(3)), Symbol: someSymbols[r.IntN(len(someSymbols))],
		Points: float64(r.IntN(100))/10 - 4, HasPoints: r.IntN(2) > 0, Fault: mail.Fault(max(0, r.IntN(8)-5)),
	}
	if r.IntN(3) == 0 {
		f.Attachment = &mail.Attachment{Part: r.IntN(3)}
	}
	if r.IntN(3) == 0 {
		f.Recipients = []mail.Address{r.recipients[r.IntN(len(r.recipients))]}
	}
	return f
}

// verdictOf is what one recipient gets, without those who share it.
func verdictOf(verdicts []mail.Verdict, a mail.Address) (found []mail.Verdict) {
	for _, v := range verdicts {
		for _, b := range v.Recipients {
			if a == b {
				v := v
				v.Recipients = nil
				found = append(found, v)
			}
		}
	}
	return found
}

const draws = 800

// Each recipient stands in exactly one verdict, in the order of first
// recipients, and gets what it would get alone.
func TestEachRecipientOnce(t *testing.T) {
	for seed := range uint64(draws) {
		r := draw(t, seed)
		verdicts := r.scoring.Judge(r.results, r.recipients)
		last := -1
		for _, v := range verdicts {
			first := slices.Index(r.recipients, v.Recipients[0])
			if first <= last {
				t.Fatalf("seed %d: verdicts out of order", seed)
			}
			last = first
		}
		for _, a := range r.recipients {
			got := verdictOf(verdicts, a)
			if len(got) != 1 {
				t.Fatalf("seed %d: %s stands in %d verdicts", seed, a, len(got))
			}
			alone := r.scoring.Judge(r.results, []mail.Address{a})
			if d := cmp.Diff(verdictOf(alone, a), got); d != "" {
				t.Fatalf("seed %d: %s alone gets something else:\n%s", seed, a, d)
			}
		}
	}
}

// Who stands where in RCPT does not change what anybody gets.
func TestPermutation(t *testing.T) {
	for seed := range uint64(draws) {
		r := draw(t, seed)
		before := r.scoring.Judge(r.results, r.recipients)
		mixed := slices.Clone(r.recipients)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		after := r.scoring.Judge(r.results, mixed)
		if len(before) != len(after) {
			t.Fatalf("seed %d: %d verdicts, then %d", seed, len(before), len(after))
		}
		for _, a := range mixed {
			if d := cmp.Diff(verdictOf(before, a), verdictOf(after, a)); d != "" {
				t.Fatalf("seed %d: %s gets something else:\n%s", seed, a, d)
			}
		}
	}
}

// One more bad fact never makes an action milder or a score smaller.
func TestMonotone(t *testing.T) {
	for seed := range uint64(draws) {
		r := draw(t, seed)
		more := slices.Clone(r.results)
		worse := fact("WORSE", float64(r.IntN(60))/10)
		if r.IntN(4) == 0 {
			worse = mail.Result{Filter: "f", Symbol: "F_LIMIT", Fault: mail.FaultMessage}
		}
		more = slices.Insert(more, r.IntN(len(more)+1), worse)
		before, after := r.scoring.Judge(r.results, r.recipients), r.scoring.Judge(more, r.recipients)
		for _, a := range r.recipients {
			b, c := verdictOf(before, a)[0], verdictOf(after, a)[0]
			if c.Action < b.Action || c.Score < b.Score {
				t.Fatalf("seed %d: %s had %v at %v, then %v at %v", seed, a, b.Action, b.Score, c.Action, c.Score)
			}
		}
	}
}

// The sum of the hits is the score, and what decides is true of the verdict.
func TestConsistent(t *testing.T) {
	for seed := range uint64(draws) {
		r := draw(t, seed)
		for _, v := range r.scoring.Judge(r.results, r.recipients) {
			checkConsistent(t, v)
		}
	}
}

func checkConsistent(t *testing.T, v mail.Verdict) {
	t.Helper()
	var sum milli
	for _, h := range v.Hits {
		sum += toMilli(h.Score)
	}
	if len(v.Hits) < maxHits && sum.points() != v.Score {
		t.Errorf("hits sum to %v, score is %v", sum.points(), v.Score)
	}
	kept := v.Action == mail.Strip || v.Action >= mail.Quarantine
	switch {
	case kept != (v.Class != ""):
		t.Errorf("%v has class %q", v.Action, v.Class)
	case (v.Action == mail.Accept) != (v.Reason == ""):
		t.Errorf("%v has reason %q", v.Action, v.Reason)
	case (v.Action == mail.Strip) != (len(v.Strip) > 0):
		t.Errorf("%v strips %v", v.Action, v.Strip)
	case v.Spam() && v.Action < mail.Tag, v.Action == mail.Tag && !v.Spam():
		t.Errorf("%v at %v of %v", v.Action, v.Score, v.Required)
	}
}

// FuzzJudge draws from the fuzzer's numbers; whatever an engine proposes, the
// verdict stays consistent.
func FuzzJudge(f *testing.F) {
	f.Add(uint64(1), "GTUBE", 5.0, true)
	f.Add(uint64(2), "", -1e300, true)
	f.Add(uint64(3), "CLAMAV_VIRUS", 0.05, false)
	f.Fuzz(func(t *testing.T, seed uint64, symbol string, points float64, has bool) {
		r := draw(t, seed)
		r.results = append(r.results, mail.Result{Filter: "f", Symbol: symbol, Points: points, HasPoints: has})
		for _, v := range r.scoring.Judge(r.results, r.recipients) {
			checkConsistent(t, v)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	s := mustNew(b, usual, nil)
	results, recipients := tenths(20), []mail.Address{{Local: "a", Domain: "example.com"}}
	b.ReportAllocs()
	for b.Loop() {
		s.Judge(results, recipients)
	}
}
