package gateway

import (
	"context"
	"errors"
	"io"
	"time"

	"postern/gateway/mail"
	"postern/gateway/smtpd"
)

// session is one client's connection; its methods are the verbs of SMTP.
type session struct {
	gateway *Gateway
	client  mail.Client
	unknown int // refused recipients that the inside does not have

	// The open transaction; nil settings where there is none.
	settings *Settings
	message  *mail.Message
	early    []mail.Result  // what the stages before the content found
	standIns []mail.Address // recipients who stand in for the bare postmaster
}

// maxUnknown is how many unknown recipients one session may name: more is
// somebody who harvests addresses.
const maxUnknown = 10

// Hello implements smtpd.Session.
func (s *session) Hello(_ context.Context, c mail.Client) mail.Reply {
	s.client = c
	return mail.Reply{}
}

// Mail implements smtpd.Session.
func (s *session) Mail(ctx context.Context, c smtpd.MailCommand) mail.Reply {
	s.settings = s.gateway.settings.Load()
	now := time.Now()
	s.message = &mail.Message{
		ID: mail.NewID(now), Received: now, Client: s.client,
		Envelope: mail.Envelope{ReversePath: c.ReversePath, SMTPUTF8: c.SMTPUTF8, EightBit: c.EightBit, Size: c.Size},
	}
	ctx, cancel := context.WithTimeout(ctx, s.settings.Reply/2)
	defer cancel()
	// A copy: a filter that overstays its time reads on while recipients and
	// content are filled in.
	m := *s.message
	s.early = s.settings.Filters.Run(ctx, mail.StageConnect, &m, nil)
	s.early = append(s.early, s.settings.Filters.Run(ctx, mail.StageEnvelope, &m, s.early)...)
	return mail.Reply{Code: 250, Enhanced: "2.1.0", Text: "Sender ok"}
}

// Rcpt implements smtpd.Session. A refusal is recorded here, wherever it comes
// from.
func (s *session) Rcpt(ctx context.Context, c smtpd.RcptCommand) mail.Reply {
	reply, reason := s.rcpt(ctx, c)
	if reply.Positive() {
		return reply
	}
	s.gateway.refused(ctx, s.message, c.Path, reply, reason)
	return reply
}

// Data implements smtpd.Session.
func (s *session) Data(ctx context.Context, content io.Reader) mail.Reply {
	g, m := s.gateway, s.message
	defer s.Reset()
	r := newReceiver(g.TempDir, &g.inMemory, m.Envelope.Size)
	defer r.close()
	if _, err := io.Copy(r, content); err != nil {
		return s.notReceived(ctx, err)
	}
	m.Content = r.content()
	// A client that is gone, or a server that is told to stop, does not end
	// what the message has come to: it is judged and handed on, or not taken.
	return g.Process(context.WithoutCancel(ctx), Transaction{s.settings, m, s.early, s.standIns})
}

// notReceived answers for a content that did not come whole.
func (s *session) notReceived(ctx context.Context, err error) mail.Reply {
	reply := mail.Reply{Code: 451, Enhanced: "4.3.0", Text: "Content not received"}
	switch {
	case errors.Is(err, smtpd.ErrBareNewline):
		reply = mail.Reply{Code: 550, Enhanced: "5.6.0", Text: "Content holds a bare CR, a bare LF or a NUL"}
	case errors.Is(err, smtpd.ErrTooBig):
		reply = mail.Reply{Code: 552, Enhanced: "5.3.4", Text: "Message too big"}
	case isFull(err):
		reply = mail.Reply{Code: 452, Enhanced: "4.3.1", Text: "Out of space"}
		s.gateway.Board.Alert("disk full", "The disk that holds the state is full: mail is put off with 452 until there is room.")
	case !errors.Is(err, smtpd.ErrCut):
		s.gateway.Log.Error("content not received", "id", s.message.ID, "err", err)
	}
	reply.Text += " (" + s.message.ID + ")"
	s.gateway.rememberRefused(ctx, s.message, reply, err)
	return reply
}

// Reset implements smtpd.Session.
func (s *session) Reset() { s.settings, s.message, s.early, s.standIns = nil, nil, nil, nil }

// Close implements smtpd.Session.
func (s *session) Close() { s.Reset() }
