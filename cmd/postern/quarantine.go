package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/cmd/postern/house"
	"postern/cmd/postern/screen"
	"postern/gateway/control"
)

type quarantineCommand struct {
	List    quarantineList    `cmd:"" help:"What is kept, newest first."`
	Show    quarantineShow    `cmd:"" help:"One kept message, and why it is kept."`
	Release quarantineRelease `cmd:"" help:"Deliver the original as it was received."`
	Delete  quarantineDelete  `cmd:"" help:"Throw a kept message away."`
}

// Help is shown by --help.
func (quarantineCommand) Help() string {
	return `Kept here: spam over the quarantine threshold, viruses, the originals of mail that
attachments were taken from, and what could not be delivered after we had taken it.

Examples:
  postern quarantine list --rcpt anna@example.com --since 24h
  postern quarantine list --reason virus --json
  postern quarantine show 06fq9z1k2m3n4p5q6r7s8t --raw > message.eml
  postern quarantine release 06fq9z1k2m3n4p5q6r7s8t`
}

type quarantineList struct {
	JSON   bool   `help:"One JSON object a line."`
	Rcpt   string `help:"Only for this recipient, or domain." placeholder:"ADDRESS"`
	Sender string `help:"Only from this sender, or domain." placeholder:"ADDRESS"`
	Since  string `help:"Only since then: 24h, 7d, 2026-11-22." placeholder:"TIME"`
	Reason string `help:"Only of this class (spam, virus, attachment, policy, undeliverable), or with this in the reason." placeholder:"WORD"`
	Limit  int    `help:"At most so many." default:"1000"`
}

// Run lists what is kept.
func (q quarantineList) Run(ctx context.Context, c *commands, t terminal) error {
	since, err := parseSince(q.Since)
	if err != nil {
		return err
	}
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	items, err := o.Kept(ctx, control.KeptQuery{Recipient: q.Rcpt, Sender: q.Sender, Since: since, Reason: q.Reason, Limit: q.Limit})
	if err != nil {
		return err
	}
	if q.JSON {
		return screen.WriteJSON(t.out, items)
	}
	if len(items) == 0 {
		fmt.Fprintln(t.out, "Nothing is kept.")
		return nil
	}
	rows := screen.Table{{"ID", "TIME", "CLASS", "SCORE", "SENDER", "RECIPIENTS", "SUBJECT", "REASON"}}
	for _, k := range items {
		rows = append(rows, []string{
			k.ID, screen.ShortTime(k.Time), string(k.Class) + unscanned(k), fmt.Sprintf("%.1f", k.Score), screen.Sender(k.Sender),
			screen.Brief(strings.Join(k.Recipients, " ")), screen.Brief(k.Subject), screen.Brief(k.Reason),
		})
	}
	return rows.Write(t.out)
}

func unscanned(k control.Kept) string {
	if len(k.Unscanned) == 0 {
		return ""
	}
	return " (unscanned)"
}

// parseSince reads a span back from now, or a date.
func parseSince(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return time.Now().AddDate(0, 0, -n), nil
		}
	}
	if span, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-span), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q is no time: write 24h, 7d, 2026-11-22 or 2026-11-22T15:04:05Z", s)
}

type quarantineShow struct {
	ID   string `arg:"" help:"The message's id."`
	Raw  bool   `help:"Write the original, byte for byte."`
	JSON bool   `help:"One JSON object."`
}

// Run shows one kept message.
func (q quarantineShow) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	if q.Raw {
		return o.KeptContent(ctx, q.ID, t.out)
	}
	k, err := o.KeptOne(ctx, q.ID)
	if err != nil {
		return err
	}
	if q.JSON {
		return screen.WriteJSON(t.out, []control.Kept{k})
	}
	rows := screen.Table{
		{"Id", k.ID},
		{"Time", screen.LongTime(k.Time)},
		{"Class", string(k.Class)},
		{"Reason", k.Reason},
		{"Sender", screen.Sender(k.Sender)},
		{"Recipients", strings.Join(k.Recipients, ", ")},
		{"Subject", k.Subject},
		{"Size", screen.Octets(k.Size)},
		{"Score", fmt.Sprintf("%.1f", k.Score)},
		{"Symbols", strings.Join(k.Symbols, ", ")},
	}
	if len(k.Unscanned) > 0 {
		rows = append(rows, []string{"Unscanned", strings.Join(k.Unscanned, ", ") + " could not answer; asked again before a release"})
	}
	for _, r := range k.Released {
		rows = append(rows, []string{"Released", screen.LongTime(r.Time) + " to " + r.Recipient + ": " + r.Reply})
	}
	return rows.Write(t.out)
}

type quarantineRelease struct {
	ID    string `arg:"" help:"The message's id."`
	To    string `help:"Deliver to this address instead of the recipients." placeholder:"ADDRESS"`
	Virus bool   `help:"Release it although it holds a virus."`
}

// Run releases a message, and says what each next hop answered.
func (q quarantineRelease) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	done, err := o.ReleaseKept(ctx, q.ID, control.Release{To: q.To, Virus: q.Virus})
	if errors.Is(err, control.ErrVirus) {
		return house.Advise(err, "--virus releases it all the same")
	}
	refused := false
	for _, d := range done {
		fmt.Fprintln(t.out, screen.Harmless(d.Recipient+": "+d.Reply))
		refused = refused || strings.HasPrefix(d.Reply, "5")
	}
	if err == nil && refused {
		return errors.New("the server inside refused it; it stays in the quarantine")
	}
	return err
}

type quarantineDelete struct {
	ID string `arg:"" help:"The message's id."`
}

// Run throws a kept message away.
func (q quarantineDelete) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	return o.DeleteKept(ctx, q.ID)
}
