package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/house"
	"postern/gateway/mail"
	"postern/gateway/recipients"
	"postern/gateway/relay"
)

type checkCommand struct {
	Offline bool `help:"Ask no server: only the files."`
}

// Help is shown by --help.
func (checkCommand) Help() string {
	return `Says every fault of the configuration with file, line and key, and exits with 1 when
there is one. What can't be reached now is a warning, and fails nothing.

Example:
  postern check --config /etc/postern/postern.toml`
}

// checkTime bounds what is asked of the network.
const checkTime = 20 * time.Second

// Run says faults, then warnings.
func (q checkCommand) Run(ctx context.Context, c *commands, t terminal) error {
	cfg, err := config.Load(c.Config)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		fmt.Fprintln(t.err, faults.Error())
		return fmt.Errorf("%d fault%s in the configuration", len(faults), plural(len(faults)))
	case errors.Is(err, os.ErrNotExist):
		return house.Advise(err, "write one with these lines, or name another with --config:\n\n"+smallest)
	case err != nil:
		return err
	}
	policy, err := house.NewPolicy(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := house.CheckCertificate(cfg); err != nil {
		return err
	}
	if !q.Offline {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		for _, warning := range warnings(ctx, cfg, policy) {
			fmt.Fprintln(t.err, "warning:", warning)
		}
	}
	fmt.Fprintln(t.out, c.Config+": good")
	return nil
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// warnings are what is well written and yet may not work.
func warnings(ctx context.Context, cfg *config.Config, p *house.Policy) (list []string) {
	for name, ping := range p.Engines() {
		if err := ping(ctx); err != nil {
			list = append(list, fmt.Sprintf("filters.%s can't be reached: %v", name, err))
		}
	}
	if !house.IsOn(cfg.Filters.ClamAV.Enabled, cfg.Filters.ClamAV.Address) {
		list = append(list, "filters.clamav is off: there is no antivirus")
	}
	r := relay.New(house.RelayConfig(cfg, slog.New(slog.DiscardHandler)))
	defer r.Close()
	for name, d := range p.Domains() {
		if _, err := r.Probe(ctx, d.Route); err != nil {
			list = append(list, fmt.Sprintf("domains.%s: the server inside can't be reached: %v", name, err))
			continue
		}
		if takesAny(ctx, r, d.Route) {
			list = append(list, fmt.Sprintf("domains.%s: the server inside takes any name, so that recipients = \"verify\" refuses nobody", name))
		}
	}
	if err := writable(cfg.State); err != nil {
		list = append(list, fmt.Sprintf("state: %v", err))
	}
	return list
}

// takesAny asks the server inside about an invented name.
func takesAny(ctx context.Context, r *relay.Relay, route relay.Route) bool {
	book, err := recipients.Open(ctx, recipients.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return false
	}
	book.Try(ctx, route.Domain, func(ctx context.Context, rcpt mail.Address) recipients.Reply {
		o := r.Verify(ctx, route, rcpt)
		return recipients.Reply{Reply: o.Reply, Down: o.Status == relay.Down}
	})
	catchAll, _ := book.CatchAll(route.Domain)
	return catchAll
}

// writable says whether the state's folder is there, or could be made.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
		if err == nil {
			f, err := os.CreateTemp(dir, ".check-*")
			if err != nil {
				return err
			}
			return errors.Join(f.Close(), os.Remove(f.Name()))
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return err
		}
		dir = parent
	}
}
