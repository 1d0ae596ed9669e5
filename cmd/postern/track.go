package main

import (
	"context"
	"fmt"
	"strings"

	"postern/cmd/postern/screen"
	"postern/gateway/mail"
)

type trackCommand struct {
	Query []string `arg:"" help:"An id, an address, a domain, a client's IP address, a time (2026-11-22, 2026-11-22T14), words of the subject."`
	JSON  bool     `help:"One JSON object a line."`
}

// Help is shown by --help.
func (trackCommand) Help() string {
	return `Says what became of messages, newest first: taken, kept, refused, before DATA too.

Examples:
  postern track anna@example.com
  postern track 198.51.100.7
  postern track 06fq9z1k2m3n4p5q6r7s8t --json`
}

// Run searches the records.
func (q trackCommand) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	records, err := o.Track(ctx, strings.Join(q.Query, " "))
	if err != nil {
		return err
	}
	if q.JSON {
		for i := range records {
			complete(&records[i])
		}
		return screen.WriteJSON(t.out, records)
	}
	if len(records) == 0 {
		fmt.Fprintln(t.out, "Nothing found.")
		return nil
	}
	for i, r := range records {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		if err := writeRecord(t, r); err != nil {
			return err
		}
	}
	return nil
}

// complete writes empty lists as such, so that a reader of the JSON finds every
// key.
func complete(r *mail.Record) {
	if r.Recipients == nil {
		r.Recipients = []string{}
	}
	if r.Hits == nil {
		r.Hits = []mail.Hit{}
	}
	if r.Deliveries == nil {
		r.Deliveries = []mail.Delivery{}
	}
}

func writeRecord(t terminal, r mail.Record) error {
	client := r.Client
	if r.HELO != "" {
		client += " (" + r.HELO + ")"
	}
	if r.TLS != "" {
		client += " " + r.TLS
	}
	rows := screen.Table{
		{"Id", r.ID}, {"Time", screen.LongTime(r.Time)}, {"Client", client}, {"Sender", screen.Sender(r.Sender)}, {"Recipients", strings.Join(r.Recipients, ", ")},
	}
	if r.Subject != "" {
		rows = append(rows, []string{"Subject", r.Subject})
	}
	if r.Size > 0 {
		rows = append(rows, []string{"Size", screen.Octets(r.Size)})
	}
	verdict := fmt.Sprintf("%s, score %.1f of %.1f", r.Action, r.Score, r.Required)
	if r.Stage == "rcpt" || r.Stage == mail.StageConnect.String() {
		verdict = fmt.Sprintf("%s at %s", r.Action, r.Stage)
	}
	if r.Reason != "" {
		verdict += ": " + r.Reason
	}
	rows = append(rows, []string{"Verdict", verdict})
	for _, h := range r.Hits {
		rows = append(rows, []string{"", fmt.Sprintf("%+5.1f  %s  %s", h.Score, h.Symbol, because(h))})
	}
	if len(r.Unscanned) > 0 {
		rows = append(rows, []string{"Silent", strings.Join(r.Unscanned, ", ")})
	}
	reply := r.Reply
	if r.Count > 1 {
		reply = fmt.Sprintf("%s (%d times)", reply, r.Count)
	}
	rows = append(rows, []string{"Reply", reply})
	for _, d := range r.Deliveries {
		rows = append(rows, []string{"Delivery", fmt.Sprintf("%s  %s  %s  %s", screen.LongTime(d.Time), d.Recipient, d.NextHop, d.Reply)})
	}
	return rows.Write(t.out)
}

// because says in words why a symbol hit.
func because(h mail.Hit) string {
	if h.Evidence == "" {
		return h.Description
	}
	return h.Description + " [" + h.Evidence + "]"
}
