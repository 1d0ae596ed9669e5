package attachments

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern/gateway/mail"
)

// Bounds of what one message makes us read or say.
const (
	textHead  = 512 // octets of the mail's own text that are looked at
	maxListed = 500 // harmless members that are reported, for one message
	maxBad    = 200 // forbidden members that are reported, for one container
)

// buffer is what reading one part needs; pooled.
type buffer struct {
	octets [32 << 10]byte
	probe  probe
}

// scan is the look at one message.
type scan struct {
	*Filter
	ctx     context.Context
	message *mail.Message
	results []mail.Result
	unpack  int64 // octets of members that may still be unpacked
	listed  int
}

// part looks at one part. The mail's own text costs one short read, unless that
// finds a program in it.
func (s *scan) part(p *mail.Part) error {
	names := p.Names
	if strings.HasPrefix(p.MediaType, "multipart/") && len(p.Children) > 0 {
		// Its parts are looked at one by one; a name of its own may still show in a client.
		s.reportContainer(p)
		return nil
	}
	b := s.buffers.Get().(*buffer)
	defer s.buffers.Put(b)
	b.probe.reset()

	body := p.Open()
	head := b.octets[:]
	inText := !p.Attached() && len(names) == 0 && strings.HasPrefix(p.MediaType, "text/")
	if inText {
		head = b.octets[:textHead]
	}
	n, err := io.ReadFull(body, head)
	head = head[:n]
	if err != nil && !ended(err) {
		return err
	}
	if k := sniff(head); inText && (k == nil || k.mediaType == scriptType) && !isZip(head) {
		return nil
	}
	return s.attachment(p, leaf{body: body, head: head, buffer: b, inText: inText, done: err != nil})
}

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// reportContainer reports a multipart only when its name is forbidden.
func (s *scan) reportContainer(p *mail.Part) {
	if reason, evidence := s.judge(file{names: p.Names}); reason != "" {
		a := s.describe(p)
		a.Size = p.Body.Len()
		s.blocked(a, reason, evidence)
	}
}

// leaf is a part that is being read.
type leaf struct {
	body   io.Reader
	head   []byte // already read
	buffer *buffer
	inText bool
	done   bool // head is all
}

// attachment reads a part to its end, once: hashed, counted, probed, and kept in
// memory where it is a zip.
func (s *scan) attachment(p *mail.Part, l leaf) error {
	a := s.describe(p)
	probe := &l.buffer.probe
	var kept *memory
	if isZip(l.head) || s.namedZip(p) {
		var err error
		if kept, err = s.keep(p); err != nil {
			return err
		}
		defer kept.release()
	}
	if err := s.read(l, &a, kept, s.nested(p)); err != nil {
		return err
	}
	a.TrueType = probe.mediaType()
	reason, evidence := s.judge(file{names: p.Names, claimed: p.MediaType, trueType: a.TrueType, content: probe.kind(), inText: l.inText})
	if reason != "" {
		s.blocked(a, reason, evidence)
		return nil // what is taken out whole need not be opened
	}
	s.results = append(s.results, mail.Result{Filter: Name, Attachment: &a})
	switch index := len(s.results) - 1; {
	case kept == nil:
	case kept.over:
		s.limit(index, fmt.Sprintf("over %d octets", s.config.MaxContainer))
	default:
		return s.zip(p, index, kept.octets)
	}
	return nil
}

// describe is what is known of a part without reading it.
func (s *scan) describe(p *mail.Part) mail.Attachment {
	a := mail.Attachment{Type: display(p.MediaType), Path: p.Path, Part: p.Index}
	if len(p.Names) > 0 {
		a.Name = display(p.Names[0])
	}
	return a
}

// nested says that the part lies in a message whose octets are hashed already;
// without that a tower of messages would be hashed once for each floor.
func (s *scan) nested(p *mail.Part) bool {
	if len(p.Children) == 0 {
		return false
	}
	for i := p.Parent; i >= 0; i = s.message.Parts[i].Parent {
		if strings.HasPrefix(s.message.Parts[i].MediaType, "message/") {
			return true
		}
	}
	return false
}

// read consumes the part. A nested message is not read past its head.
func (s *scan) read(l leaf, a *mail.Attachment, kept *memory, nested bool) error {
	hash := sha256.New()
	chunk, err := l.head, error(nil)
	for {
		hash.Write(chunk)
		_, _ = l.buffer.probe.Write(chunk)
		kept.write(chunk)
		if err != nil || l.done || nested {
			break
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		var n int
		n, err = io.ReadFull(l.body, l.buffer.octets[:])
		if err != nil && !ended(err) {
			return err
		}
		chunk = l.buffer.octets[:n]
	}
	if a.Size = l.buffer.probe.size; nested {
		a.Size = s.message.Parts[a.Part].Body.Len()
		return nil
	}
	a.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return nil
}

// namedZip says that a client would hand the part to what unpacks zips.
func (s *scan) namedZip(p *mail.Part) bool {
	switch p.MediaType {
	case "application/zip", "application/x-zip-compressed", "application/x-zip":
		return true
	}
	return anyExtension(p.Names, zips)
}

func anyExtension(names []string, list string) bool {
	for _, sent := range names {
		for _, name := range readings(sent) {
			if isIn(extension(name), list) {
				return true
			}
		}
	}
	return false
}

// memory is a container in memory, and its share of what the filter allows
// itself for all messages together.
type memory struct {
	octets []byte
	max    int64
	over   bool // it was larger than max; octets is then empty
	free   func()
}

// keep makes room for a container, waiting for other messages' containers where
// there is none.
func (s *scan) keep(p *mail.Part) (*memory, error) {
	size := min(p.Body.Len(), s.config.MaxContainer)
	if err := s.memory.Acquire(s.ctx, size); err != nil {
		return nil, fmt.Errorf("wait for memory: %w", err)
	}
	return &memory{max: size, octets: make([]byte, 0, decodedSize(p, size)), free: func() { s.memory.Release(size) }}, nil
}

// decodedSize guesses the decoded size, so that memory is asked for once.
func decodedSize(p *mail.Part, size int64) int64 {
	if p.Encoding == "base64" {
		return size / 4 * 3
	}
	return size
}

func (m *memory) write(b []byte) {
	switch {
	case m == nil || m.over:
	case int64(len(m.octets)+len(b)) > m.max:
		m.over, m.octets = true, nil
	default:
		m.octets = append(m.octets, b...)
	}
}

func (m *memory) release() {
	m.octets = nil
	m.free()
}

// blocked reports a forbidden file.
func (s *scan) blocked(a mail.Attachment, reason, evidence string) {
	a.Blocked, a.Reason = true, reason
	s.results = append(s.results, mail.Result{
		Filter: Name, Symbol: "ATTACHMENT_BLOCKED", Description: "a forbidden attachment: " + reason, Evidence: evidence, Attachment: &a,
	})
}

// limit reports that a container was not looked into to its end.
func (s *scan) limit(container int, what string) {
	s.fact(container, mail.Result{
		Symbol: "ATTACHMENT_LIMIT", Description: "a container over the limits: " + what, Fault: mail.FaultMessage, Err: errors.New(what),
	})
}

// fact reports something about the container whose result has that index: in its
// place, so that each attachment stands once in the list, or behind what was
// said of it already.
func (s *scan) fact(container int, r mail.Result) {
	about := &s.results[container]
	r.Filter, r.Attachment, r.Evidence = Name, about.Attachment, about.Attachment.Name
	if about.Symbol == "" {
		*about = r
		return
	}
	s.results = append(s.results, r)
}
