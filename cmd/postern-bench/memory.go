package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"postern/cmd/postern-bench/traffic"
)

// What memory is measured with, and what it should stay under in MB.
const (
	idleSessions   = 1000
	idlePerAddress = 40 // Postern lets one address have 50 at once
	idleTarget     = 100
	idleTime       = 2 * time.Second
	largeMessages  = 50
	largeSize      = 50_000_000
	largeTarget    = 300
)

// footprint is one figure of memory.
type footprint struct {
	What   string  `json:"what"`
	MB     float64 `json:"memory_mb"`
	Target float64 `json:"target_mb,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// measureMemory makes one figure after the other, each with a Postern that has
// just started.
func (b *bench) measureMemory(ctx context.Context) (list []footprint, err error) {
	for _, step := range []struct {
		say     string
		measure func(context.Context, *peer) (footprint, error)
	}{
		{"starting", b.fresh},
		{fmt.Sprintf("opening %d sessions", idleSessions), func(_ context.Context, p *peer) (footprint, error) { return idle(p, false) }},
		{fmt.Sprintf("opening %d sessions over TLS", idleSessions), func(_ context.Context, p *peer) (footprint, error) { return idle(p, true) }},
		{fmt.Sprintf("sending %d messages of %d MB", largeMessages, largeSize/1_000_000), b.large},
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.say("%s", step.say)
		p, _, err := b.startPeer(ctx, "postern")
		if err != nil {
			return nil, err
		}
		f, err := step.measure(ctx, p)
		b.peers = b.peers[:0]
		if stopped := p.stop(); err == nil {
			err = stopped
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.say, err)
		}
		list = append(list, f)
	}
	return list, nil
}

// fresh is what Postern has when nobody has come yet.
func (b *bench) fresh(_ context.Context, p *peer) (footprint, error) {
	n, err := peakMemory(p.command.Process.Pid)
	return footprint{What: "just started", MB: float64(n) / 1e6}, err
}

// idle opens sessions that say EHLO, and nothing more.
func idle(p *peer, secure bool) (footprint, error) {
	f := footprint{What: fmt.Sprintf("%d idle sessions", idleSessions), Target: idleTarget}
	if secure {
		f.What += " over TLS"
	}
	clients := make([]traffic.Client, idleSessions)
	defer func() {
		for i := range clients {
			clients[i].Drop()
		}
	}()
	for i := range clients {
		c := &clients[i]
		c.To = p.address
		c.From = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/idlePerAddress))}
		if err := c.Open(); err != nil {
			return f, fmt.Errorf("session %d: %w", i+1, err)
		}
		if secure {
			if err := c.StartTLS(); err != nil {
				return f, fmt.Errorf("session %d: %w", i+1, err)
			}
		}
	}
	time.Sleep(idleTime)
	n, err := peakMemory(p.command.Process.Pid)
	f.MB = float64(n) / 1e6
	return f, err
}

// large sends many large messages at once, all with one attachment.
func (b *bench) large(ctx context.Context, p *peer) (footprint, error) {
	f := footprint{What: fmt.Sprintf("%d messages of %d MB at once", largeMessages, largeSize/1_000_000), Target: largeTarget}
	m := traffic.Large(largeSize)
	l := b.newRound(largeMessages)
	done := make(chan struct{})
	go func() {
		traffic.Load{To: p.address, Concurrency: largeMessages, Reuse: 1, Mail: []traffic.Message{m}}.Send(l)
		l.Wait(patience)
		close(done)
	}()
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-ticker.C:
			b.say("  %d of %d arrived", l.Count(), largeMessages)
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
	o := l.Outcome()
	f.Note = fmt.Sprintf("%d arrived, %d refused, %.0f s", l.Count(), o.Refused, o.Elapsed.Seconds())
	if o.Refused > 0 {
		f.Note += ": " + l.Refusal()
	}
	n, err := peakMemory(p.command.Process.Pid)
	f.MB = float64(n) / 1e6
	return f, err
}
