package mime

import (
	"bytes"
	"io"
)

// slack is how much more a decoder may write than it is given: what it held
// back of the octets before.
const slack = 80

// decoder undoes a transfer encoding. It never fails: what does not belong into
// the encoding is passed over, as clients do.
type decoder interface {
	// decode writes at most len(src)+slack octets.
	decode(dst, src []byte) int
	// end writes what was held back, at most slack octets.
	end(dst []byte) int
}

// newDecoder is the decoder for an encoding; nil where there is nothing to undo.
func newDecoder(encoding string) decoder {
	switch encoding {
	case Base64:
		return &base64Decoder{}
	case QuotedPrintable:
		return &qpDecoder{}
	case UUEncode:
		return &uuDecoder{}
	}
	return nil
}

// Encoded says that a body of that encoding, named as ParseEncoding does, is
// other octets than those that it encodes.
func Encoded(encoding string) bool {
	return encoding == Base64 || encoding == QuotedPrintable || encoding == UUEncode
}

// NewReader reads what src encodes. Of an encoding that is not Encoded it is src
// itself. Faults of the encoding are no errors; only those of src are returned.
func NewReader(encoding string, src io.Reader) io.Reader {
	if d := newDecoder(encoding); d != nil {
		return &reader{src: src, decoder: d}
	}
	return src
}

// NewBytesReader reads what b encodes, as NewReader does, without a buffer in
// between. b must not change while it is read.
func NewBytesReader(encoding string, b []byte) io.Reader {
	if d := newDecoder(encoding); d != nil {
		return &reader{decoder: d, rest: b}
	}
	return bytes.NewReader(b)
}

// reader is a decoded body.
type reader struct {
	src     io.Reader // nil where all of it is in rest
	decoder decoder
	in      []byte // buffer of src
	rest    []byte // read but not decoded
	err     error

	held  []byte // decoded but not handed out
	small [4 * slack]byte
}

// Read implements io.Reader. It decodes straight into p where p is large enough.
func (r *reader) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(r.held) > 0:
			n := copy(p, r.held)
			r.held = r.held[n:]
			return n, nil
		case r.err != nil:
			return 0, r.err
		case len(p) < len(r.small):
			n := r.fill(r.small[:])
			r.held = r.small[:n]
		default:
			if n := r.fill(p); n > 0 {
				return n, nil
			}
		}
	}
}

// fill decodes into p until something came out or the body is at its end.
func (r *reader) fill(p []byte) int {
	for {
		if len(r.rest) == 0 {
			if err := r.more(); err != nil {
				r.err = err
				return r.decoder.end(p)
			}
		}
		n := min(len(r.rest), len(p)-slack)
		decoded := r.decoder.decode(p, r.rest[:n])
		r.rest = r.rest[n:]
		if decoded > 0 {
			return decoded
		}
	}
}

func (r *reader) more() error {
	if r.src == nil {
		return io.EOF
	}
	if r.in == nil {
		r.in = make([]byte, 16<<10)
	}
	n, err := r.src.Read(r.in)
	r.rest = r.in[:n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
