package main

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
	at := bytes.Index(head, []byte("\n"+tokenField)) + 1
	if at == 0 && !bytes.HasPrefix(head, []byte(tokenField)) {
		return 0, 0, false
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

// ledger holds a round's messages. Each entry has one writer on the sending
// side; the sink writes only what is atomic.
type ledger struct {
	round   int
	began   time.Time
	entries []entry
	came    atomic.Int64 // messages of which a copy arrived
}

func newLedger(round, n int) *ledger {
	return &ledger{round: round, began: time.Now(), entries: make([]entry, n)}
}

// now is the time since the round began.
func (l *ledger) now() time.Duration { return time.Since(l.began) }

// arrive notes a copy at the sink.
func (l *ledger) arrive(index int) {
	if index < 0 || index >= len(l.entries) {
		return
	}
	e := &l.entries[index]
	if e.copies.Add(1) == 1 {
		e.arrived.Store(int64(l.now()))
		l.came.Add(1)
	}
}

// wait returns when everything that was taken has arrived, or when nothing has
// come for as long as patience.
func (l *ledger) wait(patience time.Duration) {
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

// outcome sums a round up.
type outcome struct {
	Taken    int           `json:"taken"`    // answered with 250
	Refused  int           `json:"refused"`  // answered otherwise, or not at all
	Lost     int           `json:"lost"`     // taken, and did not arrive
	Doubled  int           `json:"doubled"`  // arrived more than once
	Elapsed  time.Duration `json:"-"`        // from the first connect to the last reply or arrival
	Session  spread        `json:"session"`  // from connect (or MAIL) to the final reply
	EndToEnd spread        `json:"endToEnd"` // from connect (or MAIL) until whole at the sink
}

// close counts what became of everything.
func (l *ledger) close() (o outcome) {
	var session, endToEnd []time.Duration
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
			endToEnd = append(endToEnd, arrived-e.sent)
		}
		o.Taken++
		session = append(session, e.replied-e.sent)
	}
	o.Session, o.EndToEnd = newSpread(session), newSpread(endToEnd)
	return o
}
