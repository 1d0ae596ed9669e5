// Package recipients remembers which recipients the server inside has, so that
// unknown ones are refused at the border and the known ones are still taken
// while the inside is away. It asks by call-ahead: MAIL FROM:<>, RCPT, RSET.
//
// What the SMTP question looks like is the caller's business (Ask); what the
// answer means is decided here (RFC 5321, section 4.2; RFC 3463, section 3.2).
package recipients

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"postern/gateway/mail"
)

// How long answers are good for.
const (
	KnownFor      = 7 * 24 * time.Hour // a 2xx
	AskAgainAfter = 24 * time.Hour     // a 2xx is asked again in the background
	UnknownFor    = time.Hour          // 5.1.x, 5.2.1, a bare 550
	askWithin     = 30 * time.Second
)

// Bounds of the memory: a flood of invented names must not push out the real
// ones, so the two are counted apart.
const (
	maxKnown   = 1_000_000
	maxUnknown = 100_000
)

// Answer is what is known of a recipient.
type Answer int

// The answers.
const (
	Unsure  Answer = iota // the inside answered neither yes nor no
	Known                 // the inside takes mail for it
	Unknown               // the inside has no such recipient
	Away                  // the inside is down, and nothing is remembered
)

// Reply is what the inside said to RCPT; Down says that it could not be asked.
type Reply struct {
	mail.Reply
	Down bool
}

// Ask asks the inside about one recipient.
type Ask func(ctx context.Context, rcpt mail.Address) Reply

// Shelf keeps what is known over a restart. Losing its last moments costs a
// question, never mail.
type Shelf interface {
	Load(ctx context.Context, since time.Time) (map[string]time.Time, error) // by Address.Key: when it was confirmed
	Save(ctx context.Context, confirmed map[string]time.Time) error
	Forget(ctx context.Context, before time.Time) error
}

// Config of a Book. Only Log must be set.
type Config struct {
	Shelf Shelf                  // nil: nothing survives a restart
	Alert func(key, text string) // for refusals that concern us, not the recipient
	Log   *slog.Logger
	Now   func() time.Time
}

// Book is the memory. It may be used by several goroutines at once.
type Book struct {
	cfg    Config
	asking singleflight.Group

	mu       sync.Mutex
	known    map[string]time.Time // confirmed at
	unknown  map[string]time.Time // refused at
	unsaved  map[string]time.Time
	catchAll map[string]bool // by domain
	asked    sync.WaitGroup  // questions in the background
}

// Open reads what the shelf remembers.
func Open(ctx context.Context, cfg Config) (*Book, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Alert == nil {
		cfg.Alert = func(string, string) {}
	}
	b := &Book{cfg: cfg, known: map[string]time.Time{}, unknown: map[string]time.Time{}, unsaved: map[string]time.Time{}, catchAll: map[string]bool{}}
	if cfg.Shelf == nil {
		return b, nil
	}
	known, err := cfg.Shelf.Load(ctx, cfg.Now().Add(-KnownFor))
	if err != nil {
		return nil, err
	}
	b.known = known
	return b, nil
}

// Check says what is known of rcpt, and asks the inside where memory does not
// serve. Several callers who want to know the same ask once.
func (b *Book) Check(ctx context.Context, rcpt mail.Address, ask Ask) Answer {
	key := rcpt.Key()
	now := b.cfg.Now()
	b.mu.Lock()
	confirmed, known := b.known[key]
	refused, unknown := b.unknown[key]
	b.mu.Unlock()
	switch {
	case known && now.Sub(confirmed) < AskAgainAfter:
		return Known
	case known && now.Sub(confirmed) < KnownFor:
		b.askLater(rcpt, ask)
		return Known
	case unknown && now.Sub(refused) < UnknownFor:
		return Unknown
	}
	return b.askNow(ctx, rcpt, ask)
}

func (b *Book) askNow(ctx context.Context, rcpt mail.Address, ask Ask) Answer {
	answer, _, _ := b.asking.Do(rcpt.Key(), func() (any, error) {
		// The question outlives the client that raised it: others wait for it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
		defer cancel()
		return b.learn(rcpt, ask(ctx, rcpt)), nil
	})
	return answer.(Answer)
}

// askLater refreshes what is still good.
func (b *Book) askLater(rcpt mail.Address, ask Ask) {
	b.asked.Go(func() {
		if b.askNow(context.Background(), rcpt, ask) == Away {
			b.cfg.Log.Debug("recipient not confirmed again: the inside is away", "recipient", rcpt.String())
		}
	})
}

