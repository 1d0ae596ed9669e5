// Package spamassassin asks spamd what SpamAssassin's rules say of a message.
//
// The protocol is SPAMC/1.5 with the command REPORT, which brings the points and
// the description of each rule that matched. Rules become facts with their points
// as a proposal; what they weigh in the end is for others to say. The total in
// the reply's Spam field is the measure: what the rules that could be read do not
// sum up to is reported as one fact more.
//
// Learning (TELL) is not done here.
package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"postern/filters/engine"
	"postern/gateway/mail"
)

// Config says how spamd is reached and what it is shown.
type Config struct {
	Addresses   []string      // "tcp:host:port" or "unix:/path"; each next one where the one before fails
	Timeout     time.Duration // of one check in all, waiting included; 0 is 30 s
	Connections int           // checks at once; 0 is 5, as many as spamd has children
	MaxSize     int64         // octets of a message that spamd is shown; 0 is 512 KiB
	User        string        // whose preferences hold; "" is spamd's own user
	Hostname    string        // ours, for the trace field that spamd is shown; "" is "localhost"

	// Reverse, where it is set, finds the name of the client: by its address,
	// and confirmed by the name's own addresses. "" is that it has none.
	Reverse func(ctx context.Context, client netip.Addr) (string, error)
}

// Filter is the filter. Several goroutines may use it at once.
type Filter struct {
	engine *engine.Engine
	config Config
}

// New makes the filter; spamd need not be there yet.
func New(c Config) (*Filter, error) {
	if c.Connections <= 0 {
		c.Connections = 5
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxSize <= 0 {
		c.MaxSize = 512 << 10
	}
	if c.Hostname == "" {
		c.Hostname = "localhost"
	}
	if c.User != "" && !userName.MatchString(c.User) {
		return nil, fmt.Errorf("spamd: user %q: want letters, digits, and ._@-", c.User)
	}
	e, err := engine.New(engine.Config{Addresses: c.Addresses, Connections: c.Connections, Probe: ping})
	if err != nil {
		return nil, err
	}
	return &Filter{engine: e, config: c}, nil
}

// Ping says whether spamd answers.
func (f *Filter) Ping(ctx context.Context) error { return f.engine.Ping(ctx) }

// Check shows the message, or its beginning where it is long, to spamd. An error
// means that no spamd could tell; a message that it refuses or dies of is a
// result.
func (f *Filter) Check(ctx context.Context, m *mail.Message, _ []mail.Result) ([]mail.Result, error) {
	if m.Content == nil {
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, f.config.Timeout)
	defer cancel()
	q := f.request(ctx, m)
	var a answer
	err := f.engine.Scan(ctx, m.Content, func(c net.Conn) (err error) {
		a, err = q.ask(c)
		return err
	})
	switch {
	case errors.Is(err, engine.ErrUnscannable):
		return []mail.Result{unscannable(err)}, nil
	case err != nil:
		return nil, err
	case a.refused != nil:
		return []mail.Result{unscannable(a.refused)}, nil
	}
	if !q.reverse {
		a.forget("RDNS_NONE")
	}
	results := a.results()
	if q.head < m.Content.Size() {
		results = append(results, mail.Result{
			Symbol:      "SPAMASSASSIN_HEAD",
			HasPoints:   true,
			Description: fmt.Sprintf("SpamAssassin was shown the first %d octets of %d", q.head, m.Content.Size()),
		})
	}
	return results, nil
}

func unscannable(err error) mail.Result {
	return mail.Result{
		Symbol:      "SPAMASSASSIN_UNSCANNABLE",
		Description: "SpamAssassin can't judge this message",
		Fault:       mail.FaultMessage,
		Err:         err,
	}
}
