package house

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/config"
	"postern/gateway/control"
	"postern/gateway/mail"
	"postern/gateway/smtpd"
)

// drain is how long a stopping gateway lets transactions that are under way
// come to their end.
const drain = 30 * time.Second

// Start assembles a gateway and lets mail in.
func Start(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Doors, error) {
	h, err := Open(ctx, cfg, log)
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
	log.Log(ctx, Always, "ready", "mx", d.Addresses())
	return d, nil
}

// End deals with the mail in hand, and closes everything.
func (d *Doors) End() error {
	h := d.house
	h.board.SetReady(false)
	h.log.Info("stopping")
	h.stop() // the spool begins nothing new, and ends what it is at beside the sessions
	d.close()
	err := h.Close()
	h.log.Info("stopped")
	return err
}

// Doors are the ways in: SMTP, metrics, the control socket.
type Doors struct {
	house        *House
	certificates *certificates
	server       *smtpd.Server
	mx           []net.Listener
	metrics      net.Listener
	control      net.Listener
	failed       chan error
	stop         context.CancelFunc
}

// openDoors binds every listener.
func openDoors(h *House) (*Doors, error) {
	d := &Doors{house: h, failed: make(chan error, 8)}
	var err error
	if d.certificates, err = newCertificates(h.config, h.state.path("tls"), h.log); err != nil {
		return nil, err
	}
	if err := d.bind(); err != nil {
		d.closeListeners()
		return nil, err
	}
	d.server = smtpd.New(d.smtpConfig(h.config), h.gateway.NewSession)
	h.board.Registry().MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_connections", Help: "SMTP connections that are open.",
	}, func() float64 { return float64(d.server.Connections()) }))
	d.server.Log = h.log
	d.server.Refused = func(client netip.AddrPort, reply mail.Reply, reason string) {
		now := time.Now()
		h.gateway.Refused(mail.Record{
			ID: mail.NewID(now), Time: now, Client: client.Addr().Unmap().String(),
			Stage: mail.StageConnect.String(), Action: mail.Reject, Reason: reason, Reply: reply.String(),
		})
	}
	return d, nil
}

// bind binds the listeners; after an error, some of them.
func (d *Doors) bind() (err error) {
	c := d.house.config
	for _, address := range c.Listen.MX {
		// Keep-alive probes would come long after our own time-outs.
		l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", address)
		if err != nil {
			return Hint{err, "port 25 needs root or CAP_NET_BIND_SERVICE, and no other mail server on it (try: ss -ltnp 'sport = :25')"}
		}
		d.mx = append(d.mx, l)
	}
	if address := c.Listen.Metrics; address != "" {
		if d.metrics, err = net.Listen("tcp", address); err != nil {
			return fmt.Errorf("listen.metrics: %w", err)
		}
	}
	d.control, err = control.Listen(Socket(c))
	return err
}

func (d *Doors) smtpConfig(c *config.Config) smtpd.Config {
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
func (d *Doors) open(ctx context.Context) {
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
func (d *Doors) close() {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.house.log.Warn("sessions cut", "err", err)
	}
	d.house.gateway.Close(ctx)
	d.stop()
	d.closeListeners()
}

func (d *Doors) closeListeners() {
	for _, l := range append(d.mx, d.metrics, d.control) {
		if l != nil {
			_ = l.Close() // what is bound to end
		}
	}
}

func (d *Doors) Addresses() (list []string) {
	for _, l := range d.mx {
		list = append(list, l.Addr().String())
	}
	return list
}

// Reload puts a new configuration in place of the old one, or keeps the old one
// when the new one has faults. No connection is dropped.
func (d *Doors) Reload(reread func() (*config.Config, error)) {
	h := d.house
	c, err := reread()
	if err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	p, err := NewPolicy(c, h.log)
	if err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	d.keepFixed(c)
	if err := d.certificates.configure(c); err != nil {
		h.log.Error("configuration not reloaded", "err", err)
		return
	}
	h.reconfigure(c, p)
	d.server.Configure(d.smtpConfig(c))
	h.log.Info("reloaded")
}

// keepFixed says what a reload does not change, where it was changed, and lets it
// be as it was.
func (d *Doors) keepFixed(c *config.Config) {
	old := d.house.config
	same := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			d.house.log.Warn("changes at the next start only", "key", key)
		}
	}
	same("state", old.State, c.State)
	same("listen", old.Listen, c.Listen)
	same("quarantine", old.Quarantine, c.Quarantine)
	same("records", old.Records, c.Records)
	same("log", old.Log, c.Log)
	c.State, c.Listen, c.Quarantine, c.Records, c.Log = old.State, old.Listen, old.Quarantine, old.Records, old.Log
}

// Failed says why a listener ended by itself.
func (d *Doors) Failed() <-chan error { return d.failed }

// House is what lies behind the doors.
func (d *Doors) House() *House { return d.house }

// Metrics is the address of the metrics listener; "" is none.
func (d *Doors) Metrics() string {
	if d.metrics == nil {
		return ""
	}
	return d.metrics.Addr().String()
}
