package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"postern/gateway/mail"
)

// command carries out one command line.
func (c *conn) command(line []byte) {
	verb, arg := splitVerb(line)
	if isHTTP(verb, line) {
		c.abortOver(ReasonHTTP)
		return
	}
	switch string(verb) {
	case "MAIL":
		c.mail(arg)
		return
	case "RCPT":
		c.rcpt(arg)
		return
	case "BDAT": // its chunk comes behind it, and must never be read as commands
		c.quitOver(replyNoBDAT, ReasonChunking)
		return
	}
	if !isASCII(arg) || !printable(arg) {
		c.refuse(replyControl)
		return
	}
	switch string(verb) {
	case "EHLO", "HELO":
		c.hello(arg, verb[0] == 'E')
	case "DATA":
		c.data(arg)
	case "STARTTLS":
		c.startTLS(arg)
	case "QUIT":
		c.say(replyBye)
		c.end = leave
	case "AUTH", "EXPN":
		c.refuse(replyNotOffered)
	default:
		c.idle(string(verb), arg)
	}
}

// idle carries out the commands that lead to nothing.
func (c *conn) idle(verb, arg string) {
	switch verb {
	case "RSET":
		if arg != "" {
			c.refuse(replyNoArgument)
			return
		}
		c.reset()
		c.noop(replyOK)
	case "NOOP":
		c.noop(replyOK)
	case "HELP":
		c.noop(replyHelp)
	case "VRFY":
		if arg == "" {
			c.refuse(replyArgument)
			return
		}
		c.noop(replyVRFY)
	default:
		c.refuse(replyUnknown)
	}
}

// refuse answers a command that can't be carried out, and counts it.
func (c *conn) refuse(r mail.Reply) {
	if c.bad++; c.bad > c.config.Limits.BadCommands {
		c.quitOver(replyBadCommands, ReasonBadCommands)
		return
	}
	c.say(r)
}

// noop answers a command that led to nothing, and counts it.
func (c *conn) noop(r mail.Reply) {
	if c.idled() {
		c.answer(r)
	}
}

// idled counts a command that led to nothing, and says whether the client may
// go on.
func (c *conn) idled() bool {
	if c.noops++; c.noops > c.config.Limits.Noops {
		c.quitOver(replyNoops, ReasonNoops)
		return false
	}
	return true
}

// answer says the session's reply. 421 is how a session ends the connection.
func (c *conn) answer(r mail.Reply) {
	c.say(r)
	if r.Code == 421 {
		c.end = linger
	}
}

// sound is the session's reply, unless no client could understand it.
func (c *conn) sound(r mail.Reply) mail.Reply {
	if r.Positive() || r.Transient() || r.Permanent() {
		return r
	}
	c.server.log().Error("reply without a meaning", "client", c.client.Addr, "reply", r.String())
	return replyLocalError
}

// reset forgets the transaction.
func (c *conn) reset() {
	c.inMail, c.utf8, c.rcpts, c.accepted = false, false, 0, 0
	c.session.Reset()
}

// hello is EHLO and HELO. What the client says of itself need not be a host
// name: too many good ones aren't (RFC 5321, section 4.1.4).
func (c *conn) hello(arg string, esmtp bool) {
	if c.early() {
		c.quitOver(replyEarly, ReasonEarly)
		return
	}
	if arg == "" || len(arg) > maxHello || strings.Contains(arg, " ") {
		c.refuse(replyHello)
		return
	}
	if !c.idled() {
		return
	}
	c.reset()
	client := c.client
	client.HELO, client.ESMTP = arg, esmtp
	if r := c.session.Hello(c.server.ctx, client); r.Code != 0 {
		if r = c.sound(r); !r.Positive() {
			c.client.HELO = ""
			c.answer(r)
			return
		}
	}
	c.client = client
	if !esmtp {
		c.say(mail.Reply{Code: 250, Text: c.config.Hostname})
		return
	}
	c.offer()
}

// offer is the reply to EHLO.
func (c *conn) offer() {
	for _, line := range []string{c.config.Hostname, "PIPELINING", "8BITMIME", "SMTPUTF8"} {
		c.out = appendReplyLine(c.out, 250, '-', line)
	}
	if c.config.TLS != nil && c.client.TLS == "" {
		c.out = appendReplyLine(c.out, 250, '-', "STARTTLS")
	}
	c.out = appendReplyLine(c.out, 250, '-', "SIZE "+strconv.FormatInt(c.config.Limits.MessageSize, 10))
	c.out = appendReplyLine(c.out, 250, ' ', "ENHANCEDSTATUSCODES")
}

// startTLS is RFC 3207. What the client sent in clear behind the command is
// thrown away: whoever wrote it there, it must not count as said under TLS.
func (c *conn) startTLS(arg string) {
	if r := c.refuseTLS(arg); r.Code != 0 {
		c.refuse(r)
		return
	}
	c.dropPlaintext()
	c.say(replyGoTLS)
	if c.flush() != nil {
		c.end = abort
		return
	}
	c.shakeHands()
}

// refuseTLS says why there is no STARTTLS now.
func (c *conn) refuseTLS(arg string) (refusal mail.Reply) {
	switch {
	case arg != "":
		return replyNoArgument
	case c.client.TLS != "":
		return replyTLSOn
	case c.config.TLS == nil:
		return replyNotOffered
	case c.client.HELO == "":
		return replyHelloFirst
	case c.inMail:
		return replyNested
	}
	return refusal
}

