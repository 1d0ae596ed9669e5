package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"postern/gateway/mail"
	"postern/gateway/relay/client"
)

// maxGroup is how many commands are sent before their answers are read: so few
// that neither side's buffers can fill while it waits for the other (RFC 2920,
// section 3.1).
const maxGroup = 100

// unreadable is the reply to a message whose content can't be had.
var unreadable = mail.Reply{Code: 451, Enhanced: "4.3.0", Text: "The message can't be read"}

// errStale says that a connection that was used before turned out to be closed,
// and that nothing of the content was sent.
var errStale = errors.New("the connection was closed meanwhile")

// transaction is one mail transaction (RFC 5321, section 3.3) on one connection.
// Without content it ends behind RCPT, and only asks.
type transaction struct {
	delivery *delivery
	target   target // that conn leads to
	conn     *conn  // nil once it was lost and could not be replaced
	utf8     bool   // with the SMTPUTF8 parameter

	rcpts    []int // indexes of the recipients asked for, in order of RCPT
	accepted []int // those of them that wait for the answer to the final dot
	suspect  []int // those refused with 5.7.x, which may be meant for us
	refusals []mail.Reply
	begun    bool // MAIL was accepted
	data     int  // code of the answer to DATA; 0 where it was not sent
	mute     bool // answers are read, but no longer mean anything
}

func (t *transaction) job() *Job { return &t.delivery.job }

// run carries the transaction out and records what becomes of each recipient.
// An error is about the host, and holds for all that have no outcome yet.
func (t *transaction) run(ctx context.Context) error {
	t.admit()
	if len(t.rcpts) == 0 {
		return nil
	}
	free := t.conn.Bind(ctx)
	err := t.upToData(ctx)
	sent := err == nil && len(t.accepted) > 0 && t.data == 354
	if sent {
		err = t.send(ctx)
		sent = err == nil
	} else {
		t.withdraw(ctx)
	}
	free()
	if sent && len(t.accepted) > 0 {
		t.answers()
	}
	if err != errStale && len(t.suspect) > 0 {
		t.examine(ctx)
	}
	if err == errStale {
		return err
	}
	return asHopError(err)
}

// admit decides whom to ask for: what the host can't carry is refused without
// being sent.
func (t *transaction) admit() {
	j, caps := t.job(), t.conn.Capabilities
	t.utf8 = caps.SMTPUTF8 && (j.SMTPUTF8 || !j.ReversePath.ASCII())
	for i, rcpt := range j.Recipients {
		switch {
		case t.delivery.done[i]:
		case !wholesome(j.ReversePath) || !wholesome(rcpt):
			t.refuse(i, Outcome{Reply: mail.Reply{Code: 553, Enhanced: "5.1.3", Text: "The address can't be written"}})
		case j.Content != nil && caps.Size > 0 && j.Content.Size() > caps.Size:
			t.refuse(i, Outcome{TooBig: true, Reply: mail.Reply{
				Code: 552, Enhanced: "5.3.4",
				Text: "Message too big: the limit is " + strconv.FormatInt(caps.Size, 10) + " octets",
			}})
		case !caps.SMTPUTF8 && !(rcpt.ASCII() && j.ReversePath.ASCII()):
			t.refuse(i, Outcome{Reply: mail.Reply{Code: 550, Enhanced: "5.6.7", Text: "The next hop takes no internationalized addresses"}})
		default:
			t.rcpts = append(t.rcpts, i)
			t.utf8 = t.utf8 || !rcpt.ASCII()
		}
	}
}

