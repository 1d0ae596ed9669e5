package smtpd

import (
	"net/netip"
	"time"
)

// gate counts connections, so that a flood costs the flooder and nobody else.
// Its user locks.
type gate struct {
	open    int
	clients map[netip.Prefix]*tally
	swept   time.Time
}

// tally counts one client's connections.
type tally struct {
	open  int
	begun int       // since
	since time.Time // the first connection of the running minute
}

// clientOf is who is counted as one client: an IPv4 address, or an IPv6 /64,
// since whoever has one address of it has them all.
func clientOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // the error is the zero Addr's: the zero Prefix then
	return p
}

// enter lets a connection in, or says which limit keeps it out.
func (g *gate) enter(client netip.Prefix, l Limits, now time.Time) (reason string) {
	g.sweep(now)
	if g.open >= l.Connections {
		return ReasonConnections
	}
	t := g.clients[client]
	if t == nil {
		t = &tally{since: now}
	}
	if now.Sub(t.since) >= time.Minute {
		t.begun, t.since = 0, now
	}
	switch {
	case t.open >= l.PerClient:
		return ReasonPerClient
	case l.Rate > 0 && t.begun >= l.Rate:
		return ReasonRate
	}
	if g.clients == nil {
		g.clients = map[netip.Prefix]*tally{}
	}
	g.clients[client] = t
	g.open++
	t.open++
	if l.Rate > 0 {
		t.begun++
	}
	return ""
}

// leave ends a connection that enter let in.
func (g *gate) leave(client netip.Prefix) {
	g.open--
	t := g.clients[client]
	t.open--
	if t.open == 0 && t.begun == 0 {
		delete(g.clients, client)
	}
}

// sweep forgets, once a minute, the clients who have no connection and none in
// their running minute.
func (g *gate) sweep(now time.Time) {
	if now.Sub(g.swept) < time.Minute {
		return
	}
	g.swept = now
	for client, t := range g.clients {
		if t.open == 0 && now.Sub(t.since) >= time.Minute {
			delete(g.clients, client)
		}
	}
}
