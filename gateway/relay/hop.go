package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/gateway/mail"
)

// hop is one entry of a route, or one host that an "mx:" entry led to.
type hop struct {
	network string // "tcp" or "unix"; "" for an "mx:" entry
	host    string // name or address; a path for "unix"; the domain for an "mx:" entry, "" for the route's
	port    string
	lmtp    bool
}

func (h hop) String() string {
	switch h.network {
	case "":
		if h.host == "" {
			return ""
		}
		return "mx:" + h.host
	case "unix":
		return h.host
	}
	return net.JoinHostPort(h.host, h.port)
}

// ParseHost says what is wrong with an entry of Route.Hosts. An entry is one of
//
//	mail.internal             SMTP, port 25
//	mail.internal:2525        [2001:db8::1]:2525
//	lmtp://mail.internal:24   LMTP, port 24 by default
//	lmtp:///run/lmtp.sock     LMTP over a unix socket
//	mx:                       the mail exchangers of the recipients' domain
//	mx:example.com            those of another domain
func ParseHost(s string) error {
	_, err := parseHost(s)
	return err
}

func parseHost(s string) (hop, error) {
	if domain, ok := strings.CutPrefix(s, "mx:"); ok {
		if domain != "" && !isHostName(domain) {
			return hop{}, fmt.Errorf("next hop %q: %q is not a domain", s, domain)
		}
		return hop{host: domain}, nil
	}
	rest, lmtp := strings.CutPrefix(s, "lmtp://")
	if lmtp && strings.HasPrefix(rest, "/") {
		return hop{network: "unix", host: rest, lmtp: true}, nil
	}
	port := "25"
	if lmtp {
		port = "24"
	}
	h, err := parseHostPort(rest, port)
	h.lmtp = lmtp
	if err != nil {
		return hop{}, fmt.Errorf("next hop %q: %w", s, err)
	}
	return h, nil
}

// parseHostPort reads a host and its port, which may be missing.
func parseHostPort(s, port string) (hop, error) {
	host := s
	bare, err := netip.ParseAddr(s)
	if i := strings.LastIndexByte(s, ':'); i >= 0 && err != nil && s[len(s)-1] != ']' {
		host, port = s[:i], s[i+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return hop{}, fmt.Errorf("%q is not a port", port)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") {
			return hop{}, fmt.Errorf("%q is not an IP address", host)
		}
		return hop{network: "tcp", host: addr.String(), port: port}, nil
	}
	if err == nil {
		host = bare.String()
	} else if !isHostName(host) {
		return hop{}, fmt.Errorf("%q is neither a host name nor an address", host)
	}
	return hop{network: "tcp", host: host, port: port}, nil
}

// isHostName takes what a resolver may be asked for. QUIRK: inside names have
// underscores (containers').
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// target is a host to be tried for a route.
type target struct {
	key   key
	entry key      // the route's entry that led here: where capabilities are remembered
	addrs []string // already resolved; nil: not yet
}

// key tells connections apart that must not stand in for each other.
type key struct {
	hop
	tls TLSPolicy
}

// entryOf is an entry of the route, with the domain that "mx:" stands for.
func (r Route) entryOf(host string) (key, error) {
	h, err := parseHost(host)
	if err != nil {
		return key{}, err
	}
	if h.network == "" && h.host == "" {
		h.host = strings.ToLower(r.Domain)
	}
	return key{hop: h, tls: r.TLS}, nil
}

