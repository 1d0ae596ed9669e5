package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"postern/cmd/postern/config"
	"postern/gateway/control"
	"postern/gateway/mail"
	"postern/gateway/smtpd"
)

// drain is how long a stopping gateway lets transactions that are under way
// come to their end.
const drain = 30 * time.Second

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
	return serve(ctx, cfg, newLog(t.err, cfg.Log), func() (*config.Config, error) { return load(c.Config) })
}

// serve runs a gateway until ctx ends; reread reads the configuration anew.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, reread func() (*config.Config, error)) error {
	d, err := start(ctx, cfg, log)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
			d.reload(reread)
			continue
		case err = <-d.failed:
			log.Error("stopped by a listener", "err", err)
		case <-ctx.Done():
		}
		break
	}
	return errors.Join(err, d.end())
}

// start assembles a gateway and lets mail in.
func start(ctx context.Context, cfg *config.Config, log *slog.Logger) (*doors, error) {
	h, err := openHouse(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	d, err := openDoors(h)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.Start(ctx)
	d.open(ctx)
	h.board.SetReady(true)
	log.Info("ready", "mx", d.addresses(), "version", version)
	return d, nil
}

// end deals with the mail in hand, and closes everything.
func (d *doors) end() error {
	h := d.house
	h.board.SetReady(false)
	h.log.Info("stopping")
	d.close()
	err := h.Close()
	h.log.Info("stopped")
	return err
}

// doors are the ways in: SMTP, metrics, the control socket.
type doors struct {
	house        *house
	certificates *certificates
	server       *smtpd.Server
	mx           []net.Listener
	metrics      net.Listener
	control      net.Listener
	failed       chan error
	stop         context.CancelFunc
}

// openDoors binds every listener.
func openDoors(h *house) (d *doors, err error) {
	d = &doors{house: h, failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			d.closeListeners()
		}
	}()
	if d.certificates, err = newCertificates(h.config, h.state.path("tls"), h.log); err != nil {
		return nil, err
	}
	for _, address := range h.config.Listen.MX {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, hintError{err, "port 25 needs root or CAP_NET_BIND_SERVICE, and no other mail server on it (try: ss -ltnp 'sport = :25')"}
		}
		d.mx = append(d.mx, l)
	}
	if address := h.config.Listen.Metrics; address != "" {
		if d.metrics, err = net.Listen("tcp", address); err != nil {
			return nil, fmt.Errorf("listen.metrics: %w", err)
		}
	}
	if d.control, err = control.Listen(h.socket()); err != nil {
		return nil, err
	}
	d.server = smtpd.New(d.smtpConfig(h.config), h.gateway.NewSession)
	d.server.Log = h.log
	d.server.Refused = func(client netip.AddrPort, reply mail.Reply, reason string) {
		now := time.Now()
		h.gateway.Refused(mail.Record{ID: mail.NewID(now), Time: now, Client: client.Addr().Unmap().String(),
			Stage: mail.StageConnect.String(), Action: mail.Reject, Reason: reason, Reply: reply.String()})
	}
	return d, nil
}

func (d *doors) smtpConfig(c *config.Config) smtpd.Config {
	m := c.Limits
	limits := smtpd.Limits{
		MessageSize: int64(m.MessageSize), Connections: m.Connections, PerClient: m.PerClient, Rate: m.Rate,
		Command: m.Command.Std(), Data: m.Data.Std(), Transaction: m.Transaction.Std(),
		Normalise: m.BareNewline == "normalise",
	}
	for _, n := range m.NormaliseFrom {
		limits.NormaliseFrom = append(limits.NormaliseFrom, netip.MustParsePrefix(n).Masked()) // checked when the file was read
	}
	return smtpd.Config{Hostname: c.Hostname, TLS: d.certificates.config(), Limits: limits}
}

// open lets clients in.
func (d *doors) open(ctx context.Context) {
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, l := range d.mx {
		go func() {
			if err := d.server.Serve(l); !errors.Is(err, smtpd.ErrServerClosed) {
				d.failed <- err
			}
		}()
	}
	if d.metrics != nil {
		server := &http.Server{Handler: d.house.board.Handler(), ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		go func() { _ = server.Serve(d.metrics) }()
	}
	go func() {
		if err := control.Serve(ctx, d.control, office{d.house}, d.house.log); err != nil {
			d.failed <- err
		}
	}()
}

// close stops taking mail, lets what is in hand come to its end, and then closes
// the other doors.
func (d *doors) close() {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.house.log.Warn("sessions cut", "err", err)
	}
	d.house.gateway.Close(ctx)
	d.stop()
	d.closeListeners()
}

func (d *doors) closeListeners() {
	for _, l := range append(d.mx, d.metrics, d.control) {
		if l != nil {
			_ = l.Close() // what is bound to end
		}
	}
}

func (d *doors) addresses() (list []string) {
	for _, l := range d.mx {
		list = append(list, l.Addr().String())
	}
	return list
}

// reload puts a new configuration in place of the old one, or keeps the old one
// when the new one has faults. No connection is dropped.
func (d *doors) reload(reread func() (*config.Config, error)) {
	h := d.house
	c, err := reread()
	if err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	p, err := newPolicy(c, h.log)
	if err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	if old := h.policy.Load().config; c.State != old.State || fmt.Sprint(c.Listen) != fmt.Sprint(old.Listen) {
		h.log.Warn("state and [listen] change at the next start only")
		c.State, c.Listen = old.State, old.Listen
	}
	if err := d.certificates.configure(c); err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	h.reconfigure(c, p)
	d.server.Configure(d.smtpConfig(c))
	h.log.Info("reloaded")
}

// load reads the configuration; its faults are the error.
func load(path string) (*config.Config, error) {
	c, err := config.Load(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, hintError{err, "write one with these lines, or name another with --config:\n\n" + smallest}
	case err != nil:
		return nil, hintError{err, "docs/configuration.md describes every key; postern check says all faults"}
	}
	return c, nil
}

// smallest is the smallest file that protects a company.
const smallest = `    hostname = "mx.example.com"
    [domains."example.com"]
    deliver_to = ["mail.internal:25"]
`
