package compose

import (
	"bytes"
	"mime"
	"strings"
	"unicode/utf8"

	"postern/gateway/mail"
)

// maxTag is the length of a subject tag in characters. Encoded they are 876
// octets at most, so that a line holds them.
const maxTag = 60

// newTag is the tag for v's subject without the space behind it; "" is none.
func newTag(v mail.Verdict) string {
	if v.SubjectTag == "" || !v.Spam() {
		return ""
	}
	tag := strings.TrimSpace(clean(v.SubjectTag, utf8s, 4*maxTag))
	tag = strings.ReplaceAll(tag, "=?", "=") // would begin an encoded word
	if utf8.RuneCountInString(tag) > maxTag {
		tag = string([]rune(tag)[:maxTag])
	}
	return tag
}

// tagSubjects puts the tag in front of every Subject: of several, each reader
// shows another one. A message without a subject is given one.
func tagSubjects(head []byte, edits []edit, h mail.Header, tag string) ([]byte, []edit) {
	found := false
	for _, f := range h {
		if !strings.EqualFold(f.Name, "Subject") {
			continue
		}
		found = true
		if !strings.HasPrefix(strings.TrimSpace(f.Text()), tag) {
			edits = insertEdit(edits, tagField(f, tag))
		}
	}
	if !found {
		head = append(head, "Subject: "...)
		head = append(head, encodeTag(tag, false)...)
		head = append(head, "\r\n"...)
	}
	return head, edits
}

// insertEdit keeps the edits in the order of their spans.
func insertEdit(edits []edit, e edit) []edit {
	i := len(edits)
	for i > 0 && edits[i-1].span.Start > e.span.Start {
		i--
	}
	edits = append(edits, edit{})
	copy(edits[i+1:], edits[i:])
	edits[i] = e
	return edits
}

// tagField inserts the tag between the colon and the white space behind it. The
// field's own octets stay as they are, be they folded, encoded, or in some
// charset without a name, and that white space parts the tag from them.
func tagField(f mail.Field, tag string) edit {
	colon := bytes.IndexByte(f.Raw, ':')
	value := f.Raw[colon+1:]
	word := encodeTag(tag, bytes.HasPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte("=?")))
	data := make([]byte, 0, len(word)+4)
	data = append(data, ' ')
	data = append(data, word...)

	line, _, _ := bytes.Cut(f.Raw, []byte("\r\n"))
	text := bytes.TrimLeft(line[min(colon+1, len(line)):], " \t")
	if len(line)+len(data)+1 > maxLine && len(text) > 0 {
		data = append(data, "\r\n"...)
	}
	if len(value) > 0 && strings.IndexByte(" \t\r\n", value[0]) < 0 {
		data = append(data, ' ')
	}
	at := f.Span.Start + int64(colon) + 1
	return edit{span: mail.Span{Start: at, End: at}, data: data}
}

// encodeTag makes an encoded word of a tag that is not ASCII (RFC 2047).
// White space between two encoded words is not shown (RFC 2047, section 6.2):
// before another one the space has to stand in the word.
func encodeTag(tag string, beforeEncoded bool) string {
	if beforeEncoded && !isClean(tag) {
		tag += " "
	}
	// The encoder leaves ASCII as it is.
	return mime.QEncoding.Encode("utf-8", tag)
}