// learn remembers what a reply means.
func (b *Book) learn(rcpt mail.Address, r Reply) Answer {
	key, now := rcpt.Key(), b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.Down:
		return Away
	case r.Positive():
		bound(b.known, maxKnown)
		b.known[key], b.unsaved[key] = now, now
		delete(b.unknown, key)
		return Known
	case NoSuchRecipient(r.Reply):
		bound(b.unknown, maxUnknown)
		b.unknown[key] = now
		delete(b.known, key)
		b.unsaved[key] = time.Time{}
		return Unknown
	case r.Permanent():
		b.cfg.Alert("verify "+rcpt.DomainKey(), "The server inside refuses to say whether it has recipients of "+rcpt.DomainKey()+
			": it answered \""+r.String()+"\" to RCPT. Senders get 451 until it takes questions from this gateway "+
			"(MAIL FROM:<>, RCPT), or set recipients = \"any\" or a list for the domain.")
	}
	return Unsure
}

// bound makes room in a full map by forgetting any one entry.
func bound(m map[string]time.Time, limit int) {
	if len(m) < limit {
		return
	}
	for key := range m {
		delete(m, key)
		return
	}
}

// NoSuchRecipient says whether a reply to RCPT means that the recipient does not
// exist: 5.1.x, 5.2.1, or a bare 550 (RFC 3463, sections 3.2 and 3.3). Any other
// 5xx is about us or about something else. QUIRK: Exchange Online says 550 5.4.1
// of the recipients that its directory does not know.
func NoSuchRecipient(r mail.Reply) bool {
	switch {
	case !r.Permanent():
		return false
	case r.Enhanced == "":
		return r.Code == 550
	}
	return len(r.Enhanced) > 4 && r.Enhanced[:4] == "5.1." || r.Enhanced == "5.2.1" || r.Code == 550 && r.Enhanced == "5.4.1"
}

// Remembered says whether rcpt was confirmed within KnownFor.
func (b *Book) Remembered(rcpt mail.Address) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	confirmed, known := b.known[rcpt.Key()]
	return known && b.cfg.Now().Sub(confirmed) < KnownFor
}

// Try asks about an invented name of the domain: an inside that takes it takes
// everything, and verification says nothing.
func (b *Book) Try(ctx context.Context, domain string, ask Ask) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r := ask(ctx, mail.Address{Local: invented(), Domain: domain})
	if r.Down || !r.Positive() && !NoSuchRecipient(r.Reply) {
		return // it says nothing of the kind
	}
	b.mu.Lock()
	was := b.catchAll[domain]
	b.catchAll[domain] = r.Positive()
	b.mu.Unlock()
	if r.Positive() && !was {
		b.cfg.Log.Warn("the server inside takes any name: it is a catch-all, and recipients = \"verify\" can refuse nobody", "domain", domain)
	}
}

func invented() string {
	var raw [10]byte
	_, _ = rand.Read(raw[:]) // never returns an error
	return "postern-" + hex.EncodeToString(raw[:])
}

// CatchAll says whether the inside takes any name at the domain; tried is false
// while nobody could ask.
func (b *Book) CatchAll(domain string) (catchAll, tried bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	catchAll, tried = b.catchAll[domain]
	return catchAll, tried
}

// Run saves what was learned, until ctx ends.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			b.asked.Wait()
			b.Save(context.WithoutCancel(ctx))
			return
		case <-tick.C:
			b.Save(ctx)
		}
	}
}

// Save writes what was learned to the shelf and drops what is too old.
func (b *Book) Save(ctx context.Context) {
	now := b.cfg.Now()
	b.mu.Lock()
	unsaved := b.unsaved
	b.unsaved = map[string]time.Time{}
	expire(b.known, now.Add(-KnownFor))
	expire(b.unknown, now.Add(-UnknownFor))
	b.mu.Unlock()
	if b.cfg.Shelf == nil || len(unsaved) == 0 {
		return
	}
	if err := b.cfg.Shelf.Save(ctx, unsaved); err != nil {
		b.cfg.Log.Error("recipients not saved", "err", err)
		return
	}
	if err := b.cfg.Shelf.Forget(ctx, now.Add(-KnownFor)); err != nil {
		b.cfg.Log.Error("old recipients not dropped", "err", err)
	}
}

func expire(m map[string]time.Time, before time.Time) {
	for key, at := range m {
		if at.Before(before) {
			delete(m, key)
		}
	}
}
