package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/gateway/mail"
)

// remember writes the log line and the record of a message that was judged.
func (g *Gateway) remember(ctx context.Context, p *passage) {
	r := g.record(p.message, p.reply)
	r.ElapsedMS = float64(time.Since(p.started).Microseconds()) / 1000
	r.Deliveries = slices.Concat(p.notes, p.deliveries)
	decide(&r, p.verdicts)
	for _, result := range p.results {
		if result.Attachment != nil {
			r.Attachments = append(r.Attachments, *result.Attachment)
		}
		if result.Fault == mail.FaultEngine {
			g.metrics.silent.WithLabelValues(result.Filter).Inc()
			g.Log.Warn("engine silent", "id", r.ID, "filter", result.Filter, "err", result.Err)
		}
	}
	g.metrics.messages.WithLabelValues(r.Action.String(), strconv.Itoa(p.reply.Code/100)+"xx").Inc()
	g.metrics.seconds.Observe(r.ElapsedMS / 1000)
	g.metrics.bytes.Add(float64(r.Size))
	g.logMessage(ctx, r)
	g.Recorder.Observe(ctx, r)
}

// decide fills in what the strongest verdict says; the first of several.
func decide(r *mail.Record, verdicts []mail.Verdict) {
	for i, v := range verdicts {
		if i == 0 || v.Action > r.Action {
			r.Action, r.Reason, r.Score, r.Required = v.Action, v.Reason, v.Score, v.Required
			r.Hits, r.Unscanned = v.Hits, v.Unscanned
		}
	}
}

// record is what is known of any message with content.
func (g *Gateway) record(m *mail.Message, reply mail.Reply) mail.Record {
	r := envelopeRecord(m)
	r.Stage = mail.StageContent.String()
	r.Subject, r.MessageID = subject(m), bounded(m.Header.Get("Message-ID"), 998)
	r.Reply = reply.String()
	if m.Content != nil {
		r.Size = m.Content.Size()
	}
	return r
}

func envelopeRecord(m *mail.Message) mail.Record {
	r := mail.Record{
		ID: m.ID, Time: m.Received, Client: m.Client.Addr.Addr().String(), HELO: m.Client.HELO, TLS: m.Client.TLS,
		Sender: m.Envelope.ReversePath.String(),
	}
	for _, rcpt := range m.Envelope.Recipients {
		r.Recipients = append(r.Recipients, rcpt.String())
	}
	return r
}

// subject is the decoded Subject.
func subject(m *mail.Message) string {
	for _, f := range m.Header.All("Subject") {
		return bounded(f.Text(), 998)
	}
	return ""
}

// logMessage writes the one line that a message gets.
func (g *Gateway) logMessage(ctx context.Context, r mail.Record) {
	g.Log.LogAttrs(ctx, slog.LevelInfo, "message",
		slog.String("id", r.ID), slog.String("client", r.Client), slog.String("helo", r.HELO),
		slog.String("sender", r.Sender), slog.String("recipients", strings.Join(head(r.Recipients, 10), ",")),
		slog.Int64("size", r.Size), slog.String("action", r.Action.String()), slog.Float64("score", r.Score),
		slog.String("tests", tests(r.Hits)), slog.String("reply", r.Reply), slog.Float64("ms", r.ElapsedMS))
}

func head(s []string, n int) []string { return s[:min(len(s), n)] }

func tests(hits []mail.Hit) string {
	names := make([]string, 0, len(hits))
	for _, h := range hits {
		names = append(names, h.Symbol)
	}
	return strings.Join(head(names, 50), ",")
}

// refused counts, logs and records a refused RCPT.
func (g *Gateway) refused(ctx context.Context, m *mail.Message, path string, reply mail.Reply, reason string) {
	g.metrics.refused.WithLabelValues(reason).Inc()
	r := envelopeRecord(m)
	// The message may yet be taken for others: this refusal is its own record.
	r.Time = time.Now()
	r.ID = mail.NewID(r.Time)
	r.Recipients = []string{path}
	r.Stage, r.Action, r.Reason, r.Reply = "rcpt", mail.Reject, reason, reply.String()
	if reply.Transient() {
		r.Action = mail.Defer
	}
	g.Log.LogAttrs(ctx, slog.LevelInfo, "recipient refused",
		slog.String("id", r.ID), slog.String("client", r.Client), slog.String("helo", r.HELO), slog.String("sender", r.Sender),
		slog.String("recipient", path), slog.String("reason", reason), slog.String("reply", r.Reply))
	g.Recorder.Refusal(r)
}

// rememberRefused records a message whose content was not taken.
func (g *Gateway) rememberRefused(ctx context.Context, m *mail.Message, reply mail.Reply, err error) {
	r := g.record(m, reply)
	r.Action, r.Reason = mail.Reject, err.Error()
	if reply.Transient() {
		r.Action = mail.Defer
	}
	g.metrics.messages.WithLabelValues(r.Action.String(), strconv.Itoa(reply.Code/100)+"xx").Inc()
	g.logMessage(ctx, r)
	g.Recorder.Observe(ctx, r)
}

// Refused is what the SMTP server calls for a connection that it turned away.
func (g *Gateway) Refused(r mail.Record) {
	g.metrics.turnedAway.WithLabelValues(r.Reason).Inc()
	g.Recorder.Refusal(r)
}
