package mail

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"postern/gateway/mail/mime"
)

// Parse fills Header, Parts and Oddity from Content, and decodes the parts of a
// small one. It is for who makes the message: filters must not change it.
func (m *Message) Parse(l Limits) {
	m.Header, m.Parts, m.Oddity = Read(m.Content, l)
	for i := range m.Parts {
		m.Parts[i].decode()
	}
}

// Read finds the header, the parts and the oddities of c. It never fails: there
// is always a part, the message itself, and what could not be understood is an
// oddity. Limits that are zero are those of DefaultLimits.
//
// It goes once over the content, line by line, and copies nothing of content in
// memory; of other content it keeps the header sections only.
func Read(c Content, l Limits) (Header, []Part, []Oddity) {
	l = l.orDefault()
	t := &tree{
		limits: l,
		parts:  make([]Part, 0, 8),
		octets: 8*l.HeaderBytes + 512*int64(l.Parts),
		fields: 8 * (l.Fields + l.Parts),
		decode: 4 * maxDecoded,
	}
	t.read(c, -1, false)
	return t.parts[0].Header, t.parts, t.notes.list
}

func (l Limits) orDefault() Limits {
	if l.Depth <= 0 {
		l.Depth = DefaultLimits.Depth
	}
	if l.Parts <= 0 {
		l.Parts = DefaultLimits.Parts
	}
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = DefaultLimits.HeaderBytes
	}
	if l.Fields <= 0 {
		l.Fields = DefaultLimits.Fields
	}
	return l
}

// maxDecoded bounds an encoded message within the message, which is decoded
// into memory; four times as much may be decoded in all.
const maxDecoded = 2 << 20

// maxBoundary bounds a boundary, so that its lines fit into one piece. RFC 2046,
// section 5.1.1 allows 70 octets.
const maxBoundary = piece - 100

// tree is what is found, and what may still be spent on it.
type tree struct {
	limits Limits
	parts  []Part
	notes  notes
	full   bool // the limit of parts was met

	octets int64 // of header sections, in all
	fields int   // in all
	decode int   // octets of encoded messages
}

// reader goes over one content: the message's, or that of an encoded message
// within it.
type reader struct {
	*tree
	content  Content
	lines    *lines
	open     []delimiter // of the multiparts around the present line, innermost last
	detached bool
	inexact  int // lines that were nearly boundaries, noted so far
}

// delimiter is the boundary of a multipart that is open.
type delimiter struct {
	boundary []byte
	closed   bool // its closing line was seen
}

// hit is where a body ended.
type hit struct {
	level  int   // index in reader.open of the boundary that ended it; -1 is the content's end
	closes bool  // it was that boundary's closing line
	end    int64 // without the line break that belongs to the boundary
}

// read adds the message that c holds, and all within it.
func (t *tree) read(c Content, parent int, detached bool) {
	r := reader{tree: t, content: c, lines: newLines(c), detached: detached}
	r.entity(parent, "text/plain")
	if r.lines.err != nil {
		t.notes.add(ContentUnreadable, r.lines.err.Error(), "")
	}
	r.lines.close()
}

// entity reads one message or part, with all within it: media is what it is
// where it does not say so itself.
func (r *reader) entity(parent int, media string) hit {
	if len(r.parts) >= r.limits.Parts {
		r.full = true
		r.notes.add(MIMEPartsLimit, strconv.Itoa(len(r.parts)), "")
		return r.rest()
	}
	index := r.add(parent, media)
	h, ended := r.header(index)
	r.name(index)
	if !ended {
		h = r.body(index)
	}
	p := &r.parts[index]
	h.end = max(h.end, p.Body.Start)
	p.Body.End, p.Span.End = h.end, h.end
	if p.isMessage() && mime.Encoded(p.Encoding) && p.Body.Len() > 0 {
		r.descend(index)
	}
	return h
}

// rest leaves the rest of the content unread.
func (r *reader) rest() hit {
	r.lines.seek(r.lines.size)
	return hit{level: -1, end: r.lines.size}
}

// add makes a part that begins here.
func (r *reader) add(parent int, media string) int {
	p := Part{Index: len(r.parts), Parent: parent, MediaType: media, Detached: r.detached, content: r.content}
	p.Span.Start = r.lines.at()
	if parent >= 0 {
		up := &r.parts[parent]
		up.Children = append(up.Children, p.Index)
		p.Depth = up.Depth + 1
		p.leading = len(up.Children) == 1 || up.MediaType == "multipart/alternative"
		p.Path = up.Path
		if !up.isMessage() {
			p.Path = join(up.Path, len(up.Children))
		}
	}
	r.parts = append(r.parts, p)
	return p.Index
}

