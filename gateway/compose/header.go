package compose

import (
	"bytes"

	"postern/gateway/mail"
)

// maxRest bounds what is looked at behind the header section that the reader
// gave us, in octets.
const maxRest = 1 << 20

// header is every field of m's own header section. The reader stops at its
// limits, or at a line that is no field; a reader inside may go on to the first
// empty line, and a forged field must not wait for it there.
func header(m *mail.Message) mail.Header {
	n := len(m.Header)
	if m.Content == nil {
		return m.Header
	}
	end := int64(0)
	if n > 0 {
		end = m.Header[n-1].Span.End
	}
	// The usual case, and an answer without a read: one empty line lies between
	// header and body.
	if len(m.Parts) > 0 && n > 0 && m.Parts[0].Body.Start == end+2 {
		return m.Header
	}
	return append(m.Header[:n:n], rest(m.Content, end)...)
}

// rest finds the fields from start to the next empty line.
func rest(c mail.Content, start int64) (h mail.Header) {
	b := octets(c, start)
	field := false // the last line belongs to a field
	for at := 0; at < len(b); {
		line := b[at:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		end := at + len(line)
		colon := bytes.IndexByte(line, ':')
		switch {
		case line[0] == '\n' || string(line) == "\r\n":
			return h
		case line[0] == ' ' || line[0] == '\t':
			if field {
				f := &h[len(h)-1]
				f.Span.End = start + int64(end)
				f.Raw = b[f.Span.Start-start : end]
			}
		default:
			if field = colon > 0; field {
				h = append(h, mail.Field{
					Name: string(bytes.TrimSpace(line[:colon])),
					Span: mail.Span{Start: start + int64(at), End: start + int64(end)},
					Raw:  line,
				})
			}
		}
		at = end
	}
	return h
}

// octets is what stands at start, maxRest octets at most.
func octets(c mail.Content, start int64) []byte {
	n := max(0, min(c.Size()-start, maxRest))
	if b, ok := c.(mail.Bytes); ok && n > 0 {
		return b[start : start+n]
	}
	b := make([]byte, n)
	got, _ := c.ReadAt(b, start)
	return b[:got]
}
