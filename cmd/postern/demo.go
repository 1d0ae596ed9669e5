package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo"
	"postern/cmd/postern/house"
	"postern/cmd/postern/screen"
	"postern/gateway/control"
	"postern/gateway/mail"
)

type demoCommand struct {
	Keep bool `help:"Leave it running until Ctrl-C, for the other commands to be tried on it."`
}

// Help is shown by --help.
func (demoCommand) Help() string {
	return `Runs a gateway on free loopback ports with a small mail server inside behind it, sends it a
handful of messages, and says for each the verdict and why. Needs no configuration and no
daemon; uses clamd and spamd where they run on this machine. What it writes lies in a
temporary folder, which is removed at the end. Exits with 1 when a verdict was not the one
that was promised.

Examples:
  postern demo
  postern demo --keep`
}

// Run shows it.
func (q demoCommand) Run(ctx context.Context, t terminal) error {
	// Neither "| head" nor a terminal that is closed may leave the folder behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	s := &show{terminal: t, screen: screen.New(t.out), keep: q.Keep, daemons: findDaemons(ctx), samples: demo.Samples()}
	return s.run(ctx)
}

// show is one run of the demonstration.
type show struct {
	terminal terminal
	screen   screen.Screen
	keep     bool
	daemons  []daemon
	samples  []demo.Sample

	dir     string // holds everything that is written
	inside  demo.Inside
	doors   *house.Doors
	started time.Time
	broken  int // promises
}

// interrupted is what a shell says of a command that Ctrl-C ended.
const interrupted = exitError(130)

// run builds everything up, plays it through, and takes it down again.
func (s *show) run(ctx context.Context) (err error) {
	s.started = time.Now()
	if s.dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.inside.Open(); err != nil {
		return err
	}
	defer s.inside.Close()
	log, err := os.Create(s.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := s.start(ctx, newLog(log, config.Log{Level: "info"})); err != nil {
		return err
	}
	err = s.play(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		err = interrupted
	case err == nil && s.broken > 0:
		s.complain()
		err = exitError(1)
	}
	return errors.Join(err, s.doors.End())
}

func (s *show) path(name string) string { return filepath.Join(s.dir, name) }

// start opens the gateway with a configuration that other commands can read too.
func (s *show) start(ctx context.Context, log *slog.Logger) error {
	if err := os.WriteFile(s.path("postern.toml"), []byte(s.configuration()), 0o600); err != nil {
		return err
	}
	cfg, err := load(s.path("postern.toml"))
	if err != nil {
		return err
	}
	s.doors, err = house.Start(ctx, cfg, log)
	return err
}

// configuration is all that the gateway is told. The thresholds and weights are
// the built-in ones.
func (s *show) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hostname = \"mx.%s\"\nstate    = %q\n\n", demo.Domain, s.path("state"))
	fmt.Fprintf(&b, "[listen] # any free port\nmx      = [\"127.0.0.1:0\"]\nmetrics = \"127.0.0.1:0\"\n\n")
	fmt.Fprintf(&b, "[domains.%q]\ndeliver_to = [%q]\n", demo.Domain, s.inside.Address())
	for _, d := range s.daemons {
		if d.address != "" {
			fmt.Fprintf(&b, "\n[filters.%s]\naddress = %q\ntimeout = \"10s\"\n", d.filter, d.address)
		}
	}
	return b.String()
}

// play is the programme.
func (s *show) play(ctx context.Context) error {
	s.introduce()
	var last mail.Record
	for i, sample := range s.samples {
		r, err := s.send(ctx, i+1, sample)
		if err != nil {
			return fmt.Errorf("%s: %w", sample.Title, err)
		}
		last = r
	}
	s.arrivals()
	if err := s.kept(ctx); err != nil {
		return err
	}
	if err := s.track(ctx, last.ID); err != nil {
		return err
	}
	s.conclude()
	if !s.keep {
		return nil
	}
	<-ctx.Done()
	return nil
}

// send brings one message to the gateway and says what became of it.
func (s *show) send(ctx context.Context, n int, sample demo.Sample) (r mail.Record, err error) {
	content, err := sample.Content(time.Now())
	if err != nil {
		return r, err
	}
	if sample.Away {
		s.inside.Close()
	}
	s.screen.Announce(n, sample.Title)
	reply, err := demo.Send(ctx, s.doors.Addresses()[0], sample, content)
	if err == nil {
		r, err = s.record(ctx, sample, reply)
	}
	if err != nil {
		s.screen.Print("\n")
		return r, err
	}
	s.screen.Verdict(r.Action, withoutID(reply, r.ID))
	for _, w := range why(r) {
		s.screen.Explain(w.who, w.pieces)
	}
	s.hold(sample, r.Action, reply)
	if sample.Away {
		return r, s.comeBack(ctx)
	}
	return r, nil
}

// record is what the gateway remembers of a sample: by the id in the reply, or,
// refused at RCPT, by the recipient that it was about.
func (s *show) record(ctx context.Context, sample demo.Sample, reply string) (mail.Record, error) {
	query := sample.To
	if _, rest, has := strings.Cut(reply, "("); has {
		query, _, _ = strings.Cut(rest, ")")
	}
	records, err := s.doors.House().Office().Track(ctx, query)
	if err != nil {
		return mail.Record{}, err
	}
	if len(records) == 0 {
		return mail.Record{}, fmt.Errorf("no record of %q (%s)", query, reply)
	}
	return records[0], nil
}

// withoutID is a reply as it is of interest here.
func withoutID(reply, id string) string {
	return strings.TrimSpace(strings.ReplaceAll(reply, "("+id+")", ""))
}

// hold compares what was promised with what came of it.
func (s *show) hold(sample demo.Sample, action mail.Action, reply string) {
	if action == sample.Action && strings.HasPrefix(reply, sample.Reply+" ") {
		return
	}
	s.broken++
	s.screen.Fault(fmt.Sprintf("not as promised: %s and %s", sample.Action, sample.Reply))
}

// comeBack lets the server inside run again, and waits until it has what the
// gateway took for it meanwhile.
func (s *show) comeBack(ctx context.Context) error {
	home, before := s.doors.House(), len(s.inside.Arrived())
	s.screen.Explain("gateway", screen.Words(fmt.Sprintf("no answer from inside: on disk before the 250, %d in the queue", home.Waiting())))
	if err := s.inside.Open(); err != nil {
		return err
	}
	back := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for home.Waiting() > 0 || len(s.inside.Arrived()) == before {
		// Asked again and again: an attempt may be under way that began before.
		if err := home.Office().RetryQueued(ctx, ""); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			s.broken++
			s.screen.Fault("not as promised: it was not delivered when the inside was back")
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.screen.Explain("gateway", screen.Words(fmt.Sprintf("delivered %d ms after the inside was back", time.Since(back).Milliseconds())))
	return nil
}

// kept lists the quarantine.
func (s *show) kept(ctx context.Context) error {
	items, err := s.doors.House().Office().Kept(ctx, control.KeptQuery{})
	if err != nil {
		return err
	}
	s.quarantine(items)
	return nil
}
