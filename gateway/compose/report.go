package compose

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"postern/gateway/mail"
)

// DSN is what a sender is told of a message that could not be delivered, or not
// yet (RFC 3464). It goes out with a null reverse-path, and with SMTPUTF8 where
// To is not ASCII.
type DSN struct {
	ID   string       // of the report itself, from mail.NewID
	Time time.Time    // when it is written
	To   mail.Address // the reverse-path of the original

	Original   mail.Content // its header section is sent back; nil sends none
	OriginalID string       // our id of it
	MessageID  string       // its Message-ID field; "" is none
	Arrival    time.Time    // when we took it

	// RetryUntil is when we give up. Set, the report speaks of a delay; zero, of
	// a failure.
	RetryUntil time.Time

	Recipients []Undelivered
}

// Undelivered is a recipient that did not get the message.
type Undelivered struct {
	Recipient  mail.Address
	Status     string    // RFC 3463: "5.1.1"; what is no status becomes 5.0.0 or 4.0.0
	Diagnostic string    // the next hop's reply, "550 5.1.1 no such user", or words of ours
	RemoteMTA  string    // the name of the next hop; "" is none
	Last       time.Time // the last attempt; zero is none
}

// Why there is no report.
var (
	ErrNullReversePath = errors.New("compose a status report: the reverse-path is null") // RFC 5321, section 6.1
	ErrNoRecipients    = errors.New("compose a status report: no recipients")
)

// Limits of a report, in octets.
const (
	maxDiagnostic = 400
	maxReturned   = 32 << 10 // of the original's header section
)

// DSN writes a report: words for people, fields for programs, and the header
// section of the original (RFC 6522, RFC 3464).
func (c *Composer) DSN(d DSN) (mail.Content, error) {
	switch {
	case d.To.IsZero():
		return nil, ErrNullReversePath
	case len(d.Recipients) == 0:
		return nil, ErrNoRecipients
	}
	cs := charset(!d.To.ASCII())
	b := c.appendEnvelope(nil, envelope{
		id: d.ID, time: d.Time, to: []mail.Address{d.To}, subject: d.subject(), name: "Mail Delivery System",
	})
	b = appendField(b, "Auto-Submitted", "auto-replied", ascii)
	if ref := messageID(d.MessageID); ref != "" {
		b = appendField(b, "In-Reply-To", ref, ascii)
		b = appendField(b, "References", ref, ascii)
	}
	boundary := boundary(d.ID, d.Time)
	b = append(b, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\""...)
	b = append(b, boundary+"\"\r\n"...)
	if cs == utf8s {
		b = append(b, "Content-Transfer-Encoding: 8bit\r\n"...)
	}

	b = append(b, "\r\n--"+boundary+"\r\n"+noticeFields+"\r\n"...)
	b = append(b, quotedPrintable(c.explanation(d))...)
	b = append(b, "\r\n--"+boundary+"\r\n"...)
	b = c.appendStatusPart(b, d, cs)
	b = append(b, "\r\n--"+boundary+"\r\n"...)
	b = appendReturned(b, d.Original, cs)
	b = append(b, "\r\n--"+boundary+"--\r\n"...)
	return mail.Bytes(b), nil
}

func (d DSN) delayed() bool { return !d.RetryUntil.IsZero() }

func (d DSN) subject() string {
	if d.delayed() {
		return "Delayed mail / Message retardé"
	}
	return "Undelivered mail / Message non remis"
}

// explanation is what the sender reads.
func (c *Composer) explanation(d DSN) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail gateway %s.\nCeci est la passerelle de courrier %s.\n\n", c.host(), c.host())
	if d.delayed() {
		until := d.RetryUntil.UTC().Format("2006-01-02 15:04 UTC")
		b.WriteString("[EN] Your message has not been delivered yet.\n     It is tried again until " + until + ".\n     You need not send it again.\n")
		b.WriteString("[FR] Votre message n'a pas encore été remis.\n     De nouveaux essais ont lieu jusqu'au " + until + ".\n     Il est inutile de l'envoyer à nouveau.\n\n")
	} else {
		b.WriteString("[EN] Your message could not be delivered to the recipients\n     below. No further attempt is made.\n")
		b.WriteString("[FR] Votre message n'a pas pu être remis aux destinataires\n     ci-dessous. Il n'y aura pas d'autre essai.\n\n")
	}
	for _, r := range d.Recipients {
		b.WriteString("  <" + clean(r.Recipient.String(), utf8s, maxWord) + ">\n")
		if r.Diagnostic != "" {
			b.WriteString("    " + clean(r.Diagnostic, ascii, maxDiagnostic) + "\n")
		}
	}
	b.WriteString("\n  Message: " + clean(d.OriginalID, ascii, 100) + "\n")
	return b.String()
}

