package mail

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"strconv"
	"strings"
)

// Read finds the header, the parts and the oddities of c. It never fails.
func Read(c Content, l Limits) (Header, []Part, []Oddity) {
	all, ok := c.(Bytes)
	if !ok {
		all = make([]byte, c.Size())
		_, _ = c.ReadAt(all, 0)
	}
	r := &reader{content: c, all: all, limits: l}
	r.entity(-1, Span{0, int64(len(all))}, "text/plain")
	return r.parts[0].Header, r.parts, nil
}

type reader struct {
	content Content
	all     []byte
	limits  Limits
	parts   []Part
}

func (r *reader) entity(parent int, span Span, media string) {
	p := Part{Index: len(r.parts), Parent: parent, Span: span, content: r.content, MediaType: media}
	if parent >= 0 {
		p.Depth = r.parts[parent].Depth + 1
		r.parts[parent].Children = append(r.parts[parent].Children, p.Index)
		p.Path = strconv.Itoa(len(r.parts[parent].Children))
		if r.parts[parent].Path != "" {
			p.Path = r.parts[parent].Path + "." + p.Path
		}
	}
	at := span.Start
	for at < span.End {
		line := r.line(at, span.End)
		start := at
		at += int64(len(line))
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if n := len(p.Header); n > 0 && (line[0] == ' ' || line[0] == '\t') {
			p.Header[n-1].Span.End = at
			p.Header[n-1].Raw = r.all[p.Header[n-1].Span.Start:at]
			continue
		}
		name, _, _ := bytes.Cut(line, []byte{':'})
		p.Header = append(p.Header, Field{Name: string(bytes.TrimSpace(name)), Span: Span{start, at}, Raw: line})
	}
	p.Body = Span{at, span.End}
	p.Encoding = strings.ToLower(p.Header.Get("Content-Transfer-Encoding"))
	if t, params, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err == nil {
		p.MediaType, p.Params = t, params
	}
	d, params, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
	p.Disposition = d
	for _, name := range []string{params["filename"], p.Params["name"]} {
		if name != "" {
			p.Names = append(p.Names, decodeWords(name))
		}
	}
	if parent < 0 && !strings.HasPrefix(p.MediaType, "multipart/") {
		p.Path = "1"
	}
	r.parts = append(r.parts, p)
	if p.Depth >= 32 {
		return
	}
	switch {
	case strings.HasPrefix(p.MediaType, "multipart/"):
		r.multipart(p)
	case p.MediaType == "message/rfc822":
		r.entity(p.Index, p.Body, "text/plain")
	}
}

func (r *reader) multipart(p Part) {
	boundary := "--" + p.Params["boundary"]
	start := int64(-1)
	for at := p.Body.Start; at < p.Body.End; {
		line := r.line(at, p.Body.End)
		here := at
		at += int64(len(line))
		text := string(bytes.TrimRight(line, " \t\r\n"))
		if text != boundary && text != boundary+"--" {
			continue
		}
		if start >= 0 {
			end := here
			if end > start && r.all[end-1] == '\n' {
				end--
			}
			if end > start && r.all[end-1] == '\r' {
				end--
			}
			r.entity(p.Index, Span{start, end}, "text/plain")
		}
		start = at
		if text != boundary {
			return
		}
	}
	if start >= 0 {
		r.entity(p.Index, Span{start, p.Body.End}, "text/plain")
	}
}

func (r *reader) line(at, end int64) []byte {
	if i := bytes.IndexByte(r.all[at:end], '\n'); i >= 0 {
		return r.all[at : at+int64(i)+1]
	}
	return r.all[at:end]
}

// Open reads the part's body, decoded as its Encoding says.
func (p *Part) Open() io.Reader {
	raw := io.NewSectionReader(p.content, p.Body.Start, p.Body.Len())
	switch p.Encoding {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, raw)
	case "quoted-printable":
		return quotedprintable.NewReader(raw)
	}
	return raw
}

// Attached says that a client would offer to save the part as a file.
func (p *Part) Attached() bool {
	switch {
	case strings.HasPrefix(p.MediaType, "multipart/"):
		return false
	case p.Disposition == "attachment", len(p.Names) > 0:
		return true
	}
	return !strings.HasPrefix(p.MediaType, "text/")
}

// Parse fills Header, Parts and Oddity from Content.
func (m *Message) Parse(l Limits) { m.Header, m.Parts, m.Oddity = Read(m.Content, l) }
