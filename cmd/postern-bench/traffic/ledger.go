package traffic

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// tokenField is the header field that tells one copy of a message from another.
// Its name does not begin with X-Postern-: Postern removes such fields.
const tokenField = "X-Bench-Token: "

// token is what is written above message index of a round.
func token(round, index int) []byte {
	return fmt.Appendf(nil, "%s%d.%d\r\n", tokenField, round, index)
}

// findToken reads the token of a message from the beginning of its content.
func findToken(head []byte) (round, index int, ok bool) {
	at := 0
	if !bytes.HasPrefix(head, []byte(tokenField)) {
		if at = bytes.Index(head, []byte("\n"+tokenField)) + 1; at == 0 {
			return 0, 0, false
		}
	}
	value, _, ended := bytes.Cut(head[at+len(tokenField):], []byte("\r\n"))
	r, i, dot := bytes.Cut(value, []byte("."))
	if !ended || !dot {
		return 0, 0, false
	}
	round, err := strconv.Atoi(string(r))
	if err != nil {
		return 0, 0, false
	}
	index, err = strconv.Atoi(string(i))
	return round, index, err == nil
}

// entry is what is known of one message of a round.
type entry struct {
	sent    time.Duration // when its session began
	replied time.Duration // when the final reply came
	taken   bool          // with 250
	reply   string        // otherwise: what the server, or the network, said
	arrived atomic.Int64  // when its first copy was whole at the sink, in ns; 0 is not yet
	copies  atomic.Int32
}

// Ledger holds a round's messages. Each entry has one writer on the sending
// side; the sink writes only what is atomic.
type Ledger struct {
	round   int
	began   time.Time
	entries []entry
	came    atomic.Int64 // messages of which a copy arrived
}

// NewLedger is for n messages; no two of a run have the same round.
func NewLedger(round, n int) *Ledger {
	return &Ledger{round: round, began: time.Now(), entries: make([]entry, n)}
}

// now is the time since the round began.
func (l *Ledger) now() time.Duration { return time.Since(l.began) }

// arrive notes a copy at the sink.
func (l *Ledger) arrive(index int) {
	if index < 0 || index >= len(l.entries) {
		return
	}
	e := &l.entries[index]
	if e.copies.Add(1) == 1 {
		e.arrived.Store(int64(l.now()))
		l.came.Add(1)
	}
}

// Wait returns when everything that was taken has arrived, or when nothing has
// come for as long as patience.
func (l *Ledger) Wait(patience time.Duration) {
	taken := 0
	for i := range l.entries {
		if l.entries[i].taken {
			taken++
		}
	}
	last, since := l.came.Load(), time.Now()
	for l.came.Load() < int64(taken) && time.Since(since) < patience {
		time.Sleep(2 * time.Millisecond)
		if came := l.came.Load(); came != last {
			last, since = came, time.Now()
		}
	}
}

// Outcome sums a round up.
type Outcome struct {
	Taken    int             `json:"taken"`   // answered with 250
	Refused  int             `json:"refused"` // answered otherwise, or not at all
	Lost     int             `json:"lost"`    // taken, and did not arrive
	Doubled  int             `json:"doubled"` // arrived more than once
	Elapsed  time.Duration   `json:"-"`       // from the first connect to the last reply or arrival
	Session  []time.Duration `json:"-"`       // from connect (or MAIL) to the final reply
	EndToEnd []time.Duration `json:"-"`       // from connect (or MAIL) until whole at the sink
}

// Outcome counts what became of everything so far.
func (l *Ledger) Outcome() (o Outcome) {
	for i := range l.entries {
		e := &l.entries[i]
		arrived := time.Duration(e.arrived.Load())
		o.Elapsed = max(o.Elapsed, e.replied, arrived)
		if e.copies.Load() > 1 {
			o.Doubled++
		}
		switch {
		case !e.taken:
			o.Refused++
			continue
		case arrived == 0:
			o.Lost++
		default:
			o.EndToEnd = append(o.EndToEnd, arrived-e.sent)
		}
		o.Taken++
		o.Session = append(o.Session, e.replied-e.sent)
	}
	return o
}

// Arrived says whether message index has come to the sink.
func (l *Ledger) Arrived(index int) bool { return l.entries[index].copies.Load() > 0 }

// Count is how many messages have come to the sink.
func (l *Ledger) Count() int { return int(l.came.Load()) }

// Refusal is what was said to the first message that was refused, or "".
func (l *Ledger) Refusal() string {
	for i := range l.entries {
		if e := &l.entries[i]; !e.taken {
			return e.reply
		}
	}
	return ""
}
