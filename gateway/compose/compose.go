// Package compose writes every octet that Postern puts into mail: the trace
// fields and marks on top of what is handed on (RFC 5321, section 4.4; RFC 8601),
// the tag in the subject, the text in the place of a stripped part, status
// reports to senders (RFC 3464, RFC 6522, RFC 6533) and notices to the
// administrators.
//
// Received mail is never taken apart and put together again. Outgoing is a list
// of cuts and insertions, and everything else is a span of the original, so
// that signatures stay whole where nothing had to change. A message that is
// released from the quarantine needs nothing from here: it is the original,
// octet for octet.
//
// What hostile mail brings (a HELO name, a file's name, the inside server's
// reply) reaches a header field only through the functions of text.go, which let
// no line break and no control character pass.
//
// Which message is tagged or stripped, and who gets a report, is decided
// elsewhere; the reader of headers and parts is package mail.
package compose

import (
	"sort"

	"golang.org/x/net/idna"

	"postern/gateway/mail"
)

// Composer writes mail in the name of a host. The zero value writes as
// "localhost". It has no state of its own and may be used by several goroutines
// at once.
type Composer struct {
	Hostname string // by name in Received, authserv-id, domain of our own addresses
}

// host is the name that we write. It is never empty, which would give fields
// that can't be parsed, and never needs SMTPUTF8.
func (c *Composer) host() string {
	switch {
	case c.Hostname == "":
		return "localhost"
	case isClean(c.Hostname):
		return c.Hostname
	}
	name, err := idna.Lookup.ToASCII(c.Hostname)
	if err != nil {
		return clean(c.Hostname, ascii, 255)
	}
	return name
}

// Outgoing is the content of m for the recipients of v: what we know of it on
// top, fields that only we may write left out, the subject tagged and parts
// stripped where v says so, and every other octet as it was received. Authentication
// results stand in auth as they do behind "authserv-id;" (RFC 8601, section 2.2);
// "" is none.
//
// It refers to m.Content, which has to stay readable as long as the result.
func (c *Composer) Outgoing(m *mail.Message, v mail.Verdict, auth string) mail.Content {
	var room [8]edit
	h := header(m)
	edits := c.cutForged(room[:0], h)
	head := make([]byte, 0, 1024)
	head = c.appendTrace(head, m, auth)
	head = appendMarks(head, v)
	if tag := newTag(v); tag != "" {
		head, edits = tagSubjects(head, edits, h, tag)
	}
	if len(v.Strip) > 0 {
		head, edits = strip(head, edits, stripping{m, h, v.Strip})
		// The cuts of several rules are mixed now.
		sort.SliceStable(edits, func(i, j int) bool { return edits[i].span.Start < edits[j].span.Start })
	}
	return assemble(guard(head, m, edits), m.Content, edits)
}

// guard keeps the sender from writing into our last field: a content whose first
// line begins with white space would continue it (RFC 5322, section 2.2.3). Such
// a line gets a field of its own to continue.
func guard(head []byte, m *mail.Message, edits []edit) []byte {
	first := int64(0)
	for _, e := range edits {
		if e.span.Start != first || len(e.data) > 0 {
			break
		}
		first = e.span.End
	}
	if m.Content == nil {
		return head
	}
	var b [1]byte
	if n, _ := m.Content.ReadAt(b[:], first); n == 1 && (b[0] == ' ' || b[0] == '\t') {
		head = append(head, "X-Postern-Oddity: the message began with\r\n"...)
	}
	return head
}
