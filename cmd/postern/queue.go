package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/cmd/postern/screen"
	"postern/gateway/control"
)

type queueCommand struct {
	List   queueList   `cmd:"" help:"What waits, and why."`
	Show   queueShow   `cmd:"" help:"One message that waits."`
	Retry  queueRetry  `cmd:"" help:"Try again now: one message, or all."`
	Delete queueDelete `cmd:"" help:"Throw a message away; nobody is told."`
}

// Help is shown by --help.
func (queueCommand) Help() string {
	return `Mail waits here when its next hop is down or says "later". It is tried again by
[delivery] retry, and reported to its sender when [delivery] lifetime is over.

Examples:
  postern queue list
  postern queue retry                 # everything, now
  postern queue show 06fq9z1k2m3n4p5q6r7s8t`
}

type queueList struct {
	JSON bool `help:"One JSON object a line."`
}

// Run lists what waits.
func (q queueList) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	items, err := o.Queue(ctx)
	if err != nil {
		return err
	}
	if q.JSON {
		return screen.WriteJSON(t.out, items)
	}
	if len(items) == 0 {
		fmt.Fprintln(t.out, "Nothing waits.")
		return nil
	}
	rows := screen.Table{{"ID", "SINCE", "TRIES", "NEXT", "SENDER", "RECIPIENTS", "NEXT HOP", "LAST REPLY"}}
	for _, it := range items {
		rows = append(rows, []string{
			it.ID, screen.ShortTime(it.Time), fmt.Sprint(it.Attempts), next(it), screen.Sender(it.Sender),
			screen.Brief(strings.Join(it.Recipients, " ")), it.NextHop, it.LastReply,
		})
	}
	return rows.Write(t.out)
}

func next(it control.Queued) string {
	switch {
	case it.Held:
		return "waits for an answer"
	case it.Next.Before(time.Now()):
		return "now"
	}
	return "in " + time.Until(it.Next).Round(time.Second).String()
}

type queueShow struct {
	ID   string `arg:"" help:"The message's id."`
	JSON bool   `help:"One JSON object."`
}

// Run shows one item.
func (q queueShow) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	items, err := o.Queue(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(items, func(it control.Queued) bool { return it.ID == q.ID })
	if i < 0 {
		return fmt.Errorf("%s: %w", q.ID, control.ErrNotFound)
	}
	it := items[i]
	if q.JSON {
		return screen.WriteJSON(t.out, items[i:i+1])
	}
	return screen.Table{
		{"Id", it.ID},
		{"Since", screen.LongTime(it.Time)},
		{"Sender", screen.Sender(it.Sender)},
		{"Recipients", strings.Join(it.Recipients, ", ")},
		{"Subject", it.Subject},
		{"Next hop", it.NextHop},
		{"Tries", fmt.Sprint(it.Attempts)},
		{"Next try", next(it)},
		{"Last reply", it.LastReply},
	}.Write(t.out)
}

type queueRetry struct {
	ID string `arg:"" optional:"" help:"The message's id; absent is all."`
}

// Run makes items due.
func (q queueRetry) Run(ctx context.Context, c *commands, t terminal) error {
	client, err := running(ctx, c)
	if err != nil {
		return err
	}
	return client.RetryQueued(ctx, q.ID)
}

type queueDelete struct {
	ID string `arg:"" help:"The message's id."`
}

// Run throws an item away.
func (q queueDelete) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	return o.DeleteQueued(ctx, q.ID)
}
