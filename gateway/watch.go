package gateway

import (
	"context"
	"sync"
	"time"
)

// Run watches over the next hops until ctx ends, and asks those that are asked
// about recipients whether they take any name, at the start and daily.
func (g *Gateway) Run(ctx context.Context) {
	tried := map[string]time.Time{}
	var both sync.WaitGroup
	// Apart: those that don't answer take their time, and are what to alert of.
	both.Go(func() { every(ctx, func() { g.hops.check(time.Now()) }) })
	both.Go(func() { every(ctx, func() { g.tryCatchAll(ctx, tried) }) })
	both.Wait()
}

// every does work now and at each tick, until ctx ends.
func every(ctx context.Context, work func()) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		work()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tryCatchAll asks about an invented name where that was not done today. An
// inside that could not be asked is asked again at the next tick.
func (g *Gateway) tryCatchAll(ctx context.Context, tried map[string]time.Time) {
	s := g.settings.Load()
	for name, d := range s.Domains {
		if d.Verify != VerifyAsk || time.Since(tried[name]) < 24*time.Hour || ctx.Err() != nil {
			continue
		}
		g.Recipients.Try(ctx, name, g.ask(s, d.Route))
		if _, known := g.Recipients.CatchAll(name); known {
			tried[name] = time.Now()
		}
	}
}
