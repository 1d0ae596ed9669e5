package record

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"postern/gateway/mail"
	"postern/gateway/store"
)

const (
	batchSize = 1000        // items in one transaction
	sumCheck  = time.Second // how often sums are looked at
	complain  = time.Minute // between two lines in the log about lost records
)

// pace is how long a first item waits for others to share its transaction with,
// by the size of the batch before. Under load it is longer: a large batch writes
// each page of the index once, a small one writes nearly one a row.
func pace(last int) time.Duration {
	switch {
	case last < 8:
		return 5 * time.Millisecond
	case last < 100:
		return 100 * time.Millisecond
	}
	return 500 * time.Millisecond
}

// writer is the state of the one goroutine that writes.
type writer struct {
	insertRecord   *bulk
	insertWords    *bulk
	insertTerm     *bulk
	insertDelivery *bulk
	encoder        encoder
	summer         Summer
	serial         int64
	wait           time.Duration
	complained     time.Time
	reported       uint64
}

func (s *Store) prepare() (err error) {
	db := s.db.Writer()
	s.serial, s.wait = rand.Int64N(1<<serialBits), pace(0)
	if s.insertRecord, err = newBulk(db, "INSERT OR FAIL INTO records (n, data) VALUES", 2, 16); err != nil {
		return err
	}
	if s.insertWords, err = newBulk(db, "INSERT OR FAIL INTO words (n, words) VALUES", 2, 32); err != nil {
		return err
	}
	if s.insertTerm, err = newBulk(db, "INSERT OR FAIL INTO terms (day, hash, n) VALUES", 3, 64); err != nil {
		return err
	}
	s.insertDelivery, err = newBulk(db, "INSERT OR FAIL INTO deliveries (n, id, data) VALUES", 3, 1)
	return err
}

// write takes from the queue until the store is closed.
func (s *Store) write() {
	sums := time.NewTicker(sumCheck)
	defer sums.Stop()
	for {
		select {
		case it := <-s.queue:
			s.gather(it)
		case done := <-s.flush:
			s.drain()
			close(done)
		case <-sums.C:
			s.writeSums(s.summer.Due(s.Now()))
		case <-s.stopped.Done():
			s.drain()
			s.writeSums(s.summer.Rest())
			return
		}
	}
}

// gather waits a little for others to share the transaction with, and longer
// when many came the last time. It sleeps rather than wake up for each of them.
func (s *Store) gather(first item) {
	if len(s.queue) < batchSize {
		wait := time.NewTimer(s.wait)
		defer wait.Stop()
		select {
		case <-wait.C:
		case done := <-s.flush:
			defer close(done)
			defer s.drain()
		case <-s.stopped.Done():
		}
	}
	batch := s.take([]item{first})
	s.wait = pace(len(batch))
	s.writeBatch(batch)
}

// take fills the batch with what waits.
func (s *Store) take(batch []item) []item {
	for len(batch) < batchSize {
		select {
		case it := <-s.queue:
			batch = append(batch, it)
		default:
			return batch
		}
	}
	return batch
}

func (s *Store) drain() {
	for {
		batch := s.take(nil)
		if len(batch) == 0 {
			return
		}
		s.writeBatch(batch)
	}
}

// writeBatch writes all in one transaction. Where that fails because of one of
// them, each gets its own, so that only the bad one is lost.
func (s *Store) writeBatch(batch []item) {
	batch = slices.DeleteFunc(batch, s.summed)
	rows := make([]row, 0, len(batch))
	for _, it := range batch {
		r, err := s.encode(it)
		if err != nil {
			s.drop(1, err)
			continue
		}
		rows = append(rows, r)
	}
	err := s.insert(rows)
	if err == nil {
		return
	}
	if !errors.Is(err, store.ErrConflict) { // all would fail in the same way, and mail goes on
		s.drop(len(rows), err)
		return
	}
	for _, r := range rows {
		r.n = s.number(r.time)
		if err := s.insert([]row{r}); err != nil {
			s.drop(1, err)
		}
	}
}

func (s *Store) summed(it item) bool {
	return it.refusal && !s.summer.Add(*it.record, s.Now())
}

func (s *Store) writeSums(sums []mail.Record) {
	for some := range slices.Chunk(sums, batchSize) {
		batch := make([]item, len(some))
		for i := range some {
			batch[i] = item{record: &some[i]}
		}
		s.writeBatch(batch)
	}
}

func (s *Store) insert(rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	var records, words, deliveries []any
	for _, r := range rows {
		if r.later {
			deliveries = append(deliveries, r.n, r.id, r.data)
		} else {
			records = append(records, r.n, r.data)
			words = append(words, r.n, r.words)
		}
	}
	ctx := context.Background() // bounded by the busy timeout; a deadline would cost a goroutine a statement
	err := s.db.Update(ctx, func(tx *sql.Tx) error {
		if err := s.insertRecord.exec(tx, records); err != nil {
			return err
		}
		if err := s.insertWords.exec(tx, words); err != nil {
			return err
		}
		if err := s.insertTerm.exec(tx, index(rows)); err != nil {
			return err
		}
		return s.insertDelivery.exec(tx, deliveries)
	})
	if err == nil {
		s.written.Add(uint64(len(rows)))
	}
	return err
}

// index is the rows of the index, in its order: what lies on one page is written
// together.
func index(rows []row) []any {
	type entry struct {
		day int64
		t   term
		n   int64
	}
	var entries []entry
	for _, r := range rows {
		for _, t := range r.terms {
			entries = append(entries, entry{day(r.n), t, r.n})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.t, b.t), cmp.Compare(a.n, b.n))
	})
	args := make([]any, 0, 3*len(entries))
	for _, e := range entries {
		args = append(args, e.day, int64(e.t), e.n)
	}
	return args
}

// drop counts what could not be written, and says so now and then: a full disk
// must not fill the log too.
func (s *Store) drop(n int, err error) {
	lost := s.lost.Add(uint64(n))
	now := s.Now()
	if now.Sub(s.complained) < complain && !s.complained.IsZero() {
		return
	}
	s.complained = now
	s.Log.Error("records lost", "count", lost-s.reported, "err", err)
	s.reported = lost
}

// bulk is an INSERT of several rows at once: fewer calls into the database for
// the same rows.
type bulk struct {
	columns, rows int
	many, one     *sql.Stmt
}

func newBulk(db *sql.DB, insert string, columns, rows int) (*bulk, error) {
	values := "(?" + strings.Repeat(", ?", columns-1) + ")"
	one, err := db.Prepare(insert + " " + values)
	if err != nil {
		return nil, err
	}
	many, err := db.Prepare(insert + " " + values + strings.Repeat(", "+values, rows-1))
	return &bulk{columns, rows, many, one}, err
}

func (b *bulk) exec(tx *sql.Tx, args []any) error {
	for _, s := range []struct {
		stmt *sql.Stmt
		size int
	}{{b.many, b.columns * b.rows}, {b.one, b.columns}} {
		if len(args) < s.size {
			continue
		}
		stmt := tx.Stmt(s.stmt)
		for len(args) >= s.size {
			if _, err := stmt.Exec(args[:s.size]...); err != nil {
				return err
			}
			args = args[s.size:]
		}
	}
	return nil
}