// name completes the path: a message that is not a multipart is the only part
// of itself (RFC 3501, section 6.4.5).
func (r *reader) name(index int) {
	p := &r.parts[index]
	if !p.isMultipart() && (p.Parent < 0 || r.parts[p.Parent].isMessage()) {
		p.Path = join(p.Path, 1)
		p.leading = true
	}
}

func join(path string, n int) string {
	if path == "" {
		return strconv.Itoa(n)
	}
	return path + "." + strconv.Itoa(n)
}

// header reads the header section of a part. It is ended when a boundary, or
// the content's end, came before the empty line.
func (r *reader) header(index int) (h hit, ended bool) {
	p := &r.parts[index]
	note := noter{&r.notes, p.Path}
	raw, body, h, ended := r.section(note)
	p.Body.Start = body
	limit := min(r.limits.Fields, r.fields)
	s := section{raw: raw, base: p.Span.Start, limit: limit, note: note}
	p.Header = s.fields()
	r.fields -= len(p.Header)
	r.classify(p, note)
	switch {
	case len(p.Header) == 0 && len(raw) > 0 && limit > 0:
		// Not one field: the part is all body.
		note.add(HeaderNone, "")
		p.Body.Start = p.Span.Start
		r.lines.seek(p.Body.Start)
		return hit{}, false
	case ended && (h.level >= 0 || len(raw) > 0):
		note.add(HeaderUnended, "")
	}
	return h, ended
}

// section finds the end of a header section: raw is what of it the limits let
// through, body is where the body begins.
func (r *reader) section(note noter) (raw []byte, body int64, h hit, ended bool) {
	start, limit := r.lines.at(), min(r.limits.HeaderBytes, r.octets)
	end := start
	h, ended = hit{level: -1}, true
	for r.lines.next() {
		if r.lines.begins && r.lines.ends && len(r.lines.text) == 0 {
			body, ended = r.lines.end, false
			break
		}
		if d, ok := r.delimiter(); ok {
			h = d
			break
		}
		if room := limit - int64(len(raw)); r.lines.pool != nil && room > 0 {
			line := r.lines.raw()
			raw = append(raw, line[:min(int64(len(line)), room)]...)
		}
		end = r.lines.end
	}
	if ended {
		body, h.end = end, max(h.end, end)
	}
	if r.lines.pool == nil {
		raw = r.lines.buf[start:min(end, start+limit):end]
	}
	if end-start > limit {
		note.add(HeaderLimit, "octets")
	}
	r.octets -= int64(len(raw))
	return raw, body, h, ended
}

// body reads the body of a part, with the parts in it.
func (r *reader) body(index int) hit {
	p := &r.parts[index]
	note := noter{&r.notes, p.Path}
	switch {
	case p.isMultipart():
		if boundary, ok := r.boundary(p, note); ok {
			return r.multipart(index, boundary, note)
		}
	case p.isMessage() && !mime.Encoded(p.Encoding) && r.deeper(p, note):
		return r.entity(index, "text/plain")
	}
	return r.leaf(p.Encoding, note)
}

// deeper says whether parts within p are looked at.
func (r *reader) deeper(p *Part, note noter) bool {
	if p.Depth < r.limits.Depth {
		return true
	}
	note.add(MIMEDepthLimit, strconv.Itoa(p.Depth))
	return false
}

// leaf reads a body that holds no parts.
func (r *reader) leaf(encoding string, note noter) hit {
	switch encoding {
	case mime.Base64:
		return r.scan(watch{&mime.Base64Check{}, MIMEBadBase64, note})
	case mime.QuotedPrintable:
		return r.scan(watch{&mime.QuotedPrintableCheck{}, MIMEBadQP, note})
	}
	if len(r.open) == 0 {
		return r.rest()
	}
	return r.scan(watch{})
}

