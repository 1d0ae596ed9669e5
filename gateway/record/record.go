// Package record remembers each message, and each refusal before DATA, for as
// long as the configuration says, and finds them again.
//
// Writing never holds up mail: records go into a bounded queue, one goroutine
// writes them in batches, unsynced. A crash or a full queue loses history, never
// mail, and what was dropped is counted.
//
// The package knows nothing of SMTP: what a record says is the gateway's business.
package record

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern/gateway/mail"
	"postern/gateway/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config says what is kept. Its zero value serves.
type Config struct {
	Keep     time.Duration    // records older than this are deleted; 0 is 30 days
	Log      *slog.Logger     // nil is silence
	Now      func() time.Time // nil is time.Now; its zone is that of times in queries that name none
	ReadOnly bool             // for a command that searches while another process writes
}

const defaultKeep = 30 * 24 * time.Hour

// queueSize bounds what waits to be written: a few seconds of the most mail that
// a machine can take.
const queueSize = 10_000

// Store holds the records. Its methods may be called by several goroutines.
type Store struct {
	Config
	db      *store.DB
	queue   chan item
	flush   chan chan struct{}
	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup

	writer         // only for the goroutine that writes
	written, lost  atomic.Uint64
	unreadableOnce sync.Once
}

// item is what waits in the queue: a record, or a later delivery of a message.
type item struct {
	record   *mail.Record
	refusal  bool // may be summed
	id       string
	delivery mail.Delivery
}

// Open opens the records at path, and creates or migrates the database where
// that is needed. See store.Open for the errors.
func Open(ctx context.Context, path string, c Config) (*Store, error) {
	if c.Keep <= 0 {
		c.Keep = defaultKeep
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, path, store.Options{
		Durability: store.History, ReadOnly: c.ReadOnly, Migrations: steps,
		Repair: "it holds the message history only: stop Postern, and restore a backup or move the file away",
	})
	if err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	s := &Store{Config: c, db: db, queue: make(chan item, queueSize), flush: make(chan chan struct{})}
	s.stopped, s.stop = context.WithCancel(context.Background())
	if c.ReadOnly {
		return s, nil
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("open records: %w", s.closeWith(err))
	}
	s.running.Go(s.write)
	s.running.Go(s.expire)
	return s, nil
}

func (s *Store) closeWith(err error) error {
	_ = s.db.Close()
	return s.db.Explain(err)
}

// Observe takes the record of a message. It never blocks: when the queue is full
// the record is dropped and counted. Neither r nor what it points to may be
// changed afterwards.
func (s *Store) Observe(_ context.Context, r mail.Record) {
	s.put(item{record: &r})
}

// Refusal takes the record of a refusal before DATA. Past the first ten a minute
// of one client and reason they are summed: see Summer.
func (s *Store) Refusal(r mail.Record) {
	s.put(item{record: &r, refusal: true})
}

// Deliver adds a later attempt to the record of the message id, which may be
// written before or after.
func (s *Store) Deliver(id string, d mail.Delivery) {
	s.put(item{id: id, delivery: d})
}

func (s *Store) put(it item) {
	if s.ReadOnly || s.stopped.Err() != nil {
		s.lost.Add(1)
		return
	}
	select {
	case s.queue <- it:
	default:
		s.lost.Add(1)
	}
}

// Flush returns when everything handed in before has been written, or dropped
// with an error in the log. Refusals that are being summed still wait for the end
// of their minute.
func (s *Store) Flush(ctx context.Context) error {
	if s.ReadOnly {
		return nil
	}
	done := make(chan struct{})
	select {
	case s.flush <- done:
	case <-s.stopped.Done():
		return fmt.Errorf("flush records: %w", fs.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("flush records: %w", ctx.Err())
	}
	<-done // the writer is at it, and waits for nobody
	return nil
}

// Stats counts since Open.
type Stats struct {
	Queued  int    // records that wait to be written
	Written uint64 // records and deliveries
	Dropped uint64 // because the queue was full or the disk failed
}

// Stats may be asked at any time.
func (s *Store) Stats() Stats {
	return Stats{Queued: len(s.queue), Written: s.written.Load(), Dropped: s.lost.Load()}
}

// Backup writes a copy of the database to a new file, while the store runs.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	return s.db.Backup(ctx, path)
}

// Close writes what waits, and closes the database.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	return s.db.Close()
}
