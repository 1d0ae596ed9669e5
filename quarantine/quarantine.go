// Package quarantine keeps the originals of messages that were held back, byte
// for byte as they were received, with an index by which they are found, released
// and expired.
//
// Each original is a file with a second one beside it that says what it is, so
// the index, a SQLite database, can be made anew from the files at any time. Put
// returns when both files and the index would survive a power cut: the gateway
// takes responsibility for the message (RFC 5321, section 6.1) with what follows.
//
// Why a message is held is for scoring to say, who may see or release it for the
// commands and the console.
package quarantine

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"postern/gateway/mail"
	"postern/gateway/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// What callers tell apart.
var (
	ErrNotFound = errors.New("not in the quarantine")
	// ErrFull says that the disk is full, or the size that the quarantine may have
	// is reached and nothing in it is old enough to go.
	ErrFull = errors.New("the quarantine is full")
	// ErrFailed says that the disk did not take a synced write. What it holds is
	// then unknown, so nothing new is taken until the store is opened anew.
	ErrFailed = errors.New("the quarantine's disk failed")
	// ErrDamaged says that an original is not what was put in.
	ErrDamaged = errors.New("the original is damaged")
)

// Entry is what is known of one held message. Recipients and Sender are kept
// whole, since a release goes there; other texts are cut at 1,000 octets.
type Entry struct {
	ID         string     `json:"id"`
	Time       time.Time  `json:"time"`
	Sender     string     `json:"sender"` // "" is the null reverse-path
	Recipients []string   `json:"recipients"`
	Subject    string     `json:"subject"`
	Size       int64      `json:"size"` // octets of the original
	Class      mail.Class `json:"class"`
	Reason     string     `json:"reason"`
	Symbols    []string   `json:"symbols"`
	Score      float64    `json:"score"`

	Message   string    `json:"message"`             // the message's id; several entries may come from one
	Unscanned []string  `json:"unscanned,omitempty"` // engines that were silent
	SMTPUTF8  bool      `json:"smtputf8,omitempty"`  // RFC 6531
	EightBit  bool      `json:"eight_bit,omitempty"` // RFC 6152
	Client    string    `json:"client,omitempty"`
	HELO      string    `json:"helo,omitempty"`
	Released  []Release `json:"released,omitempty"`
	SHA256    string    `json:"sha256"`
}

// Release is one delivery of a held message.
type Release struct {
	To    string    `json:"to"`
	Time  time.Time `json:"time"`
	Reply string    `json:"reply"`
}

// Config says where and how long. Only Dir has no default.
type Config struct {
	Dir      string        // holds nothing else
	Keep     time.Duration // entries older than this are deleted; 0 is 30 days
	Size     int64         // octets of all originals; 0 is 20 GB
	Log      *slog.Logger  // nil is silence
	Now      func() time.Time
	Alert    func(key, text string) // for the admin; nil is nobody
	ReadOnly bool                   // to look while another process writes
}

const (
	defaultKeep = 30 * 24 * time.Hour
	defaultSize = 20_000_000_000
	indexName   = "index.db"
)

// Store is an open quarantine. Its methods may be called by several goroutines;
// one process writes at a time.
type Store struct {
	Config
	disk  disk
	index index

	mu       sync.Mutex
	bytes    int64               // of the originals, those on their way included
	inFlight map[string]struct{} // ids whose Put has not returned
	warned   bool                // of 80 %
	refused  bool                // for want of room, the last time

	room   sync.Mutex // held while room is made
	failed atomic.Bool
}

// Open opens the quarantine at c.Dir, and creates or migrates it where that is
// needed. An index that is missing or damaged is made anew from the files.
func Open(ctx context.Context, c Config) (*Store, error) {
	return open(ctx, c, nil)
}

