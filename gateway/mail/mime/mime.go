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

// ParseMediaType is what a Content-Type's Word names (RFC 2045, section 5.1), in
// lower case; "" is a word that says nothing, so that the default holds (section
// 5.2). It is not ok where the word breaks the grammar. QUIRK: a bare top-level
// type is read as clients do.
func ParseMediaType(word string) (media string, ok bool) {
	s := strings.ToLower(word)
	top, sub, _ := strings.Cut(s, "/")
	if isVisible(top) && isVisible(sub) && !strings.ContainsAny(s, `"<>@[]=?`) && !strings.Contains(sub, "/") {
		return s, true
	}
	if top == "multipart" {
		// Better to find no part in it than to overlook one.
		return "multipart/mixed", false
	}
	if sub != "" {
		return "", false
	}
	switch top {
	case "text", "plain":
		return "text/plain", false
	case "html":
		return "text/html", false
	case "application", "image", "audio", "video", "font", "model":
		return "application/octet-stream", false
	}
	return "", false
}

// isVisible says that s is printable ASCII without a space.
func isVisible(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

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
