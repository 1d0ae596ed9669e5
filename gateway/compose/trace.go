package compose

import (
	"math"
	"mime"
	"strconv"
	"strings"

	"postern/gateway/mail"
)

// Limits of what is written about one message.
const (
	maxHELO     = 255      // octets of a HELO name
	maxAuth     = 32 << 10 // octets of authentication results
	maxStripped = 100      // X-Postern-Stripped fields; a last one counts the others
	maxName     = 200      // octets of a file's name
	maxReason   = 200      // octets of a reason
)

// dateFormat is RFC 5322, section 3.3.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700"

// appendTrace appends where the message came from, and whose it was proven to
// be: Received, Authentication-Results, X-Postern-Id.
func (c *Composer) appendTrace(b []byte, m *mail.Message, auth string) []byte {
	b = c.appendReceived(b, m)
	b = append(b, "Authentication-Results: "...)
	b = append(b, c.host()...)
	b = append(b, ';')
	b = appendResults(b, auth, charset(m.Envelope.SMTPUTF8))
	b = append(b, "X-Postern-Id: "...)
	b = appendAtom(b, m.ID, 100)
	return append(b, "\r\n"...)
}

// appendReceived appends the trace field of RFC 5321, section 4.4. The recipient
// stands in it only where there is one: with more of them it would tell each
// one of the others (section 7.2).
func (c *Composer) appendReceived(b []byte, m *mail.Message) []byte {
	b = append(b, "Received: from "...)
	if m.Client.HELO == "" {
		b = append(b, "unknown"...)
	}
	b = appendAtom(b, m.Client.HELO, maxHELO)
	b = appendClient(b, m.Client)
	b = append(b, "\r\n\tby "...)
	b = append(b, c.host()...)
	b = append(b, " (Postern) with "...)
	b = append(b, m.Client.Protocol(m.Envelope.SMTPUTF8)...)
	b = append(b, " id "...)
	b = appendAtom(b, m.ID, 100)
	if len(m.Envelope.Recipients) == 1 {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, clean(m.Envelope.Recipients[0].String(), charset(m.Envelope.SMTPUTF8), maxWord)...)
		b = append(b, ">; "...)
	} else {
		b = append(b, ";\r\n\t"...)
	}
	b = m.Received.UTC().AppendFormat(b, dateFormat)
	return append(b, "\r\n"...)
}

// appendClient appends the client's address as a literal in a comment: " ([IPv6:::1])".
func appendClient(b []byte, client mail.Client) []byte {
	addr := client.Addr.Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return b
	}
	b = append(b, " (["...)
	if addr.Is6() {
		b = append(b, "IPv6:"...)
	}
	b = addr.AppendTo(b)
	return append(b, "])"...)
}

// appendResults appends the results of RFC 8601, section 2.2, one to a line.
func appendResults(b []byte, auth string, cs charset) []byte {
	if len(auth) > maxAuth {
		auth = auth[:strings.LastIndexByte(auth[:maxAuth], ';')+1]
	}
	start := len(b)
	for result := range strings.SplitAfterSeq(strings.Trim(auth, "; \t\r\n"), ";") {
		b = appendWords(b, words{lead: "\r\n\t", charset: cs}, result)
	}
	if len(b) == start {
		b = append(b, " none"...)
	}
	return append(b, "\r\n"...)
}

// appendMarks appends the fields that every delivered copy bears, whatever the
// verdict, so that a rule of the inside need not tell absence from cleanness.
func appendMarks(b []byte, v mail.Verdict) []byte {
	b = append(b, "X-Spam-Flag: "...)
	if v.Spam() {
		b = append(b, "YES"...)
	} else {
		b = append(b, "NO"...)
	}
	b = append(b, "\r\nX-Spam-Score: "...)
	b = appendScore(b, v)
	// Without a star the value is empty behind its space, as SpamAssassin
	// writes it: rules of the inside match "X-Spam-Level: \*\*\*" and know this form.
	b = append(b, "\r\nX-Spam-Level: "...)
	for i := 1.0; i <= min(v.Score, 50); i++ {
		b = append(b, '*')
	}
	b = append(b, "\r\n"...)
	b = appendStatus(b, v)
	return appendStripped(b, v.Strip)
}

