package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"postern/gateway/mail"
)

// inMemory is the size up to which one message's content stays in memory, and
// memoryBudget what all messages in hand may hold there together: beyond either,
// content goes to a file that has no name, so that a crash leaves none behind.
const (
	inMemory     = 1 << 20
	memoryBudget = 64 << 20
)

// A receiver takes the octets of one message as they arrive.
type receiver struct {
	dir      string        // for files
	held     *atomic.Int64 // octets that all receivers together hold in memory
	declared int64         // octets that the client said will come; 0 is unknown

	buf     []byte
	counted int64
	file    *os.File
	size    int64
}

// newReceiver expects size octets; 0 is unknown. What a client only declares is
// given little memory: it may never come.
func newReceiver(dir string, held *atomic.Int64, size int64) *receiver {
	r := &receiver{dir: dir, held: held, declared: size}
	r.buf = make([]byte, 0, min(max(size, 4<<10), 64<<10))
	return r
}

// Write implements io.Writer.
func (r *receiver) Write(p []byte) (int, error) {
	if need := int64(len(r.buf) + len(p)); r.file == nil && (need > inMemory || !r.fits(need)) {
		if err := r.spill(); err != nil {
			return 0, err
		}
	}
	r.size += int64(len(p))
	if r.file != nil {
		return r.file.Write(p)
	}
	r.grow(int64(len(r.buf) + len(p)))
	r.buf = append(r.buf, p...)
	r.count(int64(len(r.buf)))
	return len(p), nil
}

// fits says whether n octets of this message are within the budget of all.
func (r *receiver) fits(n int64) bool { return r.held.Load()+max(0, n-r.counted) <= memoryBudget }

// count makes n octets of the budget ours, at least.
func (r *receiver) count(n int64) {
	if more := n - r.counted; more > 0 {
		r.counted = n
		r.held.Add(more)
	}
}

// grow makes room for need octets: by what was declared, once an eighth of it
// has come, so that a large message is not copied at each doubling, and one that
// is only declared costs little. What nobody declared append makes room for.
func (r *receiver) grow(need int64) {
	room := min(8*need, r.declared)
	if need <= int64(cap(r.buf)) || r.declared > inMemory || room < need || !r.fits(room) {
		return
	}
	grown := make([]byte, len(r.buf), room)
	copy(grown, r.buf)
	r.buf = grown
	r.count(room) // it is taken, though most of it may never come
}

// spill moves what is in memory to a file.
func (r *receiver) spill() (err error) {
	if r.file, err = nameless(r.dir); err != nil {
		return err
	}
	_, err = r.file.Write(r.buf)
	r.release()
	r.buf = nil
	return err
}

// content is what was written. The receiver must stay open while it is read.
func (r *receiver) content() mail.Content {
	if r.file != nil {
		return mail.NewFile(r.file, 0, r.size)
	}
	return mail.Bytes(r.buf)
}

// close gives back the file and the memory's share of the budget. The memory
// itself is left to the garbage collector and never used again for another
// message: a filter that overstayed its time may still be reading it.
func (r *receiver) close() {
	r.release()
	if r.file != nil {
		_ = r.file.Close() // nothing is to be kept of it
	}
}

func (r *receiver) release() {
	r.held.Add(-r.counted)
	r.counted = 0
}

// nameless opens a file in dir that vanishes when it is closed.
func nameless(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|syscall.O_CLOEXEC|oTmpfile, 0o600)
	if err == nil {
		return f, nil
	}
	if f, err = os.CreateTemp(dir, "content-*"); err != nil {
		return nil, fmt.Errorf("keep content: %w", err)
	}
	return f, os.Remove(f.Name())
}

// oTmpfile is Linux's O_TMPFILE; where a file system lacks it, the open fails
// and CreateTemp takes over.
const oTmpfile = 0o20000000 | syscall.O_DIRECTORY

// isFull says that err means a full disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

var _ io.Writer = (*receiver)(nil)
