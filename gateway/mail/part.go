package mail

import (
	"bytes"
	"io"
	"strings"

	"postern/gateway/mail/mime"
)

// Span is a range of octets of the content.
type Span struct{ Start, End int64 }

// Len is the number of octets.
func (s Span) Len() int64 { return s.End - s.Start }

// Field is one header field as it stands in the content: nothing is unfolded or
// decoded before somebody asks.
type Field struct {
	Name string // as written, without the colon and white space before it
	Span Span   // from the first octet of the name to the end of its last line, line break included
	Raw  []byte // the octets of Span; shared, not to be changed
}

// Header is a header section: its fields in the order in which they stand.
type Header []Field

// Part is one entity of the tree that MIME makes of a message (RFC 2045,
// section 2.4). Parts[0] is the message itself.
type Part struct {
	Index    int
	Parent   int    // index in Message.Parts; -1 for the message itself
	Depth    int    // 0 for the message itself
	Path     string // "1", "2.1": as IMAP counts (RFC 3501, section 6.4.5); a message without parts is "1"
	Span     Span   // header and body, without the line break that belongs to the boundary
	Body     Span
	Header   Header
	Children []int

	MediaType   string            // "text/plain", in lower case: what the reader took it for
	Params      map[string]string // of Content-Type; names in lower case, RFC 2231 decoded
	Encoding    string            // Content-Transfer-Encoding in lower case; "" is 7bit
	Disposition string            // "attachment", "inline" or ""
	Names       []string          // every name that a client may give the part, decoded, whatever characters it holds; the first is the likeliest

	// Detached says that the part lies in a message/rfc822 that was itself
	// encoded: its spans then count in the decoded octets, not in the message.
	Detached bool

	content Content // where Body lies
	decoded Bytes   // Body without its encoding; nil where Open has to decode
	leading bool    // where clients look for the text to show
}

// Oddity is something in a message's form that a standard forbids or that two
// readers would take differently.
type Oddity struct {
	Symbol   string // "MIME_BOUNDARY_MISSING"; the catalogue is in oddity.go
	Evidence string // bounded, printable
	Part     string // path of the part; "" for the message
}

// Limits bound what the reader does with one message. What lies beyond is not
// looked at, and an oddity whose name ends in _LIMIT says so. All header sections
// together are bounded too, to a small multiple of these.
type Limits struct {
	Depth       int   // nesting of parts
	Parts       int   // in all
	HeaderBytes int64 // of one header section that is looked at
	Fields      int   // of one header section
}

// DefaultLimits serve for any real message many times over.
var DefaultLimits = Limits{Depth: 32, Parts: 1000, HeaderBytes: 256 << 10, Fields: 2000}

func (p *Part) isMultipart() bool { return strings.HasPrefix(p.MediaType, "multipart/") }

// isMessage says that the body is a message of its own (RFC 2046, section 5.2.1;
// RFC 6532, section 3.7).
func (p *Part) isMessage() bool {
	return p.MediaType == "message/rfc822" || p.MediaType == "message/global" || p.MediaType == "message/news"
}

// Open reads the part's body, decoded as its Encoding says: base64,
// quoted-printable and x-uuencode are undone, whatever else is given as it
// stands. Faults of the encoding are no errors; only Content's are returned.
func (p *Part) Open() io.Reader {
	switch {
	case p.content == nil || p.Body.Len() <= 0:
		return strings.NewReader("")
	case p.decoded != nil:
		return bytes.NewReader(p.decoded)
	}
	if all, ok := p.content.(Bytes); ok && mime.Encoded(p.Encoding) {
		return mime.NewBytesReader(p.Encoding, all[p.Body.Start:p.Body.End])
	}
	return mime.NewReader(p.Encoding, io.NewSectionReader(p.content, p.Body.Start, p.Body.Len()))
}

// decodeAhead is the size of a content in memory up to which its parts are decoded
// once, when it is read, instead of by every filter that looks at them.
const decodeAhead = 1 << 20

// decode undoes the part's encoding for all that will Open it.
func (p *Part) decode() {
	all, inMemory := p.content.(Bytes)
	if !inMemory || len(all) > decodeAhead || len(p.Children) > 0 || p.Body.Len() <= 0 || !mime.Encoded(p.Encoding) {
		return
	}
	r := mime.NewBytesReader(p.Encoding, all[p.Body.Start:p.Body.End])
	decoded := make(Bytes, p.Body.Len()) // no encoding is shorter than what it encodes
	n, err := io.ReadFull(r, decoded)
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		p.decoded = decoded[:n]
	}
}

// Attached says that a client would offer to save the part as a file: it is
// called an attachment, or is no text, or has a name and is not the text that
// the client shows. A message/rfc822 is one, although it has parts of its own.
func (p *Part) Attached() bool {
	switch {
	case p.isMultipart() && len(p.Children) > 0:
		return false
	case p.Disposition == "attachment":
		return true
	case p.isMultipart():
		return len(p.Names) > 0
	case !strings.HasPrefix(p.MediaType, "text/"):
		return true
	case len(p.Names) == 0:
		return false
	}
	return !p.shown()
}

// shown says that a named text is the message's text all the same: mailers call
// it "message.html" and the like.
func (p *Part) shown() bool {
	if !p.leading || p.Disposition != "" || (p.MediaType != "text/plain" && p.MediaType != "text/html") {
		return false
	}
	for _, name := range p.Names {
		switch ext := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:]); ext {
		case "txt", "text", "htm", "html", strings.ToLower(name):
		default:
			return false
		}
	}
	return true
}
