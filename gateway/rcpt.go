package gateway

import (
	"context"
	"slices"
	"strings"

	"postern/gateway/mail"
	"postern/gateway/recipients"
	"postern/gateway/relay"
	"postern/gateway/smtpd"
)

// Replies to RCPT. Their texts never say more than the client must know.
var (
	tooManyRecipients = mail.Reply{Code: 452, Enhanced: "4.5.3", Text: "Too many recipients"}
	relayDenied       = mail.Reply{Code: 550, Enhanced: "5.7.1", Text: "Relaying denied"}
	badRecipient      = mail.Reply{Code: 550, Enhanced: "5.1.3", Text: "Recipient address refused"}
	badSyntax         = mail.Reply{Code: 501, Enhanced: "5.1.3", Text: "Malformed recipient address"}
	noSuchUser        = mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "No such recipient here"}
	harvesting        = mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "Too many unknown recipients"}
	notNow            = mail.Reply{Code: 450, Enhanced: "4.1.1", Text: "Recipient can't be verified now, try again later"}
	notVerified       = mail.Reply{Code: 451, Enhanced: "4.4.3", Text: "Recipient can't be verified now, try again later"}
	needsUTF8         = mail.Reply{Code: 550, Enhanced: "5.6.7", Text: "The recipient's server does not support SMTPUTF8"}
	utf8Unknown       = mail.Reply{Code: 450, Enhanced: "4.4.1", Text: "The recipient's server can't be asked now, try again later"}
	tooBigInside      = mail.Reply{Code: 552, Enhanced: "5.3.4", Text: "Message too big for the recipient's server"}
	refusedEarly      = mail.Reply{Code: 550, Enhanced: "5.7.1", Text: "Refused"}
	deferredEarly     = mail.Reply{Code: 451, Enhanced: "4.7.1", Text: "Try again later"}
	recipientOK       = mail.Reply{Code: 250, Enhanced: "2.1.5", Text: "Recipient ok"}
)

// rcpt answers one RCPT; reason is for log and metrics.
func (s *session) rcpt(ctx context.Context, c smtpd.RcptCommand) (reply mail.Reply, reason string) {
	if len(s.message.Envelope.Recipients) >= s.settings.Recipients {
		return tooManyRecipients, "recipients"
	}
	if c.Err != nil {
		return s.malformed(c)
	}
	if s.forPostmaster(c.Address) {
		return s.acceptPostmaster(), ""
	}
	d, ours := s.settings.domain(c.Address.Domain)
	if !ours {
		return relayDenied, "relay"
	}
	if role(c.Address) {
		return s.accept(c.Address), ""
	}
	if reply, reason := s.fits(ctx, d, c.Address); !reply.Positive() {
		return reply, reason
	}
	if reply, reason := s.exists(ctx, d, c.Address); !reply.Positive() {
		return reply, reason
	}
	if reply, reason := s.judgeEarly(c.Address); !reply.Positive() {
		return reply, reason
	}
	return s.accept(c.Address), ""
}

// malformed answers for what is no address. Where the domain behind the last @
// is ours, a route or a second @ is a try to relay through us; elsewhere there
// is nothing to tell apart.
func (s *session) malformed(c smtpd.RcptCommand) (mail.Reply, string) {
	at := strings.LastIndexByte(c.Path, '@')
	if at < 0 {
		return badSyntax, "syntax"
	}
	if _, ours := s.settings.domain(c.Path[at+1:]); ours {
		return badRecipient, "route"
	}
	if _, err := mail.ParseAddress("a" + c.Path[at:]); err != nil {
		return badSyntax, "syntax"
	}
	return relayDenied, "relay"
}

// forPostmaster says whether a is the bare postmaster or a role address at the
// gateway's own name, where no mailbox is (RFC 5321, section 4.5.1).
func (s *session) forPostmaster(a mail.Address) bool {
	if a.Domain == "" {
		return true
	}
	_, ours := s.settings.domain(a.Domain)
	return !ours && role(a) && strings.EqualFold(a.Domain, s.settings.Hostname)
}

// role says whether a is an address that must never be refused (RFC 5321,
// section 4.5.1; RFC 2142).
func role(a mail.Address) bool {
	return strings.EqualFold(a.Local, "postmaster") || strings.EqualFold(a.Local, "abuse")
}

