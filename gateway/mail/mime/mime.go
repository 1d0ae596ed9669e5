// Package mime holds the encodings of RFC 2045, 2047 and 2231, decoded as the
// laxest client would: transfer encodings, encoded words, charsets, and the
// parameters of MIME fields. What a client shows or saves has to be seen here
// too, so nothing in it fails: what does not belong is passed over as clients
// pass over it, and where two of them would differ, that is reported.
//
// The tree of parts, header sections and limits on them are package mail's, and
// so is what a finding is called. The package knows nothing of ours.
package mime

import "strings"

// The transfer encodings that are undone (RFC 2045, section 6). The last has no
// standard, but clients read it.
const (
	Base64          = "base64"
	QuotedPrintable = "quoted-printable"
	UUEncode        = "x-uuencode"
)

// Fault is something in a field that two readers would take differently.
type Fault struct {
	Kind     FaultKind
	Evidence string // what was seen; not bounded, and as it stands
}

// FaultKind says what is wrong with a field.
type FaultKind int

// The kinds of faults.
const (
	ParameterLimit     FaultKind = iota // more parameters than are looked at
	ParameterMalformed                  // the grammar of RFC 2045, section 5.1 is broken
	ParameterTwice                      // a parameter stands several times
	ParameterWord                       // an encoded word, forbidden in parameters (RFC 2047, section 5)
	EncodingMalformed                   // more than one word
	EncodingUnknown                     // no encoding that is known

	// FaultKinds is how many there are.
	FaultKinds = iota
)

// ParseEncoding reads an unfolded Content-Transfer-Encoding (RFC 2045, section
// 6.1): a known encoding has one name, whatever it was called, others keep
// theirs in lower case.
func ParseEncoding(value string) (encoding string, faults []Fault) {
	t := tokens{s: strings.ToLower(value)}
	word := strings.Trim(t.first(), `"`)
	if t.rest() != "" || t.odd {
		faults = append(faults, Fault{EncodingMalformed, value})
	}
	switch word {
	case "7bit", "8bit", "binary", Base64, QuotedPrintable:
	case UUEncode, "uuencode", "x-uue", "uue":
		word = UUEncode
	case "7-bit", "8-bit":
		word = strings.Replace(word, "-", "", 1) // QUIRK: harmless, and honest mailers write it
	default:
		faults = append(faults, Fault{EncodingUnknown, value})
	}
	return word, faults
}