// wholesome says that nothing in a can end the command that it stands in. An
// address that was parsed never does; one that was made otherwise might.
func wholesome(a mail.Address) bool {
	for _, c := range []byte(a.Local) {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	for _, c := range []byte(a.Domain) {
		if c <= ' ' || c == '<' || c == '>' || c == 0x7f {
			return false
		}
	}
	return true
}

func (t *transaction) refuse(i int, o Outcome) {
	o.Status = Refused
	t.delivery.settle(t.conn.name, i, o)
}

// upToData sends MAIL, RCPT for each recipient, and DATA, in groups where the
// host takes them so and one by one elsewhere. DATA goes with the group: the
// recipients are known in most cases, and that spares a round trip. What
// becomes of a DATA that nobody was accepted for is withdraw's concern.
func (t *transaction) upToData(ctx context.Context) error {
	group := 1
	if t.conn.Capabilities.Pipelining {
		group = maxGroup
	}
	t.conn.uses++
	last := len(t.rcpts) + 1
	for next := 0; next <= last && !t.mute; {
		end := min(next+group, last+1)
		if next == last && len(t.accepted) == 0 {
			break // nobody to send it to
		}
		for i := next; i < end; i++ {
			t.queue(i)
		}
		if err := t.exchange(ctx, next, end); err != nil {
			return err
		}
		next = end
	}
	return nil
}

// queue queues the i-th command.
func (t *transaction) queue(i int) {
	c, j := t.conn, t.job()
	switch {
	case i == 0:
		c.Queue("MAIL FROM:<", j.ReversePath.String(), ">", t.parameters())
	case i <= len(t.rcpts):
		c.Queue("RCPT TO:<", j.Recipients[t.rcpts[i-1]].String(), ">")
	case j.Content == nil:
		c.Queue("RSET")
	default:
		c.Queue("DATA")
	}
}

// parameters are those of MAIL.
func (t *transaction) parameters() string {
	var p string
	c, j := t.conn, t.job()
	if c.Capabilities.SizeOffered && j.Content != nil {
		p = " SIZE=" + strconv.FormatInt(j.Content.Size(), 10)
	}
	if c.Capabilities.EightBit && j.EightBit {
		p += " BODY=8BITMIME"
	}
	if t.utf8 {
		p += " SMTPUTF8"
	}
	return p
}

// exchange sends what is queued and reads the answers to the commands from
// next to before end.
func (t *transaction) exchange(ctx context.Context, next, end int) error {
	c := t.conn
	if err := c.Send(ctx); err != nil {
		return t.broken(err)
	}
	var failed error
	for i := next; i < end; i++ {
		receive := c.Receive
		if i > len(t.rcpts) {
			receive = c.ReceiveData
		}
		rep, err := receive(ctx)
		if err != nil {
			return t.broken(err)
		}
		if rep.Code == 421 { // the server closes: nothing follows
			return t.closing(i, rep)
		}
		if err := t.take(i, rep); err != nil {
			failed, t.mute = err, true
		}
	}
	return failed
}

// broken tells a connection that was closed while nobody used it from a host
// that does not answer.
func (t *transaction) broken(err error) error {
	if t.conn.uses > 1 && !client.TimedOut(err) {
		return errStale
	}
	return err
}

func (t *transaction) closing(i int, rep client.Reply) error {
	t.conn.Spoil()
	if i == 0 && t.conn.uses > 1 {
		return errStale
	}
	return &hopError{status: Down, reply: rep.Mail(), err: errors.New("the next hop closes the session")}
}

// take looks at the answer to the i-th command. An error ends the transaction.
func (t *transaction) take(i int, rep client.Reply) error {
	if i > len(t.rcpts) && t.job().Content != nil {
		t.data = rep.Code
	}
	switch {
	case i == 0:
		return t.takeMail(rep)
	case t.mute:
		return nil
	case i <= len(t.rcpts):
		return t.takeRcpt(t.rcpts[i-1], rep)
	case t.job().Content == nil:
		return t.takeReset(rep)
	}
	return t.takeData(rep)
}

// takeMail looks at the answer to MAIL. Of its 5yz only three are about the
// message: all others are a refusal of us.
func (t *transaction) takeMail(rep client.Reply) error {
	if rep.Positive() {
		t.begun = true
		return nil
	}
	r := rep.Mail()
	if !rep.Permanent() || r.Code != 552 && r.Enhanced != "5.1.7" && r.Enhanced != "5.1.8" {
		return t.unexpected(rep, "MAIL")
	}
	for _, i := range t.rcpts {
		t.answer(i, r)
	}
	t.mute = true
	return nil
}

// unexpected is an answer that ends the transaction: a 4yz or 5yz as refusal
// says, and anything else from a server that can't be followed.
func (t *transaction) unexpected(rep client.Reply, command string) error {
	if rep.Code/100 < 4 {
		t.conn.Spoil()
		return &hopError{status: Down, reply: rep.Mail(), err: fmt.Errorf("unexpected answer to %s", command)}
	}
	return &client.Refusal{Command: command, Reply: rep.Mail()}
}

func (t *transaction) takeRcpt(i int, rep client.Reply) error {
	switch {
	case rep.Positive() && t.job().Content == nil:
		t.answer(i, rep.Mail())
	case rep.Positive():
		t.accepted = append(t.accepted, i)
	case rep.Code/100 == 3:
		return t.unexpected(rep, "RCPT")
	default:
		if r := rep.Mail(); security(r) {
			t.suspect, t.refusals = append(t.suspect, i), append(t.refusals, r)
		} else {
			t.answer(i, r)
		}
	}
	return nil
}

func (t *transaction) takeReset(rep client.Reply) error {
	t.begun = false
	if !rep.Positive() {
		t.conn.Spoil()
	}
	return nil
}

func (t *transaction) takeData(rep client.Reply) error {
	switch {
	case len(t.accepted) == 0 || rep.Code == 354:
		return nil
	case rep.Code/100 < 4:
		return t.unexpected(rep, "DATA")
	}
	r := rep.Mail()
	for _, i := range t.accepted {
		t.answer(i, r)
	}
	t.accepted = nil
	return nil
}

// answer records the host's reply for one recipient.
func (t *transaction) answer(i int, r mail.Reply) {
	t.delivery.settle(t.conn.name, i, outcomeOf(r))
}

// outcomeOf is what a reply means for a recipient. A 552 is about the message's
// size unless it says that it is about the mailbox's.
func outcomeOf(r mail.Reply) Outcome {
	o := Outcome{Reply: r}
	switch {
	case r.Positive():
		o.Status = Taken
	case r.Code == 421:
		o.Status, o.Err = Down, errors.New("the next hop closes the session")
	case r.Transient():
		o.Status = Later
	case r.Permanent():
		o.Status = Refused
		o.TooBig = r.Code == 552 && r.Enhanced != "5.2.2" || r.Enhanced == "5.3.4"
	default:
		o.Status, o.Err = Down, errors.New("unexpected answer")
	}
	return o
}

// withdraw ends a transaction that has nobody to be sent to. A server that went
// to DATA all the same gets a final dot at once (RFC 2920, section 3.1), and
// whatever it says to that, nothing was delivered.
func (t *transaction) withdraw(ctx context.Context) {
	c := t.conn
	if c.Usable() && t.data == 354 {
		if rep, err := c.Ask(ctx, "."); err != nil || rep.Code/100 < 4 || rep.Code == 421 {
			c.Spoil()
		}
	}
	if t.begun {
		c.Reset(ctx)
	}
}

// send writes the content and the final dot. Without an error either all of it
// was sent, or nobody waits for an answer any more.
func (t *transaction) send(ctx context.Context) error {
	err := t.conn.SendContent(ctx, t.job().Content)
	var own *client.ContentError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &own):
		return t.cutOff(err)
	}
	o := Outcome{Status: Later, Reply: unreadable, Err: err}
	if errors.Is(err, client.ErrNotStrict) {
		o.Status, o.Reply = Refused, mail.Reply{Code: 554, Enhanced: "5.6.0", Text: "The message has bare line ends or a NUL"}
	}
	for _, i := range t.accepted {
		t.delivery.settle(t.conn.name, i, o)
	}
	t.accepted, t.delivery.stuck = nil, true
	return nil
}

