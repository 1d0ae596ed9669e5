package compose

import (
	"strings"
	"time"
	"unicode"

	"postern/gateway/mail"
)

// Alert is a short mail to the administrators.
type Alert struct {
	ID      string // of the mail, from mail.NewID
	Time    time.Time
	To      []mail.Address
	Subject string
	Text    string // in lines that end with "\n"
}

// Limits of an alert, in octets.
const (
	maxSubject   = 200
	maxAlertText = 64 << 10
)

// Alert writes a. Subject and Text may quote hostile mail.
func (c *Composer) Alert(a Alert) mail.Content {
	b := c.appendEnvelope(nil, envelope{
		id: a.ID, time: a.Time, to: a.To, subject: a.Subject, name: "Postern",
	})
	b = appendField(b, "Auto-Submitted", "auto-generated", ascii)
	b = append(b, "MIME-Version: 1.0\r\n"+noticeFields+"\r\n"...)
	text := strings.Map(printableRune, a.Text[:min(len(a.Text), maxAlertText)])
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return mail.Bytes(append(b, quotedPrintable(text)...))
}

// printableRune leaves out what can't be seen, but keeps lines and tabs.
func printableRune(r rune) rune {
	if r == '\n' || r == '\t' || unicode.IsPrint(r) || unicode.IsSpace(r) && r != '\r' {
		return r
	}
	return -1
}

// envelope is what mail that we begin has on top.
type envelope struct {
	id      string
	time    time.Time
	to      []mail.Address
	subject string
	name    string // of the sender, for people
}

// appendEnvelope appends From, To, Subject, Date and Message-ID (RFC 5322, section 3.6).
func (c *Composer) appendEnvelope(b []byte, e envelope) []byte {
	to, cs := make([]string, len(e.to)), ascii
	for i, a := range e.to {
		to[i] = "<" + clean(a.String(), utf8s, maxWord) + ">"
		cs = cs || charset(!a.ASCII())
	}
	id := e.id
	if !mail.ValidID(id) {
		id = mail.NewID(e.time)
	}
	b = appendField(b, "From", e.name+" <MAILER-DAEMON@"+c.host()+">", cs)
	b = appendField(b, "To", strings.Join(to, ", "), cs)
	b = appendField(b, "Subject", encodeText(clean(e.subject, utf8s, maxSubject)), ascii)
	b = appendField(b, "Date", e.time.UTC().Format(dateFormat), ascii)
	return appendField(b, "Message-ID", "<"+id+"@"+c.host()+">", cs)
}