// targets are the hosts of a route in the order in which they are tried. An
// error stands for an entry that leads to no host.
func (r *Relay) targets(ctx context.Context, route Route) iter.Seq2[target, error] {
	return func(yield func(target, error) bool) {
		for _, host := range route.Hosts {
			entry, err := route.entryOf(host)
			if err != nil {
				err = &hopError{status: Down, err: err}
			}
			if err != nil || entry.network != "" {
				if !yield(target{key: entry, entry: entry}, err) {
					return
				}
				continue
			}
			ts, err := r.exchangers(ctx, entry)
			if err != nil && !yield(target{key: entry, entry: entry}, err) {
				return
			}
			for _, t := range ts {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

// exchangers are the hosts of an "mx:" entry (RFC 5321, section 5.1).
func (r *Relay) exchangers(ctx context.Context, entry key) ([]target, error) {
	if !isHostName(entry.host) {
		return nil, &hopError{status: Down, err: fmt.Errorf("look up MX: %q is not a domain", entry.host)}
	}
	config, _ := r.settings()
	mxs, err := config.Resolver.LookupMX(ctx, entry.host)
	switch {
	case len(mxs) == 0 && isNotFound(err): // the domain itself is its mail exchanger
		mxs = []*net.MX{{Host: entry.host}}
	case len(mxs) == 0:
		return nil, &hopError{status: Down, err: fmt.Errorf("look up MX: %w", err)}
	case len(mxs) == 1 && strings.TrimSuffix(mxs[0].Host, ".") == "": // RFC 7505
		return nil, &hopError{
			status: Refused, err: errors.New("null MX"),
			reply: mail.Reply{Code: 556, Enhanced: "5.1.10", Text: "The domain accepts no mail"},
		}
	}
	return config.better(ctx, entry, mxs)
}

// isNotFound says that the name has no such record. A resolver that answers
// without records and without an error says the same.
func isNotFound(err error) bool {
	var dns *net.DNSError
	return err == nil || errors.As(err, &dns) && dns.IsNotFound
}

// better keeps the exchangers that are nearer to the domain than we are: mail
// must only ever move towards a lower preference, or it goes round in circles.
func (c Config) better(ctx context.Context, entry key, mxs []*net.MX) ([]target, error) {
	mxs = slices.Clone(mxs) // they may be the resolver's cache
	slices.SortStableFunc(mxs, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
	var ts []target
	var err error
	for i := 0; i < len(mxs); {
		var same []target // exchangers of one preference
		for pref := mxs[i].Pref; i < len(mxs) && mxs[i].Pref == pref; i++ {
			t, self, lookupErr := c.exchanger(ctx, entry, mxs[i])
			if self {
				return ts, c.noneLeft(ts, entry, errors.New("the best mail exchanger is this server"))
			}
			if lookupErr != nil {
				err = lookupErr
				continue
			}
			same = append(same, t)
		}
		ts = append(ts, same...)
	}
	return ts, c.noneLeft(ts, entry, err)
}

func (c Config) noneLeft(ts []target, entry key, err error) error {
	if len(ts) > 0 {
		return nil
	}
	return &hopError{status: Down, err: fmt.Errorf("mail exchangers of %s: %w", entry.host, err)}
}

// exchanger resolves one mail exchanger and says whether it is ourselves.
func (c Config) exchanger(ctx context.Context, entry key, mx *net.MX) (t target, self bool, err error) {
	name := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
	if strings.EqualFold(name, c.Hostname) {
		return target{}, true, nil
	}
	t = target{key: key{hop: hop{network: "tcp", host: name, port: "25"}, tls: entry.tls}, entry: entry}
	t.addrs, err = c.addresses(ctx, t.key.hop)
	if err != nil || c.IsSelf == nil {
		return t, false, err
	}
	return t, slices.ContainsFunc(t.addrs, func(s string) bool {
		addr, err := netip.ParseAddrPort(s)
		return err == nil && c.IsSelf(addr)
	}), nil
}

// addresses are what to dial for h, in order.
func (c Config) addresses(ctx context.Context, h hop) ([]string, error) {
	if h.network == "unix" {
		return []string{h.host}, nil
	}
	if _, err := netip.ParseAddr(h.host); err == nil {
		return []string{h.String()}, nil
	}
	hosts, err := c.Resolver.LookupHost(ctx, h.host)
	if err == nil && len(hosts) == 0 {
		err = fmt.Errorf("look up %s: no address", h.host)
	}
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(hosts))
	for i, host := range hosts {
		addrs[i] = net.JoinHostPort(host, h.port)
	}
	return addrs, nil
}
