package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"postern/gateway/mail/mime"
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

// maxText bounds the text of one field in octets.
const maxText = 64 << 10

// Text is the field's body with encoded words decoded (RFC 2047) and control
// characters replaced: what a person would read. It is valid UTF-8 of at most
// 64 KiB; what lies beyond is cut off.
func (f Field) Text() string {
	s := cutText(f.Value()) // or the limit would be that of decoding too
	return cutText(printable(mime.DecodeWords(mime.DecodeText("", []byte(s)))))
}

// printable replaces control characters: those that are white space by a space,
// the others, C1 included, by U+FFFD.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return utf8.RuneError
		}
		return r
	}, s)
}

// cutText cuts s to maxText, between two characters where it is UTF-8.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	for end := maxText; end > maxText-utf8.UTFMax; end-- {
		if utf8.RuneStart(s[end]) {
			return s[:end]
		}
	}
	return s[:maxText]
}

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
		b.WriteString(strings.TrimRight(line, "\r"))
	}
	return b.String()
}

// section reads the fields of one header section.
type section struct {
	raw   []byte // without the empty line that ends it
	text  string // the same octets, so that names need no allocation each
	base  int64  // where raw begins in the content
	limit int    // fields
	note  noter
}

// fields finds the fields. Lines that are none are noted and passed over, so
// that what a laxer reader sees behind them is seen here too.
func (s *section) fields() Header {
	s.text = string(s.raw)
	h := make(Header, 0, min(bytes.Count(s.raw, []byte{'\n'})+1, 64, s.limit))
	for at := 0; at < len(s.raw); {
		end := lineEnd(s.raw, at)
		switch line := s.raw[at:end]; {
		case line[0] == ' ' || line[0] == '\t':
			s.fold(h, at, end)
		case len(h) == s.limit:
			s.note.add(HeaderLimit, "fields")
			return h
		default:
			if f, ok := s.field(at, end); ok {
				h = append(h, f)
			}
		}
		at = end
	}
	if len(h) > 0 {
		s.octets()
	}
	return h
}

// fold adds a continuation line to the field before.
func (s *section) fold(h Header, at, end int) {
	if len(bytes.TrimSpace(s.raw[at:end])) == 0 {
		s.note.add(HeaderBlankFold, "")
	}
	last := len(h) - 1
	if at == 0 {
		s.note.add(HeaderFoldFirst, s.text[at:end])
	}
	if last < 0 || h[last].Span.End != s.base+int64(at) {
		return // it continues a line that was no field
	}
	h[last].Span.End = s.base + int64(end)
	h[last].Raw = s.raw[h[last].Span.Start-s.base : end : end]
}

// field reads the first line of a field.
func (s *section) field(at, end int) (Field, bool) {
	line := s.text[at:end]
	colon := strings.IndexByte(line, ':')
	switch {
	case at == 0 && isMbox(line):
		s.note.add(HeaderMbox, "")
		return Field{}, false
	case colon < 0:
		s.note.add(HeaderNoColon, line)
		return Field{}, false
	}
	name := strings.TrimRight(line[:colon], " \t")
	switch {
	case name == "":
		s.note.add(HeaderNameEmpty, line)
		return Field{}, false
	case !isFieldName(name):
		s.note.add(HeaderNameMalformed, name)
	case len(name) < colon:
		// QUIRK: RFC 5322, section 4.5 forbids it in new mail, all readers take it.
		s.note.add(HeaderSpaceColon, name)
	}
	span := Span{Start: s.base + int64(at), End: s.base + int64(end)}
	return Field{Name: name, Span: span, Raw: s.raw[at:end:end]}, true
}

// headerFaults are the octets that no header should hold.
var headerFaults = [...]struct {
	octets mime.Octets
	symbol string
}{{mime.NUL, HeaderNUL}, {mime.EightBit, Header8Bit}, {mime.Control, HeaderControl}}

// octets notes the octets that no header should hold.
func (s *section) octets() {
	seen := mime.Scan(s.raw)
	for _, f := range headerFaults {
		if seen&f.octets != 0 {
			line := strings.LastIndexByte(s.text[:f.octets.Index(s.raw)], '\n') + 1
			s.note.add(f.symbol, s.text[line:])
		}
	}
}

// isMbox knows the line that the mbox format puts before a message.
func isMbox(line string) bool {
	return strings.HasPrefix(line, "From ") || strings.HasPrefix(line, ">From ")
}

// isFieldName is RFC 5322, section 3.6.8: printable ASCII but the colon.
func isFieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

func lineEnd(b []byte, at int) int {
	if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(b)
}
