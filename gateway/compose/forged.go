package compose

import (
	"bytes"
	"strings"

	"golang.org/x/net/idna"

	"postern/gateway/mail"
)

// cutForged adds a cut for each field that only we may write: an inside that
// trusts our marks must never see a sender's.
func (c *Composer) cutForged(edits []edit, h mail.Header) []edit {
	for _, f := range h {
		if c.forged(f) {
			edits = append(edits, edit{span: f.Span})
		}
	}
	return edits
}

// forged says whether f has one of our names, or claims to hold our results.
func (c *Composer) forged(f mail.Field) bool {
	// QUIRK: white space before the colon is not allowed, and ignored by all.
	switch name := strings.TrimSpace(f.Name); {
	case hasPrefixFold(name, "X-Postern-"):
		return true
	case hasPrefixFold(name, "X-Spam-"):
		rest := name[len("X-Spam-"):]
		return strings.EqualFold(rest, "Flag") || strings.EqualFold(rest, "Score") ||
			strings.EqualFold(rest, "Level") || strings.EqualFold(rest, "Status")
	case strings.EqualFold(name, "Authentication-Results"):
		return c.ownID(authservID(body(f)))
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// body is what stands behind the colon.
func body(f mail.Field) []byte {
	return f.Raw[bytes.IndexByte(f.Raw, ':')+1:]
}

// ownID compares as host names are compared (RFC 8601, section 2.5), U-labels
// with A-labels too.
func (c *Composer) ownID(id string) bool {
	id = strings.TrimSuffix(strings.TrimSpace(id), ".")
	host := strings.TrimSuffix(c.host(), ".")
	if strings.EqualFold(id, host) {
		return true
	}
	if isClean(id) {
		return false
	}
	label, err := idna.Lookup.ToASCII(id)
	return err == nil && strings.EqualFold(label, host)
}

// authservID is the authserv-id that begins an Authentication-Results field:
//
//	[CFWS] authserv-id [CFWS authres-version] *( [CFWS] ";" …
//
// (RFC 8601, section 2.2.) It is read more generously than that, since whoever
// reads the field inside may be generous too: comments and folding anywhere
// before it, a comment or a quoted string glued to it, no semicolon behind it.
func authservID(value []byte) string {
	var id []byte
	for i := 0; i < len(value); {
		switch c := value[i]; {
		case c == '(':
			i = skipComment(value, i)
		case c == '"':
			id, i = appendQuoted(id, value, i)
		case c <= ' ' || c == 0x7f:
			if len(id) > 0 {
				return string(id)
			}
			i++
		case strings.IndexByte(";,=/<>@?)", c) >= 0:
			return string(id)
		default:
			id = append(id, c)
			i++
		}
	}
	return string(id)
}

// skipComment returns the place behind the comment that opens at i. One that is
// never closed takes the rest.
func skipComment(value []byte, i int) int {
	depth := 0
	for ; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(value)
}

// appendQuoted appends what the quoted string at i says, and returns the place
// behind it. Line breaks within it are folding and say nothing.
func appendQuoted(id, value []byte, i int) ([]byte, int) {
	for i++; i < len(value); i++ {
		switch c := value[i]; c {
		case '"':
			return id, i + 1
		case '\r', '\n':
		case '\\':
			if i++; i < len(value) {
				id = append(id, value[i])
			}
		default:
			id = append(id, c)
		}
	}
	return id, len(value)
}