// open takes another disk, for tests of faults.
func open(ctx context.Context, c Config, wrap func(disk) disk) (*Store, error) {
	s := &Store{Config: withDefaults(c), inFlight: map[string]struct{}{}}
	if !c.ReadOnly {
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("open quarantine: %w", err)
		}
	}
	root, err := openDisk(c.Dir, !c.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	if s.disk = root; wrap != nil {
		s.disk = wrap(root)
	}
	if err := s.openIndex(ctx); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func withDefaults(c Config) Config {
	if c.Keep <= 0 {
		c.Keep = defaultKeep
	}
	if c.Size <= 0 {
		c.Size = defaultSize
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Alert == nil {
		c.Alert = func(string, string) {}
	}
	return c
}

func (s *Store) openIndex(ctx context.Context) (err error) {
	if s.index, err = openIndex(ctx, s.indexPath(), s.ReadOnly); s.ReadOnly {
		return err
	}
	if errors.Is(err, store.ErrDamaged) {
		s.Log.Error("quarantine index damaged, made anew from the files", "err", err)
		s.Alert("quarantine.index", "The index of the quarantine was damaged and is made anew from the files: "+err.Error())
		if err := s.setAside(); err != nil {
			return err
		}
		s.index, err = openIndex(ctx, s.indexPath(), false)
	}
	if err != nil {
		return err
	}
	complete, err := s.index.complete(ctx)
	if err != nil {
		return err
	}
	if !complete {
		if _, err := s.Rebuild(ctx); err != nil {
			return err
		}
	}
	if err := s.sweep(ctx); err != nil {
		return err
	}
	total, err := s.index.bytes(ctx)
	s.bytes = total
	return err
}

func (s *Store) indexPath() string { return filepath.Join(s.Dir, indexName) }

// setAside keeps a damaged index for whoever wants to look at it, with the log
// that belongs to it.
func (s *Store) setAside() error {
	aside := s.indexPath() + ".damaged-" + s.Now().UTC().Format("20060102T150405Z")
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(s.indexPath()+end, aside+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return store.SyncDir(s.Dir)
}

// Close closes the quarantine. Content that was opened stays readable.
func (s *Store) Close() error {
	return errors.Join(s.index.close(), s.disk.close())
}

// Get returns the entry of that id, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (Entry, error) {
	if !mail.ValidID(id) {
		return Entry{}, ErrNotFound
	}
	e, err := s.index.get(ctx, id)
	if err != nil {
		return Entry{}, fmt.Errorf("quarantine entry %s: %w", id, err)
	}
	return e, nil
}

// MarkReleased notes a delivery of the message. It is in the index, and in the
// file beside the original, when it returns.
func (s *Store) MarkReleased(ctx context.Context, id string, r Release) error {
	if !mail.ValidID(id) {
		return ErrNotFound
	}
	r.Reply = cut(r.Reply, maxText)
	e, err := s.index.release(ctx, id, r)
	if err == nil {
		err = s.writeSidecar(e)
	}
	if err != nil {
		return fmt.Errorf("note release of %s: %w", id, s.explain(err))
	}
	return nil
}

// Delete removes an entry and its original, or returns ErrNotFound.
func (s *Store) Delete(ctx context.Context, id string) error {
	e, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if _, err := s.remove(ctx, []item{{e.ID, e.Size}}); err != nil {
		return fmt.Errorf("delete %s from the quarantine: %w", id, s.explain(err))
	}
	return nil
}

// Usage is what the entries of a class take.
type Usage struct {
	Count int
	Bytes int64
}

// Stats counts the entries by class.
func (s *Store) Stats(ctx context.Context) (map[mail.Class]Usage, error) {
	usage, err := s.index.usage(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the quarantine: %w", err)
	}
	return usage, nil
}

// explain says which of our errors an error of disk or index is.
func (s *Store) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSync) || errors.Is(err, store.ErrSync):
		s.failed.Store(true)
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		s.Log.Error("quarantine takes nothing until Postern is started again", "err", err)
		s.Alert("quarantine.failed", "The quarantine's disk failed, and nothing is held until Postern is started again: "+err.Error())
	}
	if diskFull(err) || errors.Is(err, store.ErrFull) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
