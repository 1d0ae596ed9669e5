package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"postern/cmd/postern/config"
	"postern/cmd/postern/house"
)

type serveCommand struct{}

// Help is shown by --help.
func (serveCommand) Help() string {
	return `Runs in the foreground and logs to stderr; "msg=ready" says that mail is taken.
SIGTERM ends it when the mail in hand is dealt with, SIGHUP reads the configuration again.

Example:
  postern serve --config /etc/postern/postern.toml`
}

// Run is the operator's checklist.
func (serveCommand) Run(ctx context.Context, c *commands, t terminal) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		// Little lives long in a gateway: half the collections for some megabytes.
		debug.SetGCPercent(200)
	}
	return serve(ctx, cfg, newLog(t.err, cfg.Log), func() (*config.Config, error) { return load(c.Config) })
}

// serve runs a gateway until ctx ends; reread reads the configuration anew.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, reread func() (*config.Config, error)) error {
	// Before it says that it is ready: SIGHUP to a process that does not listen
	// for it is its end.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	d, err := house.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	for {
		select {
		case <-hup:
			d.Reload(reread)
			continue
		case err = <-d.Failed():
			log.Error("stopped by a listener", "err", err)
		case <-ctx.Done():
		}
		break
	}
	return errors.Join(err, d.End())
}

// load reads the configuration; its faults are the error.
func load(path string) (*config.Config, error) {
	c, err := config.Load(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, house.Advise(err, "write one with these lines, or name another with --config:\n\n"+smallest)
	case err != nil:
		return nil, house.Advise(err, "docs/configuration.md describes every key; postern check says all faults")
	}
	return c, nil
}

// smallest is the smallest file that protects a company.
const smallest = `    hostname = "mx.example.com"
    [domains."example.com"]
    deliver_to = ["mail.internal:25"]
`
