package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"postern/gateway/mail"
)

// ErrNotStrict is why content may not leave: a next hop that takes a bare CR or
// LF for a line end would see other lines than we did, and among them perhaps
// an end of data and commands (SMTP smuggling).
var ErrNotStrict = errors.New("content has a bare CR, a bare LF or a NUL")

// ContentError says that the content could not be sent for a reason of its own:
// the connection was well.
type ContentError struct{ Err error }

func (e *ContentError) Error() string { return "content: " + e.Err.Error() }

// Unwrap is the reason: ErrNotStrict, or what kept the content from being read.
func (e *ContentError) Unwrap() error { return e.Err }

// block is how much is written at once.
const block = 64 << 10

var blocks = sync.Pool{New: func() any { return new([block]byte) }}

// dotWriter writes content as DATA wants it (RFC 5321, section 4.5.2): with a
// dot in front of each line that begins with one, and a line that is only a dot
// at the end. Nothing is written of a piece that is not strict.
type dotWriter struct {
	write func([]byte) error // to the next hop
	buf   *[block]byte
	used  int
	last  byte  // octet of the content; 0 before the first
	size  int64 // octets of the content
	err   error // of write: whose fault it was
}

func newDotWriter(write func([]byte) error) *dotWriter {
	return &dotWriter{write: write, buf: blocks.Get().(*[block]byte)}
}

// free gives the buffer back. The dotWriter is of no use afterwards.
func (w *dotWriter) free() {
	blocks.Put(w.buf)
	w.buf = nil
}

// Write takes the next piece of the content.
func (w *dotWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !strict(w.last, p) {
		return 0, ErrNotStrict
	}
	if p[0] == '.' && (w.last == '\n' || w.size == 0) {
		w.put(dot)
	}
	w.last, w.size = p[len(p)-1], w.size+int64(len(p))
	rest := p
	for {
		i := bytes.Index(rest, lineDot)
		if i < 0 {
			break
		}
		w.put(rest[:i+2])
		w.put(dot)
		rest = rest[i+2:]
	}
	w.put(rest)
	return len(p), w.err
}

var (
	dot     = []byte(".")
	lineDot = []byte("\n.")
	crlf    = []byte("\r\n")
	lastDot = []byte(".\r\n")
)

// end writes what is left, and with it the final dot. Where it fails the dot
// was not sent.
func (w *dotWriter) end(c mail.Content) error {
	if w.size != c.Size() {
		return fmt.Errorf("content has %d octets, not the %d it should", w.size, c.Size())
	}
	switch {
	case w.last == '\r':
		return ErrNotStrict
	case w.size > 0 && w.last != '\n':
		w.put(crlf)
	}
	w.put(lastDot)
	w.flush()
	return w.err
}

func (w *dotWriter) put(p []byte) {
	for w.err == nil && len(p) > 0 {
		n := copy(w.buf[w.used:], p)
		w.used += n
		p = p[n:]
		if w.used == block {
			w.flush()
		}
	}
}

func (w *dotWriter) flush() {
	if w.err == nil && w.used > 0 {
		w.err = w.write(w.buf[:w.used])
	}
	w.used = 0
}

// strict says that p, behind the octet last, has no NUL, no LF without a CR
// before it, and no CR without an LF behind it; a CR at its end may still get one.
func strict(last byte, p []byte) bool {
	if bytes.IndexByte(p, 0) >= 0 {
		return false
	}
	returns := bytes.Count(p, []byte{'\r'})
	if last == '\r' {
		returns++
	}
	if p[len(p)-1] == '\r' {
		returns--
	}
	// As many CRs as LFs, and each LF behind a CR: so each CR is before an LF.
	feeds := 0
	for i := 0; ; feeds++ {
		next := bytes.IndexByte(p[i:], '\n')
		if next < 0 {
			return feeds == returns
		}
		if i += next; i > 0 {
			last = p[i-1]
		}
		if last != '\r' {
			return false
		}
		i++
	}
}

// SendContent writes content and the final dot behind it. Without an error all
// of it was handed to the network; with one, the final dot was not, and the
// session is of no use any more.
func (c *Conn) SendContent(ctx context.Context, content mail.Content) error {
	w := newDotWriter(func(b []byte) error {
		if err := c.until(ctx, c.timeouts.Block); err != nil {
			return err
		}
		_, err := c.net.Write(b)
		return err
	})
	defer w.free()
	_, err := content.WriteTo(w)
	if err == nil {
		err = w.end(content)
	}
	switch {
	case err == nil:
		return nil
	case w.err != nil:
		return c.fault("write content", w.err)
	}
	c.Abort()
	return &ContentError{Err: err}
}