// dropPlaintext throws away what came before the client could know that we are
// ready for its handshake. Somebody who goes on sending gets no handshake.
func (c *conn) dropPlaintext() {
	c.in.drop()
	for total := 0; total < lingerOctets && c.peek != nil && pending(c.peek); {
		if c.in.fill(c.raw) != nil {
			break
		}
		total += len(c.in.unread())
		c.in.drop()
	}
}

// shakeHands begins TLS, and forgets all that was said before.
func (c *conn) shakeHands() {
	if !c.wait(time.Now().Add(handshakeTime)) {
		c.end = abort
		return
	}
	ctx, cancel := context.WithTimeout(c.server.ctx, handshakeTime)
	defer cancel()
	t := tls.Server(c.raw, c.config.TLS)
	err := t.HandshakeContext(ctx)
	c.work()
	if err != nil {
		c.server.log().Debug("TLS handshake", "client", c.client.Addr, "err", err)
		c.abortOver(ReasonHandshake)
		return
	}
	state := t.ConnectionState()
	c.rw = t
	c.client.HELO, c.client.ESMTP, c.noops = "", false, 0
	c.client.TLS = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	c.reset()
}

// mail is MAIL.
func (c *conn) mail(arg string) {
	switch {
	case c.client.HELO == "":
		c.refuse(replyHelloFirst)
		return
	case c.inMail:
		c.refuse(replyNested)
		return
	}
	m, refusal := readMail(arg, c.client.ESMTP, c.config.Limits.MessageSize)
	if refusal.Code != 0 {
		c.refuse(refusal)
		return
	}
	r := c.sound(c.session.Mail(c.server.ctx, m))
	if r.Positive() {
		c.inMail, c.utf8 = true, m.SMTPUTF8
	} else if r.Code != 421 && !c.idled() {
		return
	}
	c.answer(r)
}

// rcpt is RCPT.
func (c *conn) rcpt(arg string) {
	switch {
	case c.client.HELO == "":
		c.refuse(replyHelloFirst)
		return
	case !c.inMail:
		c.refuse(replyMailFirst)
		return
	}
	c.rcpts++
	cmd, r := readRcpt(arg, c.utf8)
	if r.Code == 0 {
		r = c.sound(c.session.Rcpt(c.server.ctx, cmd))
	}
	if r.Positive() {
		c.accepted++
	}
	if r.Permanent() {
		if c.refusedRcpt++; c.refusedRcpt > c.config.Limits.Refusals {
			c.quitOver(replyRefusals, ReasonRefusals)
			return
		}
	}
	c.answer(r)
}

// data is DATA. Whatever is said to it, the client may not have sent anything
// behind it: a client that did not wait would make us read its message as
// commands.
func (c *conn) data(arg string) {
	if c.early() {
		c.quitOver(replyEarly, ReasonEarly)
		return
	}
	switch r := c.refuseData(arg); {
	case r == replyNoRcpt: // a pipelining client could not know, and its RCPTs were counted
		c.say(r)
		return
	case r.Code != 0:
		c.refuse(r)
		return
	}
	c.say(replyGoData)
	if c.flush() != nil {
		c.end = abort
		return
	}
	x := c.newContent()
	r := c.session.Data(c.server.ctx, x)
	c.settle(x, r)
	c.reset()
}

// refuseData says why there is no DATA now.
func (c *conn) refuseData(arg string) (refusal mail.Reply) {
	switch {
	case arg != "":
		return replyNoArgument
	case c.client.HELO == "":
		return replyHelloFirst
	case !c.inMail:
		return replyMailFirst
	case c.rcpts == 0:
		return replyRcptFirst
	case c.accepted == 0:
		return replyNoRcpt
	}
	return refusal
}

// newContent is the content that is about to come.
func (c *conn) newContent() *content {
	l := c.config.Limits
	c.in.widen()
	x := newContent(&c.in, l.MessageSize)
	x.silence = l.Data
	x.deadline = time.Now().Add(l.Transaction)
	x.normalise = l.normalises(c.client.Addr.Addr())
	x.read = func(until time.Time) error {
		_ = c.raw.SetReadDeadline(until) // as in wait
		return c.in.fill(c.rw)
	}
	return x
}

// settle answers DATA, once the end of the content was seen or won't be waited
// for any longer.
func (c *conn) settle(x *content, r mail.Reply) {
	how := x.err
	var cut cutError
	if errors.As(how, &cut) {
		c.end = abort
		if cut.timedOut() {
			c.say(replySilent)
			c.end = linger
		}
		return
	}
	ended := x.drain(c.config.Limits.MessageSize)
	c.answer(c.outcome(how, r))
	switch {
	case !ended || x.err == ErrBareNewline:
		c.end = linger
	case r.Positive() && how == io.EOF:
		c.noops = 0
	}
	x.run, x.err = nil, ErrCut // for a session that goes on reading
}

// outcome is the session's reply, unless the session took a message that it
// can't have seen as a whole.
func (c *conn) outcome(how error, r mail.Reply) mail.Reply {
	r = c.sound(r)
	if how == io.EOF || !r.Positive() {
		return r
	}
	c.server.log().Error("session took a content without its end", "client", c.client.Addr, "err", how)
	switch how {
	case ErrBareNewline:
		return replyBareNewline
	case ErrTooBig:
		return replyTooBig
	}
	return replyLocalError
}