// appendStatusPart appends message/delivery-status: a group of fields about the
// message, then one for each recipient (RFC 3464, section 2.1).
func (c *Composer) appendStatusPart(b []byte, d DSN, cs charset) []byte {
	if cs == utf8s {
		b = append(b, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"...)
	} else {
		b = append(b, "Content-Type: message/delivery-status\r\n\r\n"...)
	}
	b = appendField(b, "Reporting-MTA", "dns; "+c.host(), cs)
	b = appendField(b, "X-Postern-Id", d.OriginalID, ascii)
	b = appendDate(b, "Arrival-Date", d.Arrival)
	for _, r := range d.Recipients {
		b = append(b, "\r\n"...)
		b = appendLine(b, "Final-Recipient", addressType(r.Recipient, cs), cs)
		action, class := "failed", byte('5')
		if d.delayed() {
			action, class = "delayed", '4'
		}
		b = appendField(b, "Action", action, ascii)
		b = appendField(b, "Status", status(r.Status, class), ascii)
		if r.RemoteMTA != "" {
			b = appendField(b, "Remote-MTA", "dns; "+string(appendAtom(nil, r.RemoteMTA, 255)), ascii)
		}
		if r.Diagnostic != "" {
			b = appendField(b, "Diagnostic-Code", diagnosticType(r.Diagnostic)+"; "+clean(r.Diagnostic, ascii, maxDiagnostic), ascii)
		}
		b = appendDate(b, "Last-Attempt-Date", r.Last)
		b = appendDate(b, "Will-Retry-Until", d.RetryUntil)
	}
	return b
}

// appendDate appends a date, where there is one.
func appendDate(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return appendField(b, name, t.UTC().Format(dateFormat), ascii)
}

// addressType is an address with the name of its kind. One that is not ASCII is
// written so that it is, where the report's receiver may not know UTF-8 (RFC 6533, section 3).
func addressType(a mail.Address, cs charset) string {
	s := clean(a.String(), utf8s, maxWord)
	if isClean(s) {
		return "rfc822; " + s
	}
	if cs == utf8s {
		return "utf-8; " + s
	}
	var b strings.Builder
	for _, r := range s {
		if r > '~' || r == '\\' || r == '+' || r == '=' {
			fmt.Fprintf(&b, `\x{%X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return "utf-8; " + b.String()
}

// diagnosticType says whether a diagnostic is an SMTP reply or words of ours.
func diagnosticType(s string) string {
	if len(s) >= 3 && s[0] >= '2' && s[0] <= '5' && isDigits(s[:3]) && (len(s) == 3 || !isAlnum(s[3])) {
		return "smtp"
	}
	return "X-Postern"
}

// status is s where it is a status code of the class (RFC 3463, section 2), else
// the class's general one: a report that fails must not say 4.
func status(s string, class byte) string {
	parts := strings.Split(s, ".")
	ok := len(parts) == 3 && parts[0] == string(class)
	for _, p := range parts {
		ok = ok && len(p) >= 1 && len(p) <= 3 && isDigits(p)
	}
	if !ok {
		return string(class) + ".0.0"
	}
	return s
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// appendReturned appends the header section of the original. One that is not
// plain ASCII in short lines is encoded, which RFC 6522, section 4 allows.
func appendReturned(b []byte, original mail.Content, cs charset) []byte {
	b = append(b, "Content-Type: "...)
	if cs == utf8s {
		b = append(b, "message/global-headers\r\n"...)
	} else {
		b = append(b, "text/rfc822-headers\r\n"...)
	}
	section := headerSection(original)
	if plain(section) {
		b = append(b, "\r\n"...)
		return append(b, section...)
	}
	b = append(b, "Content-Transfer-Encoding: quoted-printable\r\n\r\n"...)
	return append(b, quotedPrintable(string(section))...)
}

// headerSection is the octets before the first empty line, in whole lines and
// maxReturned at most.
func headerSection(c mail.Content) []byte {
	if c == nil {
		return nil
	}
	b := make([]byte, min(c.Size(), maxReturned))
	n, _ := c.ReadAt(b, 0)
	b = b[:n]
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return nil
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return b[:i+2]
	}
	return b[:bytes.LastIndexByte(b, '\n')+1]
}

// plain says that b may stand in a part without an encoding.
func plain(b []byte) bool {
	for line := range bytes.SplitAfterSeq(b, []byte("\n")) {
		text, ended := bytes.CutSuffix(line, []byte("\r\n"))
		if len(line) > 0 && !ended || len(text) > maxLine {
			return false
		}
		for _, c := range text {
			if c >= 0x7f || c < ' ' && c != '\t' {
				return false
			}
		}
	}
	return true
}

// messageID is s where it may be quoted in another field, else "".
func messageID(s string) string {
	s = strings.TrimSpace(s)
	if len(s) < 3 || len(s) > 250 || s[0] != '<' || s[len(s)-1] != '>' ||
		!isClean(s) || strings.ContainsAny(s[1:len(s)-1], "<> ") {
		return ""
	}
	return s
}

// boundary parts what we write. The id in it can't be guessed, so that no
// content can hold it.
func boundary(id string, now time.Time) string {
	if !mail.ValidID(id) {
		id = mail.NewID(now)
	}
	return "=_postern_" + id
}

// encodeText makes encoded words of what is not ASCII (RFC 2047).
func encodeText(s string) string { return mime.QEncoding.Encode("utf-8", s) }
