package client

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"postern/gateway/mail"
)

// Limits of a reply. RFC 5321, section 4.5.3.1.5 gives a line 512 octets; no
// server needs more than these.
const (
	maxReplyLine  = 4096
	maxReplyLines = 100
	maxReply      = 64 << 10
	maxReplyText  = 500 // of what is kept of it
)

// Why what a server says is no reply.
var (
	errReply     = errors.New("malformed reply")
	errReplySize = errors.New("reply too long")
)

// Reply is a reply as it was received. All but its Code is valid until the next
// one is read.
type Reply struct {
	Code int
	raw  []byte // all its lines with their line ends
}

// Positive says that the command was carried out (2yz).
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Transient says that it may be tried again (4yz).
func (r Reply) Transient() bool { return r.Code/100 == 4 }

// Permanent says that it must not be tried again (5yz).
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// parseReply reads the reply at the start of b. n is its length; 0 says that
// more has to be read.
func parseReply(b []byte) (rep Reply, n int, err error) {
	for range maxReplyLines {
		line := b[n:min(len(b), n+maxReplyLine)]
		end := bytes.IndexByte(line, '\n') + 1
		switch {
		case n+end > maxReply || end == 0 && (len(line) == maxReplyLine || len(b) >= maxReply):
			return Reply{}, 0, errReplySize
		case end == 0:
			return Reply{}, 0, nil
		}
		code, last := parseReplyLine(line[:end])
		if code == 0 || rep.Code != 0 && code != rep.Code {
			return Reply{}, 0, errReply
		}
		rep.Code, n = code, n+end
		if last {
			rep.raw = b[:n]
			return rep, n, nil
		}
	}
	return Reply{}, 0, errReplySize
}

// parseReplyLine reads the code of one line; 0 is none. QUIRK: a line may end
// in LF alone, and a code may stand without a space behind it.
func parseReplyLine(line []byte) (code int, last bool) {
	line = trimEOL(line)
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3 || line[3] == ' ':
		return code, true
	case line[3] == '-':
		return code, false
	}
	return 0, false
}

func trimEOL(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// lines are the enhanced code and the text of each line.
func (r Reply) lines(yield func(enhanced, text []byte) bool) {
	for line := range bytes.Lines(r.raw) {
		line = trimEOL(line)
		text := line[min(4, len(line)):]
		n := enhancedLen(text)
		if n > 0 && text[0] != line[0] { // RFC 3463, section 2: of the reply's own class
			n = 0
		}
		if !yield(text[:n], bytes.TrimLeft(text[n:], " ")) {
			return
		}
	}
}

// enhancedLen is the length of the enhanced status code (RFC 3463) at the start
// of b, 0 where there is none.
func enhancedLen(b []byte) int {
	if len(b) < 5 || !isDigit(b[0]) || b[1] != '.' {
		return 0
	}
	i, dots, digits := 2, 1, 0
	for ; i < len(b) && b[i] != ' '; i++ {
		switch {
		case isDigit(b[i]) && digits < 3:
			digits++
		case b[i] == '.' && dots == 1 && digits > 0:
			dots, digits = 2, 0
		default:
			return 0
		}
	}
	if dots != 2 || digits == 0 {
		return 0
	}
	return i
}

// Mail is r on one line, in printable ASCII, with an end: its text goes to
// strangers, logs and records.
func (r Reply) Mail() mail.Reply {
	out := mail.Reply{Code: r.Code}
	var space [maxReplyText]byte
	b := space[:0]
	for enhanced, text := range r.lines {
		if out.Enhanced == "" {
			out.Enhanced = string(enhanced)
		}
		if len(b) > 0 && len(text) > 0 && len(b) < maxReplyText {
			b = append(b, ' ')
		}
		b = appendPrintable(b, text[:min(len(text), maxReplyText-len(b))])
	}
	out.Text = strings.TrimRight(string(b), " ")
	return out
}

func appendPrintable(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// replyReader keeps what was read until a reply is whole, so that a read that
// timed out in the middle of one can go on later.
type replyReader struct {
	buf        []byte
	start, end int // of what was read and not yet used
}

// next is the next reply of what was read; ok says that there is a whole one.
func (r *replyReader) next() (rep Reply, ok bool, err error) {
	rep, n, err := parseReply(r.buf[r.start:r.end])
	r.start += n
	return rep, n > 0, err
}

// pending says that something was read that nobody asked for.
func (r *replyReader) pending() bool { return r.start < r.end }

// fill reads once. A reply from next is no longer valid then.
func (r *replyReader) fill(src io.Reader) error {
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, max(1024, len(r.buf)))...)
	}
	n, err := src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	return err
}
