package smtpd

import (
	"io"
	"sync"
)

const (
	smallBuffer = 4 << 10  // of a connection; holds a command line, and some pipelined ones
	largeBuffer = 64 << 10 // while content is read
)

// largeBuffers are shared: a client that is silent holds none.
var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// input buffers what the client sent.
type input struct {
	small [smallBuffer]byte
	large *[largeBuffer]byte // nil unless content is read, or was followed by more than small can hold
	r, w  int                // what is unread, in the buffer in use
	err   error              // came together with the last octets
}

func (in *input) buffer() []byte {
	if in.large != nil {
		return in.large[:]
	}
	return in.small[:]
}

// unread is what was read from the client and not yet used. It is valid until
// the next call of fill, widen or narrow.
func (in *input) unread() []byte { return in.buffer()[in.r:in.w] }

// discard uses n octets.
func (in *input) discard(n int) { in.r += n }

// drop forgets all that is unread.
func (in *input) drop() { in.r, in.w = 0, 0 }

// fill reads once from r, behind what is unread. There must be room for it.
func (in *input) fill(r io.Reader) error {
	if in.err != nil {
		return in.err
	}
	b := in.buffer()
	in.w = copy(b, b[in.r:in.w])
	in.r = 0
	n, err := r.Read(b[in.w:])
	in.w += n
	if n > 0 {
		in.err, err = err, nil
	}
	return err
}

// widen changes to the large buffer.
func (in *input) widen() {
	if in.large != nil {
		return
	}
	large := largeBuffers.Get().(*[largeBuffer]byte)
	in.w = copy(large[:], in.small[in.r:in.w])
	in.r = 0
	in.large = large
}

// narrow gives the large buffer back, unless it holds more than the small one
// can.
func (in *input) narrow() {
	if in.large == nil || in.w-in.r > smallBuffer {
		return
	}
	in.w = copy(in.small[:], in.large[in.r:in.w])
	in.r = 0
	in.release()
}

// release gives the large buffer back, whatever it holds.
func (in *input) release() {
	if in.large != nil {
		largeBuffers.Put(in.large)
		in.large = nil
	}
}
