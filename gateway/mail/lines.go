package mail

import (
	"bytes"
	"io"
	"sync"
)

// The reader holds window octets of a large content at once, and looks at no
// more than piece octets of a line in one go. Content in memory is cut in the
// same way, so that both give the same tree.
const (
	window = 64 << 10
	piece  = 16 << 10
)

// windows spares a message that lies in a file the allocation of its window.
var windows = sync.Pool{New: func() any { return new([window]byte) }}

// lines walks over content line by line. LF and CRLF both end a line: content
// from SMTP has CRLF only, but files that an admin scans come with either.
type lines struct {
	content Content
	size    int64
	err     error // the first read that went wrong; the content then ends there

	buf  []byte // the content in memory, or a window of it
	off  int64  // where buf begins
	pos  int    // the next line within buf
	pool *[window]byte

	// The present piece of a line.
	text          []byte // without line break; valid until next
	start, end    int64  // with line break
	begins, ends  bool   // text begins, ends its line
	previous      int64  // where the line before ended, without its break
	previousEnded bool
}

func newLines(c Content) *lines {
	s := &lines{content: c, size: c.Size(), previousEnded: true}
	if b, ok := c.(Bytes); ok {
		s.buf = b
		return s
	}
	s.pool = windows.Get().(*[window]byte)
	s.buf = s.pool[:0]
	return s
}

// close gives the window back. No text may be used from then on.
func (s *lines) close() {
	if s.pool != nil {
		windows.Put(s.pool)
		s.pool, s.buf = nil, nil
	}
}

// at is where the next line begins.
func (s *lines) at() int64 { return s.off + int64(s.pos) }

// raw is the present piece with its line break; valid until next.
func (s *lines) raw() []byte { return s.buf[s.start-s.off : s.end-s.off] }

// next goes to the next piece; false is the content's end.
func (s *lines) next() bool {
	s.previous, s.begins = s.start+int64(len(s.text)), s.previousEnded
	rest := s.buf[s.pos:]
	i := bytes.IndexByte(rest[:min(len(rest), piece)], '\n')
	if i < 0 && len(rest) < piece && s.fill() {
		rest = s.buf[s.pos:]
		i = bytes.IndexByte(rest[:min(len(rest), piece)], '\n')
	}
	s.start = s.at()
	switch {
	case i >= 0:
		s.text, s.ends = rest[:i], true
		if i > 0 && rest[i-1] == '\r' {
			s.text = rest[:i-1]
		}
		s.pos += i + 1
	case len(rest) == 0:
		return false
	default:
		s.cut(rest)
	}
	s.end, s.previousEnded = s.at(), s.ends
	return true
}

// cut takes a piece of a line that has no break within reach. A CR that may
// belong to the break stays for the next piece.
func (s *lines) cut(rest []byte) {
	s.text = rest[:min(len(rest), piece)]
	s.ends = len(s.text) == len(rest) && s.off+int64(len(s.buf)) >= s.size
	if !s.ends && s.text[len(s.text)-1] == '\r' {
		s.text = s.text[:len(s.text)-1]
	}
	s.pos += len(s.text)
}

// fill reads on; false is nothing more to read.
func (s *lines) fill() bool {
	if s.pool == nil || s.off+int64(len(s.buf)) >= s.size {
		return false
	}
	kept := copy(s.pool[:], s.buf[s.pos:])
	s.off, s.pos = s.at(), 0
	want := int(min(int64(window-kept), s.size-s.off-int64(kept)))
	n, err := s.content.ReadAt(s.pool[kept:kept+want], s.off+int64(kept))
	s.buf = s.pool[:kept+n]
	if n < want {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		s.err, s.size = err, s.off+int64(kept+n)
	}
	return n > 0
}

// seek makes the line that begins at off the next.
func (s *lines) seek(off int64) {
	s.text, s.start, s.previousEnded = nil, off, true
	if off >= s.off && off <= s.off+int64(len(s.buf)) {
		s.pos = int(off - s.off)
		return
	}
	s.buf, s.off, s.pos = s.pool[:0], off, 0
}
