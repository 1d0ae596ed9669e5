package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// What memory is measured with, and what it should stay under in MB.
const (
	idleSessions   = 1000
	idlePerAddress = 40 // Postern lets one address have 50 at once
	idleTarget     = 100
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
	clients := make([]client, idleSessions)
	defer func() {
		for i := range clients {
			clients[i].drop()
		}
	}()
	for i := range clients {
		c := &clients[i]
		c.to = p.address
		c.from = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/idlePerAddress))}
		if err := c.open(); err != nil {
			return f, fmt.Errorf("session %d: %w", i+1, err)
		}
		if secure {
			if err := c.startTLS(); err != nil {
				return f, fmt.Errorf("session %d: %w", i+1, err)
			}
		}
	}
	time.Sleep(2 * settle)
	n, err := peakMemory(p.command.Process.Pid)
	f.MB = float64(n) / 1e6
	return f, err
}

// startTLS goes on under TLS (RFC 3207).
func (c *client) startTLS() error {
	if err := c.command(220, "STARTTLS\r\n"); err != nil {
		return err
	}
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) // a certificate that it made for itself
	if err := secure.Handshake(); err != nil {
		return err
	}
	c.conn = secure
	c.r.Reset(secure)
	return c.command(250, "EHLO client.sender.example\r\n")
}

// large sends many large messages at once, all with one attachment.
func (b *bench) large(ctx context.Context, p *peer) (footprint, error) {
	f := footprint{What: fmt.Sprintf("%d messages of %d MB at once", largeMessages, largeSize/1_000_000), Target: largeTarget}
	m := largeMessage()
	l := b.newRound(largeMessages)
	done := make(chan struct{})
	go func() {
		load{to: p.address, concurrency: largeMessages, reuse: 1, mail: []message{m}}.send(l)
		l.wait(patience)
		close(done)
	}()
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-ticker.C:
			b.say("  %d of %d arrived", l.came.Load(), largeMessages)
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
	o := l.close()
	f.Note = fmt.Sprintf("%d arrived, %d refused, %.0f s", l.came.Load(), o.Refused, o.Elapsed.Seconds())
	if o.Refused > 0 {
		for i := range l.entries {
			if !l.entries[i].taken {
				f.Note += ": " + l.entries[i].reply
				break
			}
		}
	}
	n, err := peakMemory(p.command.Process.Pid)
	f.MB = float64(n) / 1e6
	return f, err
}

// largeMessage is as large as Postern takes by default, but for the token.
func largeMessage() message {
	var b bytes.Buffer
	b.Grow(largeSize)
	r := dice()
	writeHeader(&b, r)
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=_part\"\n\n--=_part\nContent-Type: application/pdf; name=\"plan.pdf\"\n" +
		"Content-Disposition: attachment; filename=\"plan.pdf\"\nContent-Transfer-Encoding: base64\n\n")
	const room, line, bare = 200, 78, 57
	lines := (largeSize - b.Len() - bytes.Count(b.Bytes(), []byte("\n")) - room) / line
	writeBase64(&b, r, lines*bare)
	b.WriteString("--=_part--\n")
	m, _ := newMessage(b.Bytes())
	return m
}