// appendStatus appends X-Spam-Status in SpamAssassin's form.
func appendStatus(b []byte, v mail.Verdict) []byte {
	start := len(b)
	b = append(b, "X-Spam-Status: "...)
	if v.Spam() {
		b = append(b, "Yes, score="...)
	} else {
		b = append(b, "No, score="...)
	}
	b = appendScore(b, v)
	b = append(b, " required="...)
	b = appendWeight(b, v.Required)
	b = append(b, " tests="...)
	none := true
	for _, hit := range v.Hits {
		if hit.Score == 0 || hit.Symbol == "" {
			continue
		}
		if !none {
			b = append(b, ',')
		}
		none = false
		at := len(b)
		b = appendAtom(b, hit.Symbol, 100)
		b = append(b, '=')
		b = appendWeight(b, hit.Score)
		b, start = foldBefore(b, start, at)
	}
	if none {
		b = append(b, "none"...)
	}
	return append(b, "\r\n"...)
}

// foldBefore puts a line break at the octet at, where what stands behind it
// would make the line that begins at start too long. It returns the start of the
// last line. One octet is left for the comma that may follow.
func foldBefore(b []byte, start, at int) ([]byte, int) {
	const fold = "\r\n\t"
	if len(b)-start < foldAt {
		return b, start
	}
	b = append(b, fold...)
	copy(b[at+len(fold):], b[at:len(b)-len(fold)])
	copy(b[at:], fold)
	return b, at + len(fold) - 1
}

// appendScore appends the score with one decimal. A score that is under the
// threshold is never rounded up to it: "No, score=5.0 required=5.0" would be read
// as a fault.
func appendScore(b []byte, v mail.Verdict) []byte {
	score := math.Round(finite(v.Score)*10) / 10
	if !v.Spam() && v.Required > 0 && score >= v.Required {
		score = math.Ceil(v.Required*10-1) / 10
	}
	return strconv.AppendFloat(b, score+0, 'f', 1, 64) // +0 makes -0 a 0
}

// appendWeight appends a weight with one decimal, or up to three where it has them.
func appendWeight(b []byte, weight float64) []byte {
	weight = math.Round(finite(weight)*1000)/1000 + 0
	if weight*10 == math.Trunc(weight*10) {
		return strconv.AppendFloat(b, weight, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, weight, 'f', -1, 64)
}

// finite bounds what rule files may have added up to.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-99999, min(f, 99999))
}

// appendStripped appends a field for each attachment that was taken out.
func appendStripped(b []byte, stripped []mail.Attachment) []byte {
	for i, a := range stripped {
		if i == maxStripped {
			b = append(b, "X-Postern-Stripped: more="...)
			b = strconv.AppendInt(b, int64(len(stripped)-i), 10)
			return append(b, "\r\n"...)
		}
		b = append(b, "X-Postern-Stripped: "...)
		b = appendParam(b, "name", displayName(a))
		b = append(b, ";\r\n\ttype="...)
		b = append(b, mediaType(a)...)
		b = append(b, ";\r\n\t"...)
		b = appendParam(b, "reason", clean(a.Reason, utf8s, maxReason))
		b = append(b, "\r\n"...)
	}
	return b
}

// appendParam appends name="value", or name*=utf-8”value where value is not
// ASCII (RFC 2231, section 4). value has passed clean.
func appendParam(b []byte, name, value string) []byte {
	b = append(b, name...)
	if isClean(value) {
		b = append(b, `="`...)
		for i := 0; i < len(value); i++ {
			if value[i] == '"' || value[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, value[i])
		}
		return append(b, '"')
	}
	b = append(b, "*=utf-8''"...)
	for i := 0; i < len(value); i++ {
		c := value[i]
		if isAlnum(c) || c == '.' || c == '-' || c == '_' {
			b = append(b, c)
			continue
		}
		const hex = "0123456789ABCDEF"
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return b
}

// displayName is an attachment's name as it is shown to people.
func displayName(a mail.Attachment) string {
	if name := strings.TrimSpace(clean(a.Name, utf8s, maxName)); name != "" {
		return name
	}
	return "unnamed"
}

// mediaType is the type that an attachment was sent as, where it is a type.
func mediaType(a mail.Attachment) string {
	t, _, err := mime.ParseMediaType(a.Type)
	if err != nil || len(t) > 127 || !strings.Contains(t, "/") {
		return "application/octet-stream"
	}
	return t
}
