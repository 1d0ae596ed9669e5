package mail

import (
	"bytes"
	"strings"
)

// Get is the unfolded, trimmed value of the first field of that name; "" where
// there is none. The name's case does not matter.
func (h Header) Get(name string) string {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return h[i].Value()
		}
	}
	return ""
}

// All is every field of that name, in order.
func (h Header) All(name string) []Field {
	var fields []Field
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			fields = append(fields, h[i])
		}
	}
	return fields
}

// Value is the field's body, unfolded and trimmed, not decoded.
func (f Field) Value() string {
	_, body, _ := bytes.Cut(f.Raw, []byte{':'})
	return unfold(string(body))
}

// Text is the field's body with encoded words decoded (RFC 2047) and control
// characters replaced: what a person would read.
func (f Field) Text() string { return printable(decodeWords(f.Value())) }

// unfold takes the line breaks out of a field's body and trims it (RFC 5322,
// section 2.2.3). The white space that follows a break stays.
func unfold(s string) string {
	s = strings.Trim(s, " \t\r\n")
	if strings.IndexByte(s, '\n') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString(strings.TrimSuffix(line, "\r"))
	}
	return b.String()
}