// boundary is the boundary of a multipart whose parts are to be looked for.
func (r *reader) boundary(p *Part, note noter) (string, bool) {
	b, has := p.Params["boundary"]
	b = strings.TrimRight(b, " \t") // as is done to the lines
	switch {
	case !has:
		note.add(MIMEBoundaryMissing, p.MediaType)
		return "", false
	case b == "":
		note.add(MIMEBoundaryEmpty, p.MediaType)
	case len(b) > maxBoundary:
		note.add(MIMEParameterLimit, b)
		return "", false
	case !isBoundary(b):
		note.add(MIMEBoundaryMalformed, b)
	}
	for i := range r.open {
		if string(r.open[i].boundary) == b {
			note.add(MIMEBoundaryDuplicate, b)
			break
		}
	}
	return b, r.deeper(p, note)
}

// multipart reads the parts between the lines of a boundary (RFC 2046, section
// 5.1.1). Parts behind the closing line are read too: some clients show them.
func (r *reader) multipart(index int, boundary string, note noter) hit {
	media := "text/plain"
	if r.parts[index].MediaType == "multipart/digest" {
		media = "message/rfc822"
	}
	level := len(r.open)
	r.open = append(r.open, delimiter{boundary: []byte(boundary)})
	h := r.scan(watch{&outside{customary: customaryPreamble}, MIMEPreambleText, note})
	for h.level == level {
		if h.closes {
			r.open[level].closed = true
			h = r.scan(watch{&outside{}, MIMEEpilogueText, note})
			continue
		}
		if r.open[level].closed {
			note.add(MIMEEpiloguePart, boundary)
		}
		h = r.entity(index, media)
	}
	switch {
	case r.full:
	case len(r.parts[index].Children) == 0:
		note.add(MIMEBoundaryUnseen, boundary)
	case !r.open[level].closed:
		note.add(MIMEUnterminated, boundary)
	}
	r.open = r.open[:level]
	return h
}

// scan goes on to the next line that is a boundary of an open multipart.
func (r *reader) scan(w watch) (h hit) {
	h = hit{level: -1}
	for r.lines.next() {
		if d, ok := r.delimiter(); ok {
			h = d
			break
		}
		if w.check != nil {
			if fault := w.check.Line(r.lines.text, r.lines.ends); fault != nil {
				w.note.octets(w.symbol, fault)
			}
		}
	}
	if w.check != nil {
		if fault := w.check.End(); fault != nil {
			w.note.octets(w.symbol, fault)
		}
	}
	if h.level < 0 {
		h.end = r.lines.size
	}
	return h
}

// delimiter says whether the present line is a boundary. That of the innermost
// multipart comes first, but one that was closed comes last: nested multiparts
// that share a boundary are read as they are meant. QUIRK: RFC 2046, section
// 5.1.1 also takes a line that goes on behind the boundary; most readers don't.
func (r *reader) delimiter() (h hit, ok bool) {
	line := r.lines.text
	if len(r.open) == 0 || len(line) < 2 || line[0] != '-' || line[1] != '-' {
		return hit{}, false
	}
	if !r.lines.begins || !r.lines.ends {
		return hit{}, false
	}
	line = bytes.TrimRight(line[2:], " \t\r")
	found, inexact := -1, false
	for i := len(r.open) - 1; i >= 0; i-- {
		rest, is := bytes.CutPrefix(line, r.open[i].boundary)
		switch {
		case !is:
		case len(rest) > 0 && string(rest) != "--":
			inexact = inexact || len(r.open[i].boundary) > 0
		case !r.open[i].closed:
			return hit{level: i, closes: len(rest) > 0, end: r.lines.previous}, true
		case found < 0:
			found = i
		}
	}
	if found >= 0 {
		closes := len(line) > len(r.open[found].boundary)
		return hit{level: found, closes: closes, end: r.lines.previous}, true
	}
	if inexact && r.inexact < maxSame {
		r.inexact++
		r.notes.add(MIMEBoundaryInexact, string(line), "")
	}
	return hit{}, false
}

// descend reads a message that was encoded within the message. RFC 2046, section
// 5.2.1 forbids to encode it, but clients decode and show it.
func (r *reader) descend(index int) {
	p := &r.parts[index]
	note := noter{&r.notes, p.Path}
	note.add(MIMEEncodedMessage, p.Encoding)
	if !r.deeper(p, note) {
		return
	}
	limit := min(maxDecoded, r.decode)
	decoded, err := io.ReadAll(io.LimitReader(p.Open(), int64(limit)+1))
	switch {
	case err != nil:
		note.add(ContentUnreadable, err.Error())
	case len(decoded) > limit:
		note.add(MIMEDecodeLimit, strconv.Itoa(limit))
	default:
		r.decode -= len(decoded)
		r.read(Bytes(decoded), index, true)
	}
}