// acceptPostmaster takes those who stand in. One whom the sender named before is
// the sender's own recipient.
func (s *session) acceptPostmaster() mail.Reply {
	for _, a := range s.settings.Postmaster {
		if !s.has(a) {
			s.accept(a)
			s.standIns = append(s.standIns, a)
		}
	}
	return recipientOK
}

// has says whether a is a recipient already.
func (s *session) has(a mail.Address) bool {
	return slices.ContainsFunc(s.message.Envelope.Recipients, func(r mail.Address) bool { return r.Key() == a.Key() })
}

// accept adds a recipient to the envelope, once.
func (s *session) accept(a mail.Address) mail.Reply {
	if e := &s.message.Envelope; !s.has(a) {
		e.Recipients = append(e.Recipients, a)
	}
	return recipientOK
}

// fits says whether the inside can take this message for this recipient at all:
// by its size, and by the letters of its addresses.
func (s *session) fits(ctx context.Context, d Domain, rcpt mail.Address) (mail.Reply, string) {
	e := s.message.Envelope
	caps, seen := s.gateway.Relay.Capabilities(d.Route)
	if seen && caps.Size > 0 && e.Size > caps.Size {
		return tooBigInside, "size"
	}
	if rcpt.ASCII() && e.ReversePath.ASCII() {
		return recipientOK, ""
	}
	if !seen {
		var err error
		if caps, err = s.gateway.Relay.Probe(ctx, d.Route); err != nil {
			return utf8Unknown, "utf8"
		}
	}
	if !caps.SMTPUTF8 {
		return needsUTF8, "utf8"
	}
	return recipientOK, ""
}

// exists says whether the domain has the recipient. A form that could make the
// inside relay is taken only where that very recipient is known: by the list,
// or by an inside that does not take just any name.
func (s *session) exists(ctx context.Context, d Domain, rcpt mail.Address) (mail.Reply, string) {
	routed := strings.ContainsAny(rcpt.Local, "%!@")
	switch d.Verify {
	case VerifyAny:
		if routed {
			return badRecipient, "route"
		}
		return recipientOK, ""
	case VerifyList:
		if d.Listed[rcpt.Key()] {
			return recipientOK, ""
		}
	case VerifyAsk:
		if reply, reason, decided := s.verified(ctx, d, rcpt, routed); decided {
			return reply, reason
		}
	}
	if routed {
		return badRecipient, "route"
	}
	s.unknown++
	if s.unknown >= maxUnknown {
		return harvesting, "unknown"
	}
	return noSuchUser, "unknown"
}

// verified asks the inside; decided is false where it does not know the
// recipient.
func (s *session) verified(ctx context.Context, d Domain, rcpt mail.Address, routed bool) (reply mail.Reply, reason string, decided bool) {
	ask := s.gateway.ask(s.settings, d.Route)
	book := s.gateway.Recipients
	if routed {
		domain := rcpt.DomainKey()
		if _, tried := book.CatchAll(domain); !tried {
			book.Try(ctx, domain, ask)
		}
		if catchAll, tried := book.CatchAll(domain); catchAll || !tried {
			return badRecipient, "route", true
		}
	}
	switch book.Check(ctx, rcpt, ask) {
	case recipients.Known:
		return recipientOK, "", true
	case recipients.Unknown:
		return mail.Reply{}, "", false
	case recipients.Away:
		if d.Backup && !routed {
			return recipientOK, "", true
		}
		return notNow, "verify", true
	}
	return notVerified, "verify", true
}

// ask is the question that the recipients' book puts to a route.
func (g *Gateway) ask(s *Settings, route relay.Route) recipients.Ask {
	return func(ctx context.Context, rcpt mail.Address) recipients.Reply {
		o := g.Relay.Verify(ctx, route, rcpt)
		g.observe(s, route.Domain, []relay.Outcome{o})
		return recipients.Reply{Reply: o.Reply, Down: o.Status == relay.Down}
	}
}

// judgeEarly refuses a recipient whose policy refuses what is known before the
// content: it is never scanned.
func (s *session) judgeEarly(rcpt mail.Address) (mail.Reply, string) {
	if len(s.early) == 0 {
		return recipientOK, ""
	}
	for _, v := range s.settings.Judge.Judge(s.early, []mail.Address{rcpt}) {
		switch v.Action {
		case mail.Reject:
			return refusedEarly, "policy"
		case mail.Defer:
			return deferredEarly, "deferred"
		}
	}
	return recipientOK, ""
}
