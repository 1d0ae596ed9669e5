package main

import (
	"context"
	"sync"
	"time"

	"postern/cmd/postern/house"
	"postern/filters/clamav"
	"postern/filters/spamassassin"
)

// daemon is an engine that may run on this machine.
type daemon struct {
	filter  string // its table in the configuration
	name    string // what people call it
	address string // where it answers; "" is nowhere
}

// probeTime bounds the search for one daemon.
const probeTime = 500 * time.Millisecond

// findDaemons looks for clamd and spamd where distributions put them.
func findDaemons(ctx context.Context) []daemon {
	clamd := func(address string) (house.Pinger, error) {
		return clamav.New(clamav.Config{Addresses: []string{address}})
	}
	spamd := func(address string) (house.Pinger, error) {
		return spamassassin.New(spamassassin.Config{Addresses: []string{address}})
	}
	found := []daemon{{filter: "clamav", name: "clamd"}, {filter: "spamassassin", name: "spamd"}}
	var both sync.WaitGroup
	both.Go(func() {
		found[0].address = answering(ctx, clamd, "unix:/run/clamav/clamd.ctl", "unix:/var/run/clamav/clamd.ctl", "tcp:127.0.0.1:3310")
	})
	both.Go(func() { found[1].address = answering(ctx, spamd, "tcp:127.0.0.1:783") })
	both.Wait()
	return found
}

// answering is the first address at which an engine answers; "" is none.
func answering(ctx context.Context, engine func(address string) (house.Pinger, error), addresses ...string) string {
	for _, address := range addresses {
		e, err := engine(address)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		err = e.Ping(ctx)
		cancel()
		if err == nil {
			return address
		}
	}
	return ""
}
