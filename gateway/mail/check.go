package mail

import (
	"bytes"
	"slices"
)

// check looks at the lines of a body while the reader scans them for
// boundaries, so that what it looks for costs no pass of its own. Line is given
// each piece of a line, without line break; ends says that the line ends with
// it. Each gives back evidence of a fault; nil is none, and a body has one.
type check interface {
	Line(text []byte, ends bool) (fault []byte)
	End() (fault []byte)
}

// watch is a check, and where its fault is to be noted under what symbol.
type watch struct {
	check  check // nil is none
	symbol string
	note   noter
}

// outside finds text where only a reader without MIME would show it: before the
// first boundary or behind the last (RFC 2046, section 5.1.1).
type outside struct {
	customary []string // a line that holds one of these may stand there
	found     bool
}

// Line implements check.
func (o *outside) Line(text []byte, _ bool) (fault []byte) {
	if o.found || len(bytes.TrimSpace(text)) == 0 || o.isCustomary(text) {
		return nil
	}
	o.found = true
	return text
}

// End implements check.
func (o *outside) End() (fault []byte) { return nil }

func (o *outside) isCustomary(text []byte) bool {
	return slices.ContainsFunc(o.customary, func(s string) bool { return bytes.Contains(text, []byte(s)) })
}

// customaryPreamble knows the sentence that mailers put before the first
// boundary for readers without MIME.
var customaryPreamble = []string{"MIME", "multi-part", "multipart"}
