package smtpd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

var crlf = []byte("\r\n")

// content reads what follows 354, up to CRLF.CRLF, where the CRLF of the DATA
// command counts as the first (RFC 5321, section 4.1.1.4). No other octets end
// it, whatever was wrong with those before: a server and a next hop that
// disagree about the end are how mail gets smuggled.
//
// Octets are looked at where they lie in the input's buffer, and stay there
// until it is certain what they are: at most "\r", "." or ".\r".
type content struct {
	in        *input
	read      func(deadline time.Time) error // reads more into in
	silence   time.Duration
	deadline  time.Time
	left      int64 // octets until the content is too big
	normalise bool

	bol bool   // the octets before were CRLF: a dot here is not content
	run []byte // content that Read has not handed out yet
	err error  // how it ended; nil before
}

// newContent is content at its start.
func newContent(in *input, size int64) *content {
	return &content{in: in, left: size, bol: true}
}

// Read implements io.Reader.
func (x *content) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(x.run) == 0 {
		run, err := x.next()
		if err != nil {
			return 0, err
		}
		x.run = run
	}
	n := copy(p, x.run)
	x.run = x.run[n:]
	return n, nil
}

// WriteTo implements io.WriterTo. It hands w slices as long as the buffer has
// them, without a copy.
func (x *content) WriteTo(w io.Writer) (total int64, err error) {
	run := x.run
	x.run = nil
	for {
		n, err := w.Write(run)
		total += int64(n)
		if err == nil && n < len(run) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
		run, err = x.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// next is the next run of content, valid until the call after.
func (x *content) next() ([]byte, error) {
	for x.err == nil {
		if run := x.take(); len(run) > 0 {
			return run, nil
		}
		if x.err == nil {
			x.more()
		}
	}
	return nil, x.err
}

// more reads on. The error must not wrap io.EOF, which would look like an end,
// so it is only quoted.
func (x *content) more() {
	if err := x.read(x.until()); err != nil {
		x.err = cutError{cause: err}
	}
}

func (x *content) until() time.Time {
	until := time.Now().Add(x.silence)
	if !x.deadline.IsZero() && x.deadline.Before(until) {
		return x.deadline
	}
	return until
}

// take takes the next run of content out of the buffer. It returns none where
// the content ended or went wrong, and where more octets must decide.
func (x *content) take() []byte {
	p := x.in.unread()
	dot := 0
	if x.bol && len(p) > 0 && p[0] == '.' {
		switch {
		case len(p) == 1, len(p) == 2 && p[1] == '\r':
			return nil
		case p[1] == '\r' && p[2] == '\n':
			x.in.discard(3)
			x.in.narrow()
			x.err = io.EOF
			return nil
		}
		dot = 1 // stuffed by the client: section 4.5.2
	}
	p = p[dot:]
	n, bol, bad := lines(p, x.bol && dot == 0)
	if nul := bytes.IndexByte(p[:n], 0); nul >= 0 {
		return x.refuse(nul)
	}
	switch {
	case bad && !x.normalise:
		return x.refuse(n)
	case bad && n == 0:
		return x.keep(crlf, dot+1, false)
	}
	return x.keep(p[:n], dot+n, bol)
}

// keep makes run content, for which used octets of the buffer were used.
func (x *content) keep(run []byte, used int, bol bool) []byte {
	if int64(len(run)) > x.left {
		return x.fail(ErrTooBig)
	}
	x.left -= int64(len(run))
	x.in.discard(used)
	if used > 0 {
		x.bol = bol
	}
	return run
}

// refuse ends the content at an octet that must not be in it, good octets on
// from here. Which fault comes first must not depend on how the octets came in.
func (x *content) refuse(good int) []byte {
	if int64(good) > x.left {
		return x.fail(ErrTooBig)
	}
	return x.fail(ErrBareNewline)
}

// fail ends the content. Nothing is used, so that drain sees all.
func (x *content) fail(err error) []byte {
	x.err = err
	if bound := time.Now().Add(violationTime); err == ErrBareNewline && (x.deadline.IsZero() || bound.Before(x.deadline)) {
		x.deadline = bound
	}
	return nil
}

// lines measures the well-formed lines at the beginning of p: n octets, behind
// which bol says whether a line begins. It stops before a dot at the beginning
// of a line, before a CR at the end of p, and, with bad set, before a CR or an
// LF that stands alone.
func lines(p []byte, bol bool) (n int, after, bad bool) {
	for n < len(p) {
		if bol && p[n] == '.' {
			return n, true, false
		}
		line := p[n:]
		lf := bytes.IndexByte(line, '\n')
		if lf >= 0 {
			line = line[:lf]
		}
		cr := bytes.IndexByte(line, '\r')
		switch {
		case lf >= 0 && cr >= 0 && cr == lf-1:
			n += lf + 1
			bol = true
			continue
		case cr >= 0 && cr == len(line)-1 && lf < 0: // the LF may be on its way
			return n + cr, bol && cr == 0, false
		case cr >= 0:
			return n + cr, bol && cr == 0, true
		case lf >= 0:
			return n + lf, bol && lf == 0, true
		}
		return len(p), false, false
	}
	return n, bol, false
}

// drain reads on to the end of the content, over at most limit octets beyond
// the size that it may have, and says whether it came. Only CRLF.CRLF ends it,
// as before.
func (x *content) drain(limit int64) bool {
	for x.err == nil { // what the reader left
		_, _ = x.next()
	}
	switch x.err {
	case io.EOF:
		return true
	case ErrBareNewline, ErrTooBig:
	default:
		return false
	}
	limit += x.left // nothing of the faulty run was used
	for {
		n, bol, end := skip(x.in.unread(), x.bol)
		x.in.discard(n)
		x.bol = bol
		limit -= int64(n)
		switch {
		case end:
			x.in.narrow()
			return true
		case limit < 0:
			return false
		}
		if err := x.read(x.until()); err != nil {
			return false
		}
	}
}

// skip is lines for octets that are thrown away: n of them can be, and end says
// that they were the last.
func skip(p []byte, bol bool) (n int, after, end bool) {
	for n < len(p) {
		rest := p[n:]
		if bol && rest[0] == '.' {
			switch {
			case len(rest) == 1, len(rest) == 2 && rest[1] == '\r':
				return n, true, false
			case rest[1] == '\r' && rest[2] == '\n':
				return n + 3, false, true
			}
		}
		i := bytes.Index(rest, crlf)
		switch {
		case i >= 0:
			n += i + 2
			bol = true
			continue
		case rest[len(rest)-1] == '\r':
			return len(p) - 1, bol && len(rest) == 1, false
		}
		return len(p), false, false
	}
	return n, bol, false
}

// cutError is ErrCut with what cut it. It hides the cause from errors.Is: a
// reader must never take the io.EOF of a connection for that of a content.
type cutError struct{ cause error }

func (e cutError) Error() string { return fmt.Sprintf("%v: %v", ErrCut, e.cause) }
func (e cutError) Unwrap() error { return ErrCut }

// timedOut says that the client was silent, not gone.
func (e cutError) timedOut() bool { return errors.Is(e.cause, os.ErrDeadlineExceeded) }
