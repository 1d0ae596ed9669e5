package heuristics

import (
	"bytes"
	"io"
	netmail "net/mail"
	"strings"
	"time"

	"postern/gateway/mail"
)

// descriptions of our own symbols, for the admin.
var descriptions = map[string]string{
	"GTUBE": "the test string of spam filters (GTUBE)",
	"EICAR": "the test file of virus scanners (EICAR)",

	"MISSING_FROM":       "no From field",
	"FROM_DUPLICATE":     "several From fields, of which readers show one or the other",
	"FROM_ILLEGAL_CHARS": "octets outside ASCII in From without SMTPUTF8",
	"MISSING_HEADERS":    "no To field",
	"MISSING_SUBJECT":    "no Subject field",
	"SUBJ_ILLEGAL_CHARS": "octets outside ASCII in Subject without SMTPUTF8",
	"MISSING_DATE":       "no Date field",
	"INVALID_DATE":       "a Date that is no date",
	"MISSING_MID":        "no Message-ID field",
	"INVALID_MSGID":      "a Message-ID that is none",
	"EMPTY_MESSAGE":      "neither text nor attachments",
	"MIME_HTML_ONLY":     "HTML without a plain text beside it",
}

// headerFacts looks at the fields that every message should have (RFC 5322,
// section 3.6) and at their octets.
func headerFacts(m *mail.Message) (symbols []string) {
	add := func(symbol string, is bool) {
		if is {
			symbols = append(symbols, symbol)
		}
	}
	h := m.Header
	from, to, subject, date, id := h.All("From"), h.All("To"), h.All("Subject"), h.All("Date"), h.All("Message-ID")
	add("MISSING_FROM", len(from) == 0)
	add("FROM_DUPLICATE", len(from) > 1)
	add("FROM_ILLEGAL_CHARS", !m.Envelope.SMTPUTF8 && eightBit(from))
	add("MISSING_HEADERS", len(to) == 0)
	add("MISSING_SUBJECT", len(subject) == 0)
	add("SUBJ_ILLEGAL_CHARS", !m.Envelope.SMTPUTF8 && eightBit(subject))
	add("MISSING_DATE", len(date) == 0)
	add("INVALID_DATE", len(date) > 0 && !validDate(date[0].Value()))
	add("MISSING_MID", len(id) == 0)
	add("INVALID_MSGID", len(id) > 0 && !validID(id[0].Value()))
	return symbols
}

func eightBit(fields []mail.Field) bool {
	for _, f := range fields {
		for _, c := range f.Raw {
			if c >= 0x80 {
				return true
			}
		}
	}
	return false
}

// validDate is RFC 5322, section 3.3, with the obsolete forms. The form of nearly
// all mail is tried first: the library tries one form after the other.
func validDate(s string) bool {
	_, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", s)
	if err != nil {
		_, err = netmail.ParseDate(s)
	}
	return err == nil
}

// validID is what holds of every Message-ID in use (RFC 5322, section 3.6.4 asks
// for more): something in angle brackets, without white space.
func validID(s string) bool {
	return len(s) > 2 && s[0] == '<' && s[len(s)-1] == '>' && !strings.ContainsAny(s[1:len(s)-1], "<> \t")
}

// bodyFacts looks at the message's own parts; what a forwarded message has is
// its own affair.
func bodyFacts(m *mail.Message) (symbols []string, err error) {
	var plain, html, other bool
	empty := true
	for i := range m.Parts {
		p := &m.Parts[i]
		if len(p.Children) > 0 && !isMessage(p) || inMessage(m.Parts, p) {
			continue
		}
		switch attached := p.Attached() || len(p.Names) > 0; {
		case !attached && p.MediaType == "text/plain":
			plain = true
		case !attached && p.MediaType == "text/html":
			html = true
		default:
			other = true
		}
		if empty && !other {
			if empty, err = blank(p); err != nil {
				return nil, err
			}
		}
	}
	if empty && !other {
		symbols = append(symbols, "EMPTY_MESSAGE")
	}
	if html && !plain {
		symbols = append(symbols, "MIME_HTML_ONLY")
	}
	return symbols, nil
}

func isMessage(p *mail.Part) bool { return strings.HasPrefix(p.MediaType, "message/") }

// inMessage says that a part belongs to a message within the message.
func inMessage(parts []mail.Part, p *mail.Part) bool {
	for i := p.Parent; i >= 0; i = parts[i].Parent {
		if isMessage(&parts[i]) {
			return true
		}
	}
	return false
}

// maxBlank is how many octets of white space make a text empty, whatever follows.
const maxBlank = 4 << 10

// blank says that a text has nothing but white space.
func blank(p *mail.Part) (bool, error) {
	body := p.Open()
	var b [256]byte
	for range maxBlank / len(b) {
		n, err := io.ReadFull(body, b[:])
		switch {
		case len(bytes.TrimSpace(b[:n])) > 0:
			return false, nil
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return true, nil
		case err != nil:
			return false, err
		}
	}
	return true, nil
}
