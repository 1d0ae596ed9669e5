package heuristics

import (
	"bytes"
	"context"
	"strings"
)

// target is an octet string that is looked for.
type target struct {
	symbol string
	octets string
	needle int // where needle stands in octets
}

// needle stands in both test strings and hardly anywhere else, so one search
// finds both.
const needle = "STANDARD-ANTI"

// testStrings are written in pieces, so that no scanner takes this source, or
// the program, for the thing itself.
func testStrings() []target {
	gtube := strings.Join([]string{"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE", needle, "UBE", "TEST", "EMAIL*C.34X"}, "-")
	eicar := strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR`, needle + "VIRUS", "TEST", "FILE!$H+H*"}, "-")
	return []target{
		{symbol: "GTUBE", octets: gtube, needle: strings.Index(gtube, needle)},
		{symbol: "EICAR", octets: eicar, needle: strings.Index(eicar, needle)},
	}
}

// overlap is kept of what was written, so that a string is found which two
// writes share.
const overlap = 67 // the longer target less one

// search is a writer that looks for the targets in what passes. A target that
// was found is not looked for again.
type search struct {
	ctx     context.Context
	targets []target
	seen    []bool   // in this pass
	found   []string // where; "" is not yet
	tail    []byte   // the last octets written
	joint   [2 * overlap]byte
}

func newSearch(ctx context.Context, targets []target) *search {
	return &search{ctx: ctx, targets: targets, seen: make([]bool, len(targets)), found: make([]string, len(targets)), tail: make([]byte, 0, overlap)}
}

// restart begins with other octets.
func (s *search) restart() { s.tail = s.tail[:0] }

// place says where what was seen since the last place was found.
func (s *search) place(where string) {
	for i, seen := range s.seen {
		if seen && s.found[i] == "" {
			s.found[i] = where
		}
	}
}

// Write implements io.Writer. It fails when nobody waits any more.
func (s *search) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if len(s.tail) > 0 {
		n := copy(s.joint[:], s.tail)
		n += copy(s.joint[n:], p[:min(len(p), overlap)])
		s.look(s.joint[:n])
	}
	s.look(p)
	s.keep(p)
	return len(p), nil
}

// keep remembers the last octets.
func (s *search) keep(p []byte) {
	if len(p) >= overlap {
		s.tail = append(s.tail[:0], p[len(p)-overlap:]...)
		return
	}
	if over := len(s.tail) + len(p) - overlap; over > 0 {
		s.tail = s.tail[:copy(s.tail, s.tail[over:])]
	}
	s.tail = append(s.tail, p...)
}

// look finds the targets that lie in b as a whole.
func (s *search) look(b []byte) {
	for at := 0; ; at += len(needle) {
		i := bytes.Index(b[at:], []byte(needle))
		if i < 0 {
			return
		}
		at += i
		for t := range s.targets {
			s.seen[t] = s.seen[t] || s.targets[t].stands(b, at)
		}
	}
}

// stands says whether the target stands in b with its needle at an offset.
func (t target) stands(b []byte, at int) bool {
	from := at - t.needle
	return from >= 0 && from+len(t.octets) <= len(b) && string(b[from:from+len(t.octets)]) == t.octets
}
