// Package house assembles a gateway from a configuration: the state, the stores,
// the filters and their weights, the next hops, the ways in, and what commands may
// ask of it. It is the one place that knows every other package.
package house

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/cmd/postern/config"
	"postern/gateway"
	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/recipients"
	"postern/gateway/record"
	"postern/gateway/relay"
	"postern/gateway/spool"
	"postern/quarantine"
)

// House is everything that a running Postern consists of but its doors: it can
// hand mail on, keep it and remember it, and has no listener.
type House struct {
	config     *config.Config
	log        *slog.Logger
	state      *state
	board      *health.Board
	relay      *relay.Relay
	spool      *spool.Spool
	quarantine *quarantine.Store
	records    *record.Store
	table      recipients.Table
	book       *recipients.Book
	policy     atomic.Pointer[Policy] // a reload replaces it
	gateway    *gateway.Gateway
	alerts     chan health.Alert // to be mailed

	closers []func() error // in the order in which they were opened
	workers sync.WaitGroup
	stop    context.CancelFunc
}

// Open opens the state and assembles the gateway on it. It holds the
// state's lock until Close.
func Open(ctx context.Context, c *config.Config, log *slog.Logger) (_ *House, err error) {
	h := &House{config: c, log: log, board: health.New(log), alerts: make(chan health.Alert, maxAlerts)}
	// From the start: damage that the stores find as they open is to be mailed.
	h.board.TellAlerts(h.queueAlert)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.state, err = openState(ctx, c.State); err != nil {
		return nil, err
	}
	h.closers = append(h.closers, h.state.Close)
	p, err := NewPolicy(c, log)
	if err != nil {
		return nil, err
	}
	h.policy.Store(p)
	if err := h.openStores(ctx); err != nil {
		return nil, err
	}
	h.relay = relay.New(RelayConfig(c, log))
	h.closers = append(h.closers, h.relay.Close)
	h.gateway = gateway.New(gateway.Parts{
		Relay: h.relay, Spool: h.spool, Keeper: keeper{h.quarantine}, Recorder: h.records,
		Recipients: h.book, Board: h.board, Log: log, TempDir: h.state.path("tmp"),
	}, p.settings)
	return h, nil
}

func (h *House) openStores(ctx context.Context) (err error) {
	c := h.config
	h.records, err = record.Open(ctx, h.state.path("records.db"), record.Config{Keep: c.Records.Keep.Std(), Log: h.log})
	if err != nil {
		return err
	}
	h.closers = append(h.closers, h.records.Close)
	h.quarantine, err = quarantine.Open(ctx, quarantine.Config{
		Dir: h.state.path("quarantine"), Keep: c.Quarantine.Keep.Std(), Size: int64(c.Quarantine.Size),
		Log: h.log, Alert: h.board.Alert,
	})
	if err != nil {
		return err
	}
	h.closers = append(h.closers, h.quarantine.Close)
	if h.table, err = recipients.OpenTable(ctx, h.state.path("recipients.db")); err != nil {
		return err
	}
	h.closers = append(h.closers, h.table.Close)
	h.book, err = recipients.Open(ctx, recipients.Config{Shelf: h.table, Alert: h.board.Alert, Log: h.log})
	if err != nil {
		return err
	}
	h.spool, err = spool.Open(spool.Config{
		Dir: h.state.path("spool"), Log: h.log, Connections: c.Delivery.Connections, MinFree: h.state.floor(),
		Retry:    func(route string) []time.Duration { return h.policy.Load().retry(route) },
		Lifetime: func(route string) time.Duration { return h.policy.Load().lifetime(route) },
		Alarm:    func(text string) { h.board.Alert("spool", text) },
	})
	return err
}

// Start lets what works by itself begin: deliveries from the spool, expiry, the
// book of recipients, the watch over next hops.
func (h *House) Start(ctx context.Context) {
	// These outlive the signal to stop, and end in Close: what is under way is
	// finished first.
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, work := range []func(context.Context){
		h.gateway.Run, h.book.Run,
		func(ctx context.Context) { h.finish("spool", h.spool.Run(ctx, h.gateway)) },
		func(ctx context.Context) { h.quarantine.Run(ctx) },
		h.watchEngines, h.watchState, h.mailAlerts,
	} {
		h.workers.Go(func() { work(ctx) })
	}
}

func (h *House) finish(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.Error(what+" stopped", "err", err)
	}
}

// Close ends what Start began and closes everything, last opened first.
func (h *House) Close() error {
	if h.stop != nil {
		h.stop()
		h.workers.Wait()
	}
	if h.gateway != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		h.gateway.Close(now) // who had patience had it before
	}
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	h.closers = nil
	return errors.Join(errs...)
}

// maxAlerts is how many alerts may wait to be mailed.
const maxAlerts = 100

// queueAlert leaves the mailing of an alert to mailAlerts: whoever raised it may be
// the spool itself, and must not wait for it.
func (h *House) queueAlert(a health.Alert) {
	select {
	case h.alerts <- a:
	default:
		h.log.Error("alert not mailed: too many wait", "key", a.Key)
	}
}

