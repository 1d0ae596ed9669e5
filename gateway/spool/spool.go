// Package spool keeps mail that waits for its next hop: on disk and synced before
// responsibility for it is taken (RFC 5321, section 6.1), attempted again by a
// schedule (section 4.5.4.1), and given up at the end of its lifetime.
//
// It promises that an item whose Put returned nil is there, whole, whatever
// happens to the process or the machine, until all its recipients are dealt with;
// and that what was recorded as done is never done again. docs/spool.md has the
// states on disk and the steps between them.
//
// It knows no SMTP: a Deliverer makes the attempts, reads the replies, writes
// the reports. The lock that keeps a second process out is the caller's, too.
package spool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/gateway/mail"
	"postern/gateway/spool/disk"
)

// What the spool's methods return, wrapped.
var (
	ErrNotFound = errors.New("no such item in the spool")
	ErrExists   = errors.New("the spool has another item of this id")
	ErrHeld     = errors.New("the item waits for the answer to an earlier attempt")
	ErrFailed   = errors.New("the spool's disk failed; nothing is taken until a restart")
	ErrFull     = disk.ErrFull
	ErrDamaged  = disk.ErrDamaged
	ErrVersion  = disk.ErrVersion
)

// Item is a message, or a copy of one, on its way to one next hop.
type Item struct {
	ID          string         // unique in the spool, a mail.ValidID; several items of one message are ID, ID.2, ...
	Message     string         // id of the message, for records
	Time        time.Time      // when responsibility was taken; zero is now
	ReversePath mail.Address   // the zero Address is the null reverse-path
	Recipients  []mail.Address // those still to be served
	SMTPUTF8    bool           // as MAIL declared (RFC 6531)
	EightBit    bool           // BODY=8BITMIME (RFC 6152)
	Route       string         // key of the next hop: the recipients' domain
	Notify      bool           // a DSN may be sent to the reverse-path
	Unscanned   []string       // engines that were silent when it was judged
	Subject     string         // for lists
	Content     mail.Content   // what is to be sent; of a stored item read from disk as it is asked for

	Attempts  int       // so far
	Next      time.Time // not before; zero is now
	LastReply string    // of the last attempt, for lists and reports
	NextHop   string    // that gave it
	Held      bool      // the answer to a final dot is still out: no attempt before Resolve or a restart
}

// Disposition says what became of one recipient in an attempt.
type Disposition struct {
	Recipient mail.Address
	Done      bool   // delivered, or refused and dealt with durably by the caller
	Reply     string // on one line
	NextHop   string
}

// Attempt is what came of trying one item. Recipients without a Disposition
// stay.
type Attempt struct {
	Dispositions []Disposition
	Down         bool // the whole route is down, not this item's fault
	Held         bool // an answer is still out; Resolve brings it
}

// Deliverer hands items on. It must bear being called by several goroutines at
// once, and should return soon after ctx ends; it must not change the item.
type Deliverer interface {
	// Deliver makes one attempt. Recipients that it reports as done are recorded
	// before anything else happens to the item.
	Deliver(ctx context.Context, it *Item) Attempt
	// GiveUp is called for what is left when the lifetime is over. When it returns
	// nil the recipients are dealt with durably, and the item goes; an error keeps
	// it, and both are tried again by the schedule.
	GiveUp(ctx context.Context, it *Item) error
}

// Config is what a spool needs. Only Dir must be set.
type Config struct {
	Dir string // its parent must exist

	// Retry gives the waits between a route's attempts, the last one again and
	// again; nil or an empty schedule is 1 m, 5 m, 15 m, 1 h. Lifetime says how
	// long a route's mail is tried; nil or 0 is 5 days (RFC 5321, section
	// 4.5.4.1). Both are asked anew each time and must not call the spool.
	Retry    func(route string) []time.Duration
	Lifetime func(route string) time.Duration

	Connections int           // attempts at once for one route; 0 is 10
	Total       int           // attempts at once in all; 0 is 100
	MinFree     int64         // octets that must stay free on the disk; 0 is 64 MiB, negative is no floor
	Drain       time.Duration // how long Run waits, at its end, for attempts in flight; 0 is 30 s

	// Alarm, where set, hears what an admin has to see: damage, a failed disk. The
	// log has the same.
	Alarm func(text string)
	Log   *slog.Logger     // nil is silent
	Now   func() time.Time // the wall clock; nil is time.Now

	fs     disk.Files // nil is the machine's
	shards uint32     // folders; 0 is 256. Other than that only in tests: it must not change on a disk
}

