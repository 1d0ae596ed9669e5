package scoring

import (
	"slices"
	"strings"

	"postern/gateway/mail"
)

// Bounds of what a verdict repeats from the results.
const (
	maxHits     = 200
	maxEvidence = 256 // octets of one hit, where a symbol has several evidences
)

// judgement is a verdict in the making.
type judgement struct {
	policy  *policy
	verdict mail.Verdict
	score   milli
	hits    map[string]int // symbol: index in verdict.Hits, or -1 past maxHits
	class   mail.Class     // of the strongest action so far
	strip   []mail.Attachment
}

// judge weighs the results that hold for a group of recipients.
func (p policy) judge(results []mail.Result) mail.Verdict {
	j := judgement{policy: &p, hits: make(map[string]int, len(results))}
	for _, r := range results {
		switch symbol := symbolOf(r); {
		case r.Fault == mail.FaultEngine:
			j.silent(r.Filter)
		case symbol != "":
			j.weigh(symbol, r)
			j.act(symbol, r)
		}
	}
	j.actOnScore()
	return j.finish()
}

// silent notes an engine that could not answer.
func (j *judgement) silent(filter string) {
	if !slices.Contains(j.verdict.Unscanned, filter) {
		j.verdict.Unscanned = append(j.verdict.Unscanned, filter)
	}
	j.decide(j.policy.OnError[filter], "", filter+" did not answer")
}

// weigh adds a fact to the score. The same fact counts once, whoever else found
// it: GTUBE is not twice as bad because two engines know it.
func (j *judgement) weigh(symbol string, r mail.Result) {
	if i, known := j.hits[symbol]; known {
		if i >= 0 {
			addEvidence(&j.verdict.Hits[i], r)
		}
		return
	}
	weight := j.policy.weight(symbol, r)
	j.score += weight
	j.hits[symbol] = -1
	if len(j.verdict.Hits) < maxHits {
		j.hits[symbol] = len(j.verdict.Hits)
		j.verdict.Hits = append(j.verdict.Hits, mail.Hit{
			Symbol: symbol, Score: weight.points(), Description: r.Description, Evidence: r.Evidence, Filter: r.Filter,
		})
	}
}

// weight is the policy's own, else the built-in, else what the result proposes:
// an engine's idea of GTUBE must not replace the table's.
func (p *policy) weight(symbol string, r mail.Result) milli {
	if w, ok := p.Symbols[symbol]; ok {
		return toMilli(w)
	}
	if w, ok := builtin[symbol]; ok {
		return toMilli(w.Score)
	}
	if r.HasPoints {
		return toMilli(r.Points)
	}
	return 0
}

// act does what a fact demands by itself.
func (j *judgement) act(symbol string, r mail.Result) {
	action, class := j.policy.action(symbol, r)
	if action == mail.Strip {
		if r.Attachment == nil {
			action = mail.Quarantine // what can't be taken out must not pass
		} else {
			j.addStrip(*r.Attachment)
		}
	}
	j.decide(action, class, symbol)
}

// action is the policy's own, else the built-in. A message that a filter could
// not read to its end is held (FaultMessage).
func (p *policy) action(symbol string, r mail.Result) (mail.Action, mail.Class) {
	w, known := builtin[symbol]
	if !known && r.Fault == mail.FaultMessage {
		w.Action = mail.Quarantine
	}
	if a, ok := p.Actions[symbol]; ok {
		w.Action = a
	}
	switch {
	case w.Class != "":
	case r.Attachment != nil:
		w.Class = mail.ClassAttachment
	default:
		w.Class = mail.ClassPolicy
	}
	return w.Action, w.Class
}

func (j *judgement) addStrip(a mail.Attachment) {
	same := func(b mail.Attachment) bool { return a.Part == b.Part && a.Path == b.Path }
	if !slices.ContainsFunc(j.strip, same) {
		j.strip = append(j.strip, a)
	}
}

// actOnScore does what the sum demands.
func (j *judgement) actOnScore() {
	p := j.policy
	for _, t := range []struct {
		threshold milli
		action    mail.Action
	}{{p.reject, mail.Reject}, {p.quarantine, mail.Quarantine}, {p.tag, mail.Tag}} {
		if t.threshold > 0 && j.score >= t.threshold {
			j.decide(t.action, mail.ClassSpam, "score "+j.score.String()+" >= "+t.threshold.String())
			return
		}
	}
}

// decide takes the strongest action; of two equal ones the class that needs more
// care, then the first.
func (j *judgement) decide(a mail.Action, class mail.Class, reason string) {
	v := &j.verdict
	if a == mail.Accept || a < v.Action || a == v.Action && classRank(class) <= classRank(j.class) {
		return
	}
	v.Action, j.class, v.Reason = a, class, reason
}

func (j *judgement) finish() mail.Verdict {
	v := j.verdict
	v.Score, v.Required, v.SubjectTag = j.score.points(), j.policy.tag.points(), j.policy.SubjectTag
	switch v.Action {
	case mail.Strip:
		v.Strip = j.strip
		v.Class = j.class
	case mail.Quarantine, mail.Reject:
		v.Class = j.class
	}
	return v
}

// addEvidence joins what was seen of the same fact elsewhere in the message.
func addEvidence(h *mail.Hit, r mail.Result) {
	switch {
	case r.Filter != h.Filter || r.Evidence == "" || strings.Contains(h.Evidence, r.Evidence):
	case h.Evidence == "":
		h.Evidence = r.Evidence
	case len(h.Evidence)+2+len(r.Evidence) <= maxEvidence:
		h.Evidence += ", " + r.Evidence
	}
}
