package compose

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Widths in octets, without the line break (RFC 5322, section 2.1.1).
const (
	foldAt  = 78  // should not be passed
	maxLine = 998 // must not be passed
	maxWord = 900 // of one unbreakable run of ours, so that maxLine holds
)

// charset says which characters a field may hold.
type charset bool

const (
	ascii charset = false // others become "?"
	utf8s charset = true  // RFC 6532, only in mail that is sent with SMTPUTF8
)

// clean makes s fit for a header field or a line of text: white space and line
// breaks become one space each, characters that can't be seen are left out (they
// serve to disguise names: RIGHT-TO-LEFT OVERRIDE), and after limit octets it is cut.
func clean(s string, cs charset, limit int) string {
	if isClean(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if r == utf8.RuneError && s[i] != 0xEF { // an octet that is not UTF-8
			r = '?'
		}
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case !unicode.IsPrint(r):
			continue
		case r >= utf8.RuneSelf && cs == ascii:
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isClean says that s is printable ASCII, which nearly everything is.
func isClean(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// appendAtom appends a host's name or another word that is nothing but a word:
// whatever could open a comment, a quoted string or a new line becomes "?".
func appendAtom(b []byte, s string, limit int) []byte {
	for i := 0; i < min(len(s), limit); i++ {
		c := s[i]
		if !isAlnum(c) && strings.IndexByte("._:-[]", c) < 0 {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// appendField appends "name: value", folded at spaces. All that comes from
// outside passes clean here, so that no value can begin another field.
func appendField(b []byte, name, value string, cs charset) []byte {
	b = append(b, name...)
	b = append(b, ':')
	b = appendWords(b, words{lead: " ", column: len(name) + 1, charset: cs}, value)
	return append(b, "\r\n"...)
}

// appendLine appends "name: value" with the spaces of value as they are: those
// of a quoted local part belong to the address.
func appendLine(b []byte, name, value string, cs charset) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, clean(value, cs, maxWord)...)
	return append(b, "\r\n"...)
}

// words says how words are written.
type words struct {
	lead    string // before the first word
	column  int    // where the line stands
	charset charset
}

// appendWords appends the words of value with a space between them, or a fold
// where the line would pass foldAt. Nothing at all is written when there is no
// word, so that a line of white space, which some readers take for the end of the
// header, never comes out.
func appendWords(b []byte, w words, value string) []byte {
	sep, column := w.lead, w.column+1
	for word := range strings.FieldsSeq(value) {
		word = clean(word, w.charset, maxWord)
		if word == "" {
			continue
		}
		// The first word never goes to a line of its own: some readers would
		// take the field for empty.
		if sep == " " && column > w.column+1 && column+1+len(word) > foldAt {
			sep, column = "\r\n\t", 0
		}
		b = append(b, sep...)
		b = append(b, word...)
		sep, column = " ", column+1+len(word)
	}
	return b
}