// Spool is the mail that waits. Its methods may be called at any time, by several
// goroutines at once.
type Spool struct {
	cfg    Config
	folder *disk.Folder
	clock  *clock
	failed atomic.Pointer[error]
	wake   chan struct{} // the schedule changed

	mu      sync.Mutex
	entries map[string]*entry
	late    map[string][]Disposition // for entries that were busy when Resolve came
	routes  map[string]*route
	ready   []*route // that can start an attempt now, in turn
	timers  agenda   // that can later
	active  int      // attempts in flight
	count   int      // entries that are committed
	bytes   int64    // of their content
	running bool
	idle    chan struct{} // closed when active reaches 0, where somebody waits for it
}

// Open reads what waits in cfg.Dir, making the folders where they are missing.
// Damaged items are set aside with an alarm and don't stop the others. A disk that
// can't be read, and a file of a newer version (ErrVersion), are errors.
func Open(cfg Config) (*Spool, error) {
	s := &Spool{
		cfg: cfg.withDefaults(), wake: make(chan struct{}, 1),
		entries: make(map[string]*entry), late: make(map[string][]Disposition), routes: make(map[string]*route),
	}
	s.folder = &disk.Folder{Files: s.cfg.fs, Dir: s.cfg.Dir, Shards: s.cfg.shards, Alarm: s.alarm, Fail: s.fail}
	if err := s.folder.Prepare(); err != nil {
		return nil, err
	}
	var known time.Duration // the latest that any file says of our clock
	err := s.folder.Scan(func(r *disk.Record) {
		s.mu.Lock()
		defer s.mu.Unlock()
		known = max(known, r.Since, r.Now.Clock)
		e := &entry{id: r.ID, since: r.Since, next: r.Now.Next, time: r.Time.UnixNano(), size: r.Size}
		s.add(e, r.Route)
	})
	if err != nil {
		return nil, err
	}
	s.clock = resume(s.cfg.Now, known, s.folder)
	s.beat()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		s.wait(e)
	}
	for _, r := range s.routes {
		s.place(r, s.clock.now())
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Connections <= 0 {
		c.Connections = 10
	}
	if c.Total <= 0 {
		c.Total = 100
	}
	if c.MinFree == 0 {
		c.MinFree = 64 << 20
	}
	if c.Drain <= 0 {
		c.Drain = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.fs == nil {
		c.fs = disk.Machine{}
	}
	if c.shards == 0 {
		c.shards = 256
	}
	return c
}

// Put takes an item. When it returns nil the item is on the disk, whole and
// synced; when it returns an error nothing is kept. An item with the ID and the
// content of one that waits is that one: nil. ErrFull is a matter of room,
// ErrExists of another content, ErrFailed of a restart.
func (s *Spool) Put(ctx context.Context, it Item) error {
	if err := s.Failed(); err != nil {
		return fmt.Errorf("spool %s: %w", it.ID, err)
	}
	env, err := s.envelope(&it)
	if err != nil {
		return fmt.Errorf("spool %q: %w", it.ID, err)
	}
	if err := s.room(env.Size); err != nil {
		return fmt.Errorf("spool %s: %w", it.ID, err)
	}
	e := &entry{id: env.ID, since: env.Since, next: env.Start.Next, time: env.Time.UnixNano(), size: env.Size, state: writing}
	if other := s.reserve(e); other != nil {
		return s.same(other, it)
	}
	err = s.folder.Put(ctx, env, it.Content)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, e.id)
	if err != nil {
		return fmt.Errorf("spool %s: %w", it.ID, err)
	}
	e.state = waiting
	if it.Held {
		e.state = held
	}
	s.add(e, env.Route)
	s.wait(e)
	s.replace(e.route)
	return nil
}

