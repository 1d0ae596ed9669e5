package mail

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// Content is the octets of a message as they were received, or as they are to
// leave. It never changes, and may be read by several goroutines at once.
type Content interface {
	io.ReaderAt
	// WriterTo writes all of it, from the first octet, at each call.
	io.WriterTo
	// Size is the number of octets.
	Size() int64
}

// NewReader reads c from its first octet.
func NewReader(c Content) *io.SectionReader { return io.NewSectionReader(c, 0, c.Size()) }

// Bytes is content in memory.
type Bytes []byte

// Size implements Content.
func (b Bytes) Size() int64 { return int64(len(b)) }

// ReadAt implements Content.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo implements Content.
func (b Bytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// File is content in a range of an open file. Who opened the file closes it.
type File struct {
	file   *os.File
	offset int64
	size   int64
}

// NewFile is the size octets of f from offset on.
func NewFile(f *os.File, offset, size int64) *File {
	return &File{file: f, offset: offset, size: size}
}

// Size implements Content.
func (f *File) Size() int64 { return f.size }

// ReadAt implements Content. A file that is shorter than its size said is an
// error, never a shorter message.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), f.size-off)]
	n, err := f.file.ReadAt(want, f.offset+off)
	switch {
	case n < len(want):
		if err == nil || err == io.EOF {
			err = fmt.Errorf("read %s: %w", f.file.Name(), io.ErrUnexpectedEOF)
		}
		return n, err
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// WriteTo implements Content.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	// The struct hides SectionReader's own WriteTo, so that buf is used.
	return io.CopyBuffer(w, struct{ io.Reader }{NewReader(f)}, buf[:])
}

const copyBuffer = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
