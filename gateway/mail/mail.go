// Package mail holds the words that every other package speaks: the client,
// the envelope, the message and its parts, what filters found in it, the
// verdict, and the record that is kept of it. It also holds the tolerant reader
// that turns octets into a header and a tree of parts.
//
// The nouns are those of RFC 5321 (transport), RFC 5322 (header), RFC 2045
// (parts) and RFC 8601 (results). The package knows nothing else of ours, opens
// no connection and writes no file but what it is told to.
package mail

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Client is the peer of an SMTP session, as far as it is known.
type Client struct {
	Addr  netip.AddrPort
	HELO  string // the argument of EHLO or HELO as it was sent, already known to hold no control characters
	ESMTP bool   // it said EHLO
	TLS   string // version and cipher suite, for the log; "" in clear
}

// Protocol is the word of the "with" clause in Received (RFC 3848, RFC 6531).
func (c Client) Protocol(utf8 bool) string {
	switch {
	case utf8 && c.TLS != "":
		return "UTF8SMTPS"
	case utf8:
		return "UTF8SMTP"
	case c.TLS != "":
		return "ESMTPS"
	case c.ESMTP:
		return "ESMTP"
	}
	return "SMTP"
}

// Envelope is what MAIL and RCPT said (RFC 5321, section 2.3.1).
type Envelope struct {
	ReversePath Address   // the zero Address is the null reverse-path
	Recipients  []Address // accepted forward-paths, in the order of RCPT
	SMTPUTF8    bool      // the client declared SMTPUTF8 (RFC 6531)
	EightBit    bool      // BODY=8BITMIME (RFC 6152)
	Size        int64     // octets the client declared with SIZE (RFC 1870); 0 is unknown
}

// Message is one mail object (RFC 5321, section 2.3.1). Filters share it while
// they run at once, so none of them may change it.
type Message struct {
	ID       string // stands in every log line, in Received and in the reply
	Received time.Time
	Client   Client
	Envelope Envelope

	// Known from StageContent on; zero before.
	Content Content
	Header  Header // the message's own header section
	Parts   []Part // depth first; Parts[0] is the message itself
	Oddity  []Oddity
}

// Stage says how much of a message is known when a filter looks at it.
type Stage int

// The stages, in the order in which they run.
const (
	StageConnect  Stage = iota // the client's address
	StageEnvelope              // and HELO, MAIL, RCPT
	StageContent               // and the content with its parts
	StageDerived               // and the results of all stages before
)

// String names the stage as the documentation does.
func (s Stage) String() string {
	return [...]string{"connect", "envelope", "content", "derived"}[s]
}

// Reply is an SMTP reply (RFC 5321, section 4.2; RFC 3463). Its text is read by
// strangers: it must never say which rule refused a message.
type Reply struct {
	Code     int    // 250; 0 is no reply
	Enhanced string // "2.0.0"; "" where the code has none
	Text     string // one line of printable ASCII
}

// String is the reply on one line, as it stands in logs and records.
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	if r.Enhanced == "" {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// Positive says that the command was carried out (2yz).
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Transient says that the client may try again (4yz).
func (r Reply) Transient() bool { return r.Code/100 == 4 }

// Permanent says that the client must not try again (5yz).
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes the name of a message: 22 letters and digits whose order is the
// order of time (to the millisecond) and which cannot be guessed.
func NewID(now time.Time) string {
	var b [14]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never returns an error (crypto/rand)
	return idEncoding.EncodeToString(b[:])[:22]
}

// ValidID says whether s could be the name of a message, so that what a user
// typed never becomes a path. A name may end in ".2", ".3" and so on where one
// message is kept several times.
func ValidID(s string) bool {
	base, suffix, has := strings.Cut(s, ".")
	if len(base) == 0 || len(base) > 40 || (has && (len(suffix) == 0 || len(suffix) > 12)) {
		return false
	}
	for _, c := range base + suffix {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-') {
			return false
		}
	}
	return true
}