// envelope is what is to be written before the content, checked to come back as
// it is.
func (s *Spool) envelope(it *Item) (*disk.Envelope, error) {
	switch {
	case !mail.ValidID(it.ID):
		return nil, errors.New("not a valid id")
	case len(it.Recipients) == 0:
		return nil, errors.New("no recipients")
	case it.Content == nil:
		return nil, errors.New("no content")
	}
	for _, a := range append([]mail.Address{it.ReversePath}, it.Recipients...) {
		if back, err := mail.ParseAddress(a.String()); err != nil || back != a {
			return nil, fmt.Errorf("address %q can't be written", a)
		}
	}
	if slices.ContainsFunc(it.Recipients, mail.Address.IsZero) {
		return nil, errors.New("a recipient is empty")
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never returns an error (crypto/rand)
	now, wall := s.clock.now(), s.cfg.Now()
	env := &disk.Envelope{
		Nonce: hex.EncodeToString(nonce[:]), ID: it.ID, Message: it.Message, Time: it.Time.Round(0).UTC(), Since: now,
		ReversePath: it.ReversePath, SMTPUTF8: it.SMTPUTF8, EightBit: it.EightBit, Route: it.Route,
		Notify: it.Notify, Unscanned: it.Unscanned, Subject: strings.ToValidUTF8(it.Subject, "?"), Size: it.Content.Size(),
	}
	if it.Time.IsZero() {
		env.Time = wall.Round(0).UTC()
	}
	env.Since -= max(0, wall.Sub(env.Time))
	env.Start = disk.Progress{
		Nonce: env.Nonce, Recipients: it.Recipients, Attempts: it.Attempts, Next: now,
		LastReply: it.LastReply, NextHop: it.NextHop, Clock: now,
	}
	if !it.Next.IsZero() {
		env.Start.Next += max(0, it.Next.Sub(wall))
	}
	return env, nil
}

// room says whether size octets may be written. Twice the size leaves room for
// the state files and for what others write meanwhile.
func (s *Spool) room(size int64) error {
	if s.cfg.MinFree < 0 {
		return nil
	}
	free, err := s.cfg.fs.Free(s.cfg.Dir)
	if err == nil && free < max(s.cfg.MinFree, 2*size) {
		err = fmt.Errorf("%w: %d octets free", ErrFull, free)
	}
	return err
}

// reserve takes an ID, so that two Puts never write one file. It returns the entry
// that has it already, copied.
func (s *Spool) reserve(e *entry) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.entries[e.id]; other != nil {
		seen := *other
		return &seen
	}
	s.entries[e.id] = e
	return nil
}

// same is nil where the item that waits under it.ID has the same content. One that
// is still being written may yet fail.
func (s *Spool) same(other *entry, it Item) error {
	if !other.committed() || other.size != it.Content.Size() {
		return fmt.Errorf("spool %s: %w", it.ID, ErrExists)
	}
	r, err := s.peek(it.ID)
	if err != nil {
		return fmt.Errorf("spool %s: %w: %w", it.ID, ErrExists, err)
	}
	h := sha256.New()
	if _, err := it.Content.WriteTo(h); err != nil {
		return fmt.Errorf("spool %s: %w", it.ID, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != r.Sum {
		return fmt.Errorf("spool %s: %w", it.ID, ErrExists)
	}
	return nil
}

// Len is the number of items that wait.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Bytes is the size of their content in octets.
func (s *Spool) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Oldest is when responsibility was taken for the item that waits longest; zero
// where none waits.
func (s *Spool) Oldest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *entry
	for _, e := range s.entries {
		if e.committed() && (oldest == nil || e.time < oldest.time) {
			oldest = e
		}
	}
	if oldest == nil {
		return time.Time{}
	}
	return time.Unix(0, oldest.time).UTC()
}

// Failed is nil, or an error that is ErrFailed and says why: an fsync failed, and
// no later one can be believed.
func (s *Spool) Failed() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Spool) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if s.failed.CompareAndSwap(nil, &err) {
		s.alarm("the spool takes no more mail until a restart; look at its disk first", err)
	}
}

func (s *Spool) alarm(text string, err error) {
	s.cfg.Log.Error(text, "dir", s.cfg.Dir, "err", err)
	if s.cfg.Alarm == nil {
		return
	}
	if err != nil {
		text += ": " + err.Error()
	}
	s.cfg.Alarm(text)
}
