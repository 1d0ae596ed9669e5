package quarantine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"postern/gateway/mail"
)

const (
	maxText = 1000 // octets of a text that nobody needs whole
	maxList = 1000
)

// Put keeps the original c with what e says of it, and returns its id: e.Message,
// or that with ".2", ".3" behind it where the message is held already. ID, Size
// and SHA256 of e are filled in, and Time where it is zero. Nothing is left of a
// Put that fails; see ErrFull and ErrFailed.
func (s *Store) Put(ctx context.Context, e Entry, c mail.Content) (id string, err error) {
	id, err = s.put(ctx, e, c)
	if err != nil {
		return "", fmt.Errorf("put %s into the quarantine: %w", e.Message, s.explain(err))
	}
	return id, nil
}

func (s *Store) put(ctx context.Context, e Entry, c mail.Content) (id string, err error) {
	if s.failed.Load() {
		return "", ErrFailed
	}
	e = bound(e)
	if e.Time.IsZero() {
		e.Time = s.Now()
	}
	if err := s.reserve(ctx, c.Size()); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			s.free(c.Size())
		}
	}()
	if e.ID, err = s.claim(ctx, e.Message); err != nil {
		return "", err
	}
	defer s.unclaim(e.ID)
	if err = s.writeFiles(ctx, &e, c); err == nil {
		// From here on it is done or not: a deadline must not leave it open.
		err = s.index.insert(context.WithoutCancel(ctx), e)
	}
	if err != nil {
		s.discard(e.ID)
		return "", err
	}
	return e.ID, nil
}

// bound cuts what a stranger chose and nobody needs whole.
func bound(e Entry) Entry {
	for _, text := range []*string{&e.Subject, &e.Reason, &e.Client, &e.HELO} {
		*text = cut(*text, maxText)
	}
	e.Symbols = boundList(e.Symbols)
	e.Unscanned = boundList(e.Unscanned)
	e.Recipients = slices.Clone(e.Recipients)
	if e.Recipients == nil {
		e.Recipients = []string{}
	}
	if math.IsNaN(e.Score) || math.IsInf(e.Score, 0) {
		e.Score = 0 // JSON has no word for it
	}
	return e
}

func boundList(list []string) []string {
	bounded := make([]string, 0, len(list))
	for _, s := range list[:min(len(list), maxList)] {
		bounded = append(bounded, cut(s, maxText))
	}
	return bounded
}

// cut shortens s to n octets, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// claim finds a free id and holds it until unclaim, so that no other Put takes it
// and no sweep takes its files for left over.
func (s *Store) claim(ctx context.Context, message string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, err := s.index.idsOf(ctx, message)
	if err != nil {
		return "", err
	}
	for i := 1; ; i++ {
		id := message
		if i > 1 {
			id = fmt.Sprintf("%s.%d", message, i)
		}
		if !mail.ValidID(id) {
			return "", fmt.Errorf("%q can't be an id", id)
		}
		if _, busy := s.inFlight[id]; busy || slices.Contains(taken, id) || s.hasFile(id) {
			continue
		}
		s.inFlight[id] = struct{}{}
		return id, nil
	}
}

// hasFile says whether an original lies there, in the index or not yet.
func (s *Store) hasFile(id string) bool {
	f, err := s.disk.open(fileName(id, originalEnd))
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

func (s *Store) unclaim(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, id)
}

func (s *Store) claimed(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.inFlight[id]
	return busy
}

// reserve takes n octets of the size that the quarantine may have, and makes room
// where there is none.
func (s *Store) reserve(ctx context.Context, n int64) error {
	if s.take(n) {
		return nil
	}
	s.room.Lock()
	defer s.room.Unlock()
	for !s.take(n) {
		err := s.makeRoom(ctx, n)
		if errors.Is(err, ErrFull) {
			s.alertFull()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take counts n octets if they fit, and warns at 80 %.
func (s *Store) take(n int64) bool {
	s.mu.Lock()
	if s.bytes+n > s.Size {
		s.mu.Unlock()
		return false
	}
	s.bytes += n
	s.refused = false
	warn := !s.warned && s.bytes >= share(s.Size, 80)
	s.warned = s.warned || warn
	s.mu.Unlock()
	if warn {
		s.Alert("quarantine.size", fmt.Sprintf(
			"The quarantine is at 80 %% of its %d MB. When it is full, spam older than three days is deleted first; then mail that would be held is put off.", s.Size/1e6))
	}
	return true
}

// free gives octets back. The warning may come again once it is clearly under
// the mark, not at each message around it.
func (s *Store) free(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= n
	if s.bytes < share(s.Size, 75) {
		s.warned = false
	}
}

func share(size, percent int64) int64 { return size / 100 * percent }

func (s *Store) alertFull() {
	s.mu.Lock()
	first := !s.refused
	s.refused = true
	s.mu.Unlock()
	if first {
		s.Log.Error("quarantine full", "size", s.Size)
		s.Alert("quarantine.full", fmt.Sprintf(
			"The quarantine's %d MB are full and nothing in it is older than three days: mail that would be held is put off. Raise quarantine.size, or delete entries.", s.Size/1e6))
	}
}
