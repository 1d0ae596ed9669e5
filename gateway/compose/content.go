package compose

import (
	"io"
	"sort"
	"sync"

	"postern/gateway/mail"
)

// edit replaces a span of the original by other octets.
type edit struct {
	span mail.Span
	data []byte
}

// segment is a run of octets of the outgoing content.
type segment struct {
	start int64  // in the outgoing content
	size  int64  //
	data  []byte // the octets, where they are in memory
	from  int64  // where they start in the original, otherwise
}

// outgoing is content made of new octets and spans of the original.
type outgoing struct {
	original mail.Content
	segments []segment
	size     int64
	room     [6]segment // for the usual message, so that segments needs no memory of its own
}

// assemble is head and then the original with its edits, which have to be in
// the order of their spans. Where two overlap the first one wins: a part that
// lies within a replaced part is gone with it.
func assemble(head []byte, original mail.Content, edits []edit) *outgoing {
	o := &outgoing{original: original}
	o.segments = o.room[:0]
	o.add(head)
	pos := int64(0)
	for _, e := range edits {
		if e.span.Start < pos {
			continue
		}
		o.keep(pos, e.span.Start)
		o.add(e.data)
		pos = max(e.span.Start, e.span.End)
	}
	if original != nil {
		o.keep(pos, original.Size())
	}
	return o
}

// add appends octets that are in memory.
func (o *outgoing) add(data []byte) {
	if len(data) == 0 {
		return
	}
	n := int64(len(data))
	o.segments = append(o.segments, segment{start: o.size, size: n, data: data})
	o.size += n
}

// keep appends a span of the original.
func (o *outgoing) keep(start, end int64) {
	end = min(end, o.original.Size())
	if end <= start {
		return
	}
	if b, ok := o.original.(mail.Bytes); ok {
		o.add(b[start:end])
		return
	}
	o.segments = append(o.segments, segment{start: o.size, size: end - start, from: start})
	o.size += end - start
}

// Size implements mail.Content.
func (o *outgoing) Size() int64 { return o.size }

// ReadAt implements mail.Content.
func (o *outgoing) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= o.size {
		return 0, io.EOF
	}
	done := 0
	i := sort.Search(len(o.segments), func(i int) bool {
		return o.segments[i].start+o.segments[i].size > off
	})
	for ; i < len(o.segments) && done < len(p); i++ {
		s := o.segments[i]
		n, err := o.readSegment(s, p[done:], off+int64(done)-s.start)
		done += n
		if err != nil {
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readSegment fills p with the octets of s from offset on, as far as s reaches.
// Less than that is an error: a message is never silently shorter.
func (o *outgoing) readSegment(s segment, p []byte, offset int64) (int, error) {
	p = p[:min(int64(len(p)), s.size-offset)]
	if s.data != nil {
		return copy(p, s.data[offset:]), nil
	}
	n, err := o.original.ReadAt(p, s.from+offset)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// WriteTo implements mail.Content. What is in memory is handed on as it is.
func (o *outgoing) WriteTo(w io.Writer) (total int64, err error) {
	for _, s := range o.segments {
		n, err := o.writeSegment(w, s)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (o *outgoing) writeSegment(w io.Writer, s segment) (int64, error) {
	if s.data != nil {
		n, err := w.Write(s.data)
		return int64(n), err
	}
	r := io.NewSectionReader(o.original, s.from, s.size)
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	// The structs hide methods that would copy with a buffer of their own.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf[:])
	if err == nil && n < s.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

const copyBuffer = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
