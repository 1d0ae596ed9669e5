package spool

import (
	"time"

	"postern/gateway/spool/disk"
)

const (
	maxGap    = 24 * time.Hour // what a start believes of the time since the last one
	beatEvery = time.Minute
)

// clock says how long the spool has been in use. It never jumps: while the
// process runs it is the machine's monotonic clock, and of the wall clock it
// believes, once at each start, between nothing and a day.
type clock struct {
	started time.Time // with its monotonic reading
	base    time.Duration
}

// resume goes on where the spool's files say that it was. known is the latest
// that was found in any item.
func resume(wall func() time.Time, known time.Duration, d *disk.Folder) *clock {
	c := &clock{started: time.Now(), base: known}
	if t, ok := d.ReadTick(); ok {
		gap := wall().Round(0).Sub(t.Wall)
		c.base = max(known, t.Clock+min(maxGap, max(0, gap)))
	}
	return c
}

func (c *clock) now() time.Duration { return c.base + time.Since(c.started) }

// beat writes the time down. One that is lost costs a minute of a lifetime.
func (s *Spool) beat() {
	t := disk.Tick{Wall: s.cfg.Now().Round(0).UTC(), Clock: s.clock.now()}
	if err := s.folder.WriteTick(t); err != nil {
		s.cfg.Log.Warn("spool clock not written", "err", err)
	}
}

// date is when, on the wall, a time of the spool's clock will be.
func (s *Spool) date(d time.Duration) time.Time {
	return s.cfg.Now().Round(0).UTC().Add(d - s.clock.now())
}
