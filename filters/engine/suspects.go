package engine

import (
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"postern/gateway/mail"
)

// What a failure weighs against the message that was being scanned, and how much
// condemns it. An engine that dies with a message twice does not get it a third
// time. A time-out weighs half: an engine may simply have too much to do, and
// then a deferred message is better than a held one.
const (
	weightDied   = 2
	weightSlow   = 1
	condemnedAt  = 4
	maxSuspects  = 1000
	suspicionEnd = 24 * time.Hour // as long as a sender is likely to try again
)

// weight says how much an error speaks against the message.
func weight(err error) int {
	switch {
	case err == nil || errors.Is(err, ErrContent):
		return 0
	case errors.Is(err, ErrOnMessage) || cut(err):
		return weightDied
	case timedOut(err):
		return weightSlow
	}
	return 0
}

// cut says that the peer ended the connection before it had answered.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// suspects are the messages that an engine failed on, by their digest, oldest
// first. It is empty as long as engines do not fail, and costs nothing then.
type suspects struct {
	mu   sync.Mutex
	list []suspect
}

type suspect struct {
	digest [sha256.Size]byte
	weight int
	last   time.Time
}

// strike holds a failure against c, and says whether it is condemned by now.
func (s *suspects) strike(c mail.Content, weight int) bool {
	digest, err := digest(c)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	now := suspect{digest: digest, weight: weight, last: time.Now()}
	if i := s.find(digest); i >= 0 {
		now.weight += s.list[i].weight
		s.list = append(s.list[:i], s.list[i+1:]...)
	}
	if len(s.list) == maxSuspects {
		s.list = append(s.list[:0], s.list[1:]...)
	}
	s.list = append(s.list, now)
	return now.weight >= condemnedAt
}

// condemned says whether c must not be shown to the engine again. The message
// is read for that only where there are suspects at all.
func (s *suspects) condemned(c mail.Content) bool {
	s.mu.Lock()
	s.expire()
	none := len(s.list) == 0
	s.mu.Unlock()
	if none {
		return false
	}
	digest, err := digest(c)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(digest)
	return i >= 0 && s.list[i].weight >= condemnedAt
}

func (s *suspects) find(digest [sha256.Size]byte) int {
	for i := range s.list {
		if s.list[i].digest == digest {
			return i
		}
	}
	return -1
}

// expire drops those that have not failed for long; they stand first.
func (s *suspects) expire() {
	n := 0
	for n < len(s.list) && time.Since(s.list[n].last) > suspicionEnd {
		n++
	}
	s.list = append(s.list[:0], s.list[n:]...)
}

func digest(c mail.Content) (d [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := c.WriteTo(h); err != nil {
		return d, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
