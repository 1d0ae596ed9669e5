// Package clamav asks clamd whether a message holds malware.
//
// The protocol is clamd(8)'s: one connection a scan, on which the content is
// streamed (INSTREAM). Sessions of several scans (IDSESSION) were measured and
// left out: they save nothing on a unix socket and 0.1 ms a message over TCP,
// and their replies would have to be told apart. A connection that died can be
// blamed on exactly one message instead.
//
// What clamd finds is reported by whose word it is: a signature of the official
// database, one of others, a heuristic, a potentially unwanted application.
// What that weighs is for others to say.
package clamav

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"postern/filters/engine"
	"postern/gateway/mail"
)

// Config says how clamd is reached.
type Config struct {
	Addresses   []string      // "tcp:host:port" or "unix:/path"; each next one where the one before fails
	Timeout     time.Duration // of one scan in all, waiting included; 0 is 30 s
	Connections int           // scans at once; 0 is 8, under clamd's own MaxThreads of 10
}

// Filter is the filter. Several goroutines may use it at once.
type Filter struct {
	engine     *engine.Engine
	timeout    time.Duration
	signatures atomic.Pointer[time.Time]
}

// New makes the filter; clamd need not be there yet.
func New(c Config) (*Filter, error) {
	e, err := engine.New(engine.Config{Addresses: c.Addresses, Connections: c.Connections, Probe: ping})
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	return &Filter{engine: e, timeout: c.Timeout}, nil
}

// Check scans the content as it was received. An error means that no clamd
// could tell; a message that clamd can't scan is a result.
func (f *Filter) Check(ctx context.Context, m *mail.Message, _ []mail.Result) ([]mail.Result, error) {
	if m.Content == nil {
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var answer answer
	err := f.engine.Scan(ctx, m.Content, func(c conn) (err error) {
		answer, err = scan(c, m.Content)
		return err
	})
	switch {
	case errors.Is(err, engine.ErrUnscannable):
		return []mail.Result{unscannable(err)}, nil
	case err != nil:
		return nil, err
	}
	return answer.results(), nil
}

// Ping says whether clamd answers.
func (f *Filter) Ping(ctx context.Context) error { return f.engine.Ping(ctx) }

// Version is clamd's own word on itself: engine, number of the signature
// database, and its date, as "ClamAV 1.4.6/27800/Sat Nov 21 08:31:02 2026".
func (f *Filter) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var version string
	err := f.engine.Do(ctx, func(c conn) (err error) {
		version, err = command(c, "VERSION")
		return err
	})
	if err != nil {
		return "", err
	}
	if date, ok := signatureDate(version); ok {
		f.signatures.Store(&date)
	}
	return version, nil
}

// Signatures is the date of the official signatures when Version was last asked;
// zero where clamd has none.
func (f *Filter) Signatures() time.Time {
	if t := f.signatures.Load(); t != nil {
		return *t
	}
	return time.Time{}
}
