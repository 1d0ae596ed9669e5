package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"postern/gateway/mail"
)

const (
	youngest    = 3 * 24 * time.Hour // nothing younger is deleted for want of room
	batch       = 100                // entries deleted in one transaction
	expireEvery = time.Hour
	expireFirst = 10 * time.Minute // a clock that is wrong after a power cut has been set by then
	orphanAge   = time.Hour        // what lies there without an entry for so long was left by a crash
	clockJump   = time.Hour
	clockHold   = 24 * time.Hour
)

// sacrifice is the order in which classes make room: what was most surely
// unwanted first; last what somebody was promised that it would not be lost.
var sacrifice = [...]mail.Class{mail.ClassSpam, mail.ClassVirus, mail.ClassPolicy, mail.ClassAttachment, mail.ClassUndeliverable}

// makeRoom deletes old entries until n octets fit, or nothing at all when that is
// not enough.
func (s *Store) makeRoom(ctx context.Context, n int64) error {
	s.mu.Lock()
	need := s.bytes + n - s.Size
	s.mu.Unlock()
	if n > s.Size {
		return ErrFull
	}
	before := s.Now().Add(-youngest)
	var chosen []item
	for _, class := range sacrifice {
		for limit := batch; need > 0; limit *= 2 {
			items, err := s.index.older(ctx, class, before, limit)
			if err != nil {
				return err
			}
			enough := 0
			for sum := need; enough < len(items) && sum > 0; enough++ {
				sum -= items[enough].size
			}
			if freed := total(items[:enough]); freed >= need || len(items) < limit {
				chosen, need = append(chosen, items[:enough]...), need-freed
				break
			}
		}
	}
	if need > 0 {
		return ErrFull
	}
	deleted, err := s.remove(ctx, chosen)
	if deleted > 0 {
		s.Log.Warn("quarantine over its size, oldest deleted", "count", deleted, "size", s.Size)
	}
	return err
}

func total(items []item) (n int64) {
	for _, it := range items {
		n += it.size
	}
	return n
}

// remove deletes entries in an order in which a crash loses nothing that was to
// stay, and at worst keeps what was to go: a sidecar that is missing is no harm,
// an original without sidecar and row is swept.
func (s *Store) remove(ctx context.Context, items []item) (n int, err error) {
	for len(items) > 0 {
		some := items[:min(len(items), batch)]
		items = items[len(some):]
		for _, it := range some {
			if err := s.disk.remove(fileName(it.id, sidecarEnd)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return n, err
			}
		}
		deleted, err := s.index.delete(ctx, some)
		if err != nil {
			return n, err
		}
		n += len(deleted)
		s.free(total(deleted))
		for _, it := range deleted {
			if err := s.disk.remove(fileName(it.id, originalEnd)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return n, err
			}
		}
	}
	return n, nil
}

// Expire deletes entries older than Keep and what crashes left behind, and
// returns the number of entries deleted.
func (s *Store) Expire(ctx context.Context) (n int, err error) {
	before := s.Now().Add(-s.Keep)
	for {
		items, err := s.index.older(ctx, "", before, batch)
		if err == nil && len(items) == 0 {
			break
		}
		var deleted int
		if err == nil {
			deleted, err = s.remove(ctx, items)
			n += deleted
		}
		if err != nil {
			return n, fmt.Errorf("expire the quarantine: %w", s.explain(err))
		}
	}
	if err := s.sweep(ctx); err != nil {
		return n, fmt.Errorf("expire the quarantine: %w", s.explain(err))
	}
	return n, nil
}

// Run expires hourly until ctx ends. When the clock jumps ahead it waits for a
// day: somebody has set it right, or will, and nothing is lost meanwhile.
func (s *Store) Run(ctx context.Context) {
	began, c := time.Now(), clock{wall: s.Now()}
	wait := time.NewTimer(expireFirst)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		wait.Reset(expireEvery)
		if jump, ok := c.look(s.Now(), time.Since(began)); !ok {
			s.Log.Warn("clock jumped, quarantine not expired", "by", jump)
			continue
		}
		n, err := s.Expire(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.Error("expire quarantine", "deleted", n, "err", err)
		case n > 0:
			s.Log.Info("quarantine expired", "deleted", n)
		}
	}
}

// clock compares the time of day with the time that has passed.
type clock struct {
	wall    time.Time     // at the last look
	elapsed time.Duration // since the start, at the last look
	hold    time.Duration // of elapsed, until which the clock is not trusted
}

// look says whether the time of day may be trusted, and by how much it jumped.
func (c *clock) look(wall time.Time, elapsed time.Duration) (jump time.Duration, ok bool) {
	// Round takes the monotonic reading away, which knows nothing of jumps.
	jump = wall.Round(0).Sub(c.wall.Round(0)) - (elapsed - c.elapsed)
	c.wall, c.elapsed = wall, elapsed
	switch {
	case jump > clockJump:
		c.hold = elapsed + clockHold
	case jump < -clockJump: // set right again, or set back: what is too young stays
		c.hold = 0
	}
	return jump, elapsed >= c.hold
}