// mailAlerts puts alerts into the spool for those who are to be told. An alert
// that can't be written there stands in the log, and raises no other.
func (h *House) mailAlerts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-h.alerts:
			if err := h.gateway.Tell(ctx, "Postern: "+a.Key, a.Text); err != nil {
				h.log.Error("alert not mailed", "key", a.Key, "err", err)
			}
		}
	}
}

// RelayConfig says how next hops are reached.
func RelayConfig(c *config.Config, log *slog.Logger) relay.Config {
	self := ownAddresses(c.Listen.MX)
	return relay.Config{
		Hostname: c.Hostname, Connections: c.Delivery.Connections, Log: log,
		Resolver: resolver(c.DNS.Servers),
		IsSelf:   func(a netip.AddrPort) bool { return self[a] },
	}
}

// ownAddresses are those at which an MX that leads there leads to us.
func ownAddresses(listen []string) map[netip.AddrPort]bool {
	own := map[netip.AddrPort]bool{}
	addresses, _ := net.InterfaceAddrs() // none is found: then none is ours
	for _, l := range listen {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			continue
		}
		if !a.Addr().IsUnspecified() {
			own[a] = true
			continue
		}
		for _, i := range addresses {
			if p, err := netip.ParsePrefix(i.String()); err == nil {
				own[netip.AddrPortFrom(p.Addr().Unmap(), a.Port())] = true
			}
		}
	}
	return own
}

// resolver asks the given servers, in turn, or the system's.
func resolver(servers []string) *net.Resolver {
	if len(servers) == 0 {
		return net.DefaultResolver
	}
	next := make(chan int, 1)
	next <- 0
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		i := <-next
		next <- (i + 1) % len(servers)
		return (&net.Dialer{}).DialContext(ctx, network, servers[i])
	}}
}

// reverseTime bounds the search for a client's name.
const reverseTime = 5 * time.Second

// reverse finds the name of an address that has this address itself: a PTR
// record alone is anybody's claim (RFC 8601, section 3, "iprev").
func reverse(r *net.Resolver) func(context.Context, netip.Addr) (string, error) {
	return func(ctx context.Context, client netip.Addr) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, reverseTime)
		defer cancel()
		names, err := r.LookupAddr(ctx, client.Unmap().String())
		if err != nil {
			return "", notFoundIsNone(err)
		}
		for _, name := range names[:min(len(names), 10)] {
			addresses, err := r.LookupNetIP(ctx, "ip", name)
			if err := notFoundIsNone(err); err != nil {
				return "", err
			}
			for _, a := range addresses {
				if a.Unmap() == client.Unmap() {
					return strings.TrimSuffix(name, "."), nil
				}
			}
		}
		return "", nil
	}
}

// notFoundIsNone makes an error of "there is no such name" none.
func notFoundIsNone(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil
	}
	return err
}

// keeper is the quarantine as the gateway needs it.
type keeper struct{ store *quarantine.Store }

// Keep implements gateway.Keeper.
func (k keeper) Keep(ctx context.Context, m *mail.Message, v mail.Verdict) (string, error) {
	e := quarantine.Entry{
		Message: m.ID, Time: m.Received, Sender: m.Envelope.ReversePath.String(), Size: m.Content.Size(),
		Class: v.Class, Reason: v.Reason, Score: v.Score, Unscanned: v.Unscanned,
		SMTPUTF8: m.Envelope.SMTPUTF8, EightBit: m.Envelope.EightBit,
		HELO: m.Client.HELO,
	}
	if a := m.Client.Addr.Addr(); a.IsValid() { // nobody knows it of what comes out of the spool
		e.Client = a.Unmap().String()
	}
	for _, rcpt := range v.Recipients {
		e.Recipients = append(e.Recipients, rcpt.String())
	}
	for _, hit := range v.Hits {
		e.Symbols = append(e.Symbols, hit.Symbol)
	}
	if f := m.Header.All("Subject"); len(f) > 0 {
		e.Subject = f[0].Text()
	}
	return k.store.Put(ctx, e, m.Content)
}

// Drop implements gateway.Keeper.
func (k keeper) Drop(ctx context.Context, id string) error { return k.store.Delete(ctx, id) }

// Always is the level of the few lines that are logged whatever [log] level says:
// who waits for "ready" must not wait in vain.
const Always = slog.Level(100)

// Socket is the control socket of the gateway that runs on a configuration.
func Socket(c *config.Config) string { return filepath.Join(c.State, "control.sock") }

// Hint is an error with advice for the administrator.
type Hint struct {
	Err  error
	Text string // what to do
}

// Advise adds advice to an error.
func Advise(err error, text string) error { return Hint{err, text} }

// Error implements error.
func (h Hint) Error() string { return h.Err.Error() }

// Unwrap makes errors.Is work.
func (h Hint) Unwrap() error { return h.Err }

// reconfigure puts a new configuration in place: for the transactions, and the
// deliveries, to come.
func (h *House) reconfigure(c *config.Config, p *Policy) {
	old := h.policy.Swap(p).Engines()
	for name := range p.Engines() {
		delete(old, name)
	}
	for name := range old {
		h.board.Drop(name)
	}
	h.relay.Configure(RelayConfig(c, h.log))
	h.gateway.Configure(p.settings)
}
