package compose

import (
	"mime/quotedprintable"
	"slices"
	"strings"

	"postern/gateway/mail"
)

// maxNamed is how many attachments the text in the place of one part names.
const maxNamed = 50

// stripping is a message and the attachments that are to go.
type stripping struct {
	message     *mail.Message
	header      mail.Header // all of the message's own
	attachments []mail.Attachment
}

// strip replaces each part that holds one of the attachments by a text that says
// so. Where it is the message itself, its fields about content go, and their
// successors stand in head.
func strip(head []byte, edits []edit, s stripping) ([]byte, []edit) {
	m := s.message
	for _, r := range removals(m.Parts, s.attachments) {
		text := stripText(r.attachments, m.ID)
		if r.part == 0 {
			return stripMessage(head, edits, s, text)
		}
		span := m.Parts[r.part].Span
		data := append([]byte(noticeFields+"\r\n"), text...)
		// The line break behind the part belongs to the boundary. Where there is
		// none (an empty part, a message that was cut off) the text brings its own.
		if !breakAt(m.Content, span.End) {
			data = append(data, "\r\n"...)
		}
		edits = append(edits, edit{span: span, data: data})
	}
	return head, edits
}

// noticeFields describe the text in the place of a part.
const noticeFields = "Content-Type: text/plain; charset=utf-8\r\n" +
	"Content-Disposition: inline\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n"

// removal is a part that goes, with the attachments that it goes for.
type removal struct {
	part        int
	attachments []mail.Attachment
}

// removals says which parts go, in the order in which they stand. A part within
// one that goes is named with that one.
func removals(parts []mail.Part, attachments []mail.Attachment) []removal {
	goes := make(map[int]bool, len(attachments))
	for _, a := range attachments {
		goes[anchor(parts, a.Part)] = true
	}
	var list []removal
	for _, a := range attachments {
		part := anchor(parts, a.Part)
		for p := part; p > 0; p = parts[p].Parent {
			if goes[p] {
				part = p
			}
		}
		if goes[0] {
			part = 0
		}
		i := slices.IndexFunc(list, func(r removal) bool { return r.part == part })
		if i < 0 {
			list = append(list, removal{part: part})
			i = len(list) - 1
		}
		list[i].attachments = append(list[i].attachments, a)
	}
	return list
}

// anchor is the part whose octets have to be replaced for the part i to go: i
// itself, or where i lies in a message that was encoded, the part that holds
// that message. An index that means no part is the whole message: what policy
// wants out must never go through because its place is not known.
func anchor(parts []mail.Part, i int) int {
	if i < 0 || i >= len(parts) {
		return 0
	}
	for p := i; p > 0; p = parts[p].Parent {
		if parts[p].Detached {
			i = parts[p].Parent
		}
	}
	return max(i, 0)
}

// stripMessage replaces the body of a message, and the fields that spoke of it.
func stripMessage(head []byte, edits []edit, s stripping, text []byte) ([]byte, []edit) {
	head = append(head, noticeFields...)
	mimeVersion := false
	for _, f := range s.header {
		mimeVersion = mimeVersion || strings.EqualFold(f.Name, "MIME-Version")
		if hasPrefixFold(f.Name, "Content-") {
			edits = append(edits, edit{span: f.Span})
		}
	}
	if !mimeVersion {
		head = append(head, "MIME-Version: 1.0\r\n"...)
	}
	content, start := s.message.Content, headerEnd(s.message, s.header)
	data := make([]byte, 0, len(text)+4)
	if !emptyLineBefore(content, start) {
		data = append(data, "\r\n"...)
	}
	data = append(data, text...)
	data = append(data, "\r\n"...)
	return head, append(edits, edit{span: mail.Span{Start: start, End: content.Size()}, data: data})
}

// headerEnd is where the message's own body begins, behind all of its fields.
func headerEnd(m *mail.Message, h mail.Header) int64 {
	end := int64(0)
	if len(h) > 0 {
		end = h[len(h)-1].Span.End
	}
	if len(m.Parts) > 0 {
		end = max(end, m.Parts[0].Body.Start)
	}
	return end
}

// breakAt says that a line break stands at the offset.
func breakAt(c mail.Content, offset int64) bool {
	var b [2]byte
	n, _ := c.ReadAt(b[:], offset)
	return n == 2 && b == [2]byte{'\r', '\n'} || n > 0 && b[0] == '\n'
}

// emptyLineBefore says that the line before the offset is empty.
func emptyLineBefore(c mail.Content, offset int64) bool {
	var b [4]byte
	tail := b[:min(offset, int64(len(b)))]
	if n, _ := c.ReadAt(tail, offset-int64(len(tail))); n < len(tail) {
		return false
	}
	lines := strings.ReplaceAll(string(tail), "\r\n", "\n")
	return lines == "\n" || strings.HasSuffix(lines, "\n\n")
}

// stripText is the text in the place of a part, in quoted-printable without a last
// line break.
func stripText(attachments []mail.Attachment, id string) []byte {
	var b strings.Builder
	b.WriteString("[FR] Une pièce jointe a été retirée de ce message\n")
	b.WriteString("     par la passerelle de courrier.\n")
	b.WriteString("[EN] An attachment was removed from this message\n")
	b.WriteString("     by the mail gateway.\n\n")
	for i, a := range attachments {
		if i == maxNamed {
			b.WriteString("  ...\n\n")
			break
		}
		b.WriteString("  Fichier / File: " + displayName(a) + "\n")
		b.WriteString("  Type: " + mediaType(a) + "\n")
		if reason := clean(a.Reason, utf8s, maxReason); reason != "" {
			b.WriteString("  Motif / Reason: " + reason + "\n")
		}
		b.WriteByte('\n')
	}
	b.WriteString("[FR] L'original est conservé. Si vous en avez besoin,\n")
	b.WriteString("     donnez ce numéro à votre administrateur :\n")
	b.WriteString("[EN] The original is kept. If you need it,\n")
	b.WriteString("     give this number to your administrator:\n\n")
	b.WriteString("  " + clean(id, ascii, 100) + "\n")
	return []byte(strings.TrimSuffix(quotedPrintable(b.String()), "\r\n"))
}

// quotedPrintable encodes text (RFC 2045, section 6.7), with CRLF for each line break.
func quotedPrintable(text string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	// A strings.Builder takes everything.
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}