// cutOff is what a connection that broke within the content means. A server
// that had enough may have said so before it closed.
func (t *transaction) cutOff(err error) error {
	defer t.conn.Abort()
	if client.TimedOut(err) {
		return err
	}
	rep, ok := t.conn.LastWords()
	if !ok || rep.Code/100 < 4 || rep.Code == 421 {
		return err
	}
	r := rep.Mail()
	for _, i := range t.accepted {
		t.answer(i, r)
	}
	t.accepted = nil
	return nil
}

// security says that a reply is a refusal by policy (RFC 3463, section 3.8).
func security(r mail.Reply) bool {
	return r.Permanent() && len(r.Enhanced) > 4 && r.Enhanced[:4] == "5.7."
}

// examine finds out whom a refusal by policy is meant for. A server must take
// mail for postmaster (RFC 5321, section 4.5.1): where it refuses that too, and
// the null reverse-path with it, it wants nothing from us.
func (t *transaction) examine(ctx context.Context) {
	name, meant := t.conn.name, map[string]bool{} // for us, by domain
	for n, i := range t.suspect {
		rcpt, r := t.job().Recipients[i], t.refusals[n]
		domain := rcpt.DomainKey()
		us, known := meant[domain]
		if !known {
			us = isPostmaster(rcpt) || t.refusesPostmaster(ctx, rcpt.Domain)
			meant[domain] = us
		}
		o := outcomeOf(r)
		if us {
			o.Status, o.TooBig, o.Err = Down, false, errors.New("the next hop refuses this gateway")
		}
		t.delivery.settle(name, i, o)
	}
}

func (t *transaction) refusesPostmaster(ctx context.Context, domain string) bool {
	if t.delivery.waiting || !t.revive(ctx) {
		return true // it can't be asked: who is Down is tried again, and asked then
	}
	d := newDelivery(t.delivery.relay, Job{Recipients: []mail.Address{{Local: "postmaster", Domain: domain}}})
	probe := transaction{delivery: d, target: t.target, conn: t.conn}
	err := probe.run(ctx)
	return err != nil || d.outcomes[0].Status == Down
}

// revive replaces a connection that is at its end. QUIRK: there are servers that
// close behind a refusal by policy. Without a new connection postmaster would
// never be asked there, and the recipient would be Down until the lifetime ends.
func (t *transaction) revive(ctx context.Context) bool {
	if t.conn != nil && !t.conn.Usable() {
		t.conn, _ = t.delivery.relay.renew(ctx, t.target, t.conn)
	}
	return t.conn != nil
}

func isPostmaster(a mail.Address) bool {
	return a.Key() == mail.Address{Local: "postmaster", Domain: a.Domain}.Key()
}
