package compose

import (
	"strings"

	"postern/gateway/mail"
)

// Hops is how often the message was received so far (RFC 5321, section 6.3).
func Hops(h mail.Header) int {
	n := 0
	for _, f := range h {
		if strings.EqualFold(f.Name, "Received") {
			n++
		}
	}
	return n
}

// OwnHops is how often the host of that name received the message for that
// recipient, as far as Received fields of the form that we write say so. A
// message that comes back once may have been forwarded with good reason; more
// often than that it goes in a circle.
func OwnHops(h mail.Header, hostname string, recipient mail.Address) int {
	by := strings.ToLower((&Composer{Hostname: hostname}).host())
	rcpt := "<" + strings.ToLower(clean(recipient.String(), utf8s, maxWord)) + ">"
	n := 0
	for _, f := range h {
		if !strings.EqualFold(f.Name, "Received") {
			continue
		}
		value := strings.ToLower(string(body(f)))
		if clause(value, "by", by) && clause(value, "for", rcpt) {
			n++
		}
	}
	return n
}

// clause says whether value has the word behind the keyword, outside of
// comments. Both stand in value in lower case.
func clause(value, keyword, word string) bool {
	for i := 0; i < len(value); {
		switch c := value[i]; {
		case c == '(':
			i = skipComment([]byte(value), i)
		case c <= ' ':
			i++
		default:
			end := i + tokenLen(value[i:])
			if value[i:end] == keyword && startsWith(value[end:], word) {
				return true
			}
			i = end
		}
	}
	return false
}

// startsWith says whether word is the first word of s.
func startsWith(s, word string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(s, " \t\r\n"), word)
	return ok && (rest == "" || rest[0] <= ' ' || rest[0] == ';' || rest[0] == '(')
}

// tokenLen is the length of the word that s begins with.
func tokenLen(s string) int {
	if n := strings.IndexAny(s, " \t\r\n("); n > 0 {
		return n
	}
	return len(s)
}
