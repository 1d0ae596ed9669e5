package record

import (
	"context"
	"errors"
	"time"
)

const (
	expireEvery = time.Hour
	expireFirst = time.Minute // after the start, which has enough to do
	expireChunk = 500         // rows in one transaction: a few milliseconds
)

// expire deletes what is old until the store is closed.
func (s *Store) expire() {
	wait := time.NewTimer(expireFirst)
	defer wait.Stop()
	for {
		select {
		case <-s.stopped.Done():
			return
		case <-wait.C:
		}
		if n, err := s.Expire(s.stopped); err != nil && !errors.Is(err, context.Canceled) {
			s.Log.Error("expire records", "deleted", n, "err", err)
		}
		wait.Reset(expireEvery)
	}
}

// Expire deletes what is older than Keep, and returns the number of records. It
// does so in small transactions, between which others may write.
func (s *Store) Expire(ctx context.Context) (deleted int64, err error) {
	before := lowest(s.Now().Add(-s.Keep))
	deleted, err = s.deleteAll(ctx, "DELETE FROM records WHERE n IN (SELECT n FROM records WHERE n < ? ORDER BY n LIMIT ?)", before)
	for _, also := range []struct {
		query string
		limit int64
	}{
		{"DELETE FROM words WHERE n IN (SELECT n FROM words WHERE n < ? ORDER BY n LIMIT ?)", before},
		{"DELETE FROM deliveries WHERE n IN (SELECT n FROM deliveries WHERE n < ? ORDER BY n LIMIT ?)", before},
		// The terms of a day of which records are left stay with it: a search skips them.
		{"DELETE FROM terms WHERE (day, hash, n) IN (SELECT day, hash, n FROM terms WHERE day < ? LIMIT ?)", day(before)},
	} {
		if err == nil {
			_, err = s.deleteAll(ctx, also.query, also.limit)
		}
	}
	return deleted, s.db.Explain(err)
}

func (s *Store) deleteAll(ctx context.Context, query string, before int64) (deleted int64, err error) {
	for {
		result, err := s.db.Writer().ExecContext(ctx, query, before, expireChunk)
		if err != nil {
			return deleted, err
		}
		n, err := result.RowsAffected()
		deleted += n
		if n < expireChunk || err != nil {
			return deleted, err
		}
	}
}
