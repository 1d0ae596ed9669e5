package mail

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Address is a mailbox of the envelope (RFC 5321, section 4.1.2). Two addresses
// are the same recipient when their Key is the same.
type Address struct {
	Local  string // without the quotes, and with quoted pairs resolved
	Domain string // as written; "" only for the bare postmaster
}

// IsZero says that the address is the null reverse-path.
func (a Address) IsZero() bool { return a == Address{} }

// String writes the address as it may stand between angle brackets: a local
// part that is not a dot-string is quoted, so that no octet of it can end the
// path and become a parameter of the next hop's command.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	local := a.Local
	if !isDotString(local) {
		local = quote(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// Key is the address for comparison: in lower case, since no server in use
// tells the case of local parts apart.
func (a Address) Key() string { return strings.ToLower(a.String()) }

// DomainKey is the domain for comparison: in lower case.
func (a Address) DomainKey() string { return strings.ToLower(a.Domain) }

// ASCII says that the address can travel without SMTPUTF8 (RFC 6531).
func (a Address) ASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// MarshalText writes the address as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}

// Why an address is refused.
var (
	ErrAddressSyntax  = errors.New("malformed address")
	ErrAddressTooLong = errors.New("address too long")
	ErrSourceRoute    = errors.New("source route")
	ErrSecondAt       = errors.New("second @ in address")
)

// Limits of an address in octets. QUIRK: RFC 5321, section 4.5.3.1.1 gives a
// local part 64, but bounce addresses of large senders are longer.
const (
	MaxLocal  = 255
	MaxDomain = 255
)

// ParseAddress reads a mailbox strictly: a dot-string or a quoted string, "@",
// and a domain or an address literal. "" is the null reverse-path, "postmaster"
// may stand without a domain (RFC 5321, section 4.1.1.3). Comments, control
// characters, a second "@" and a source route are errors.
func ParseAddress(s string) (Address, error) {
	switch {
	case s == "":
		return Address{}, nil
	case len(s) > 2*MaxLocal+MaxDomain+3:
		return Address{}, ErrAddressTooLong
	case !utf8.ValidString(s):
		return Address{}, ErrAddressSyntax
	case s[0] == '@':
		return Address{}, ErrSourceRoute
	}
	local, rest, err := parseLocal(s)
	if err != nil {
		return Address{}, err
	}
	if rest == "" && strings.EqualFold(local, "postmaster") {
		return Address{Local: local}, nil
	}
	if rest == "" || rest[0] != '@' {
		return Address{}, ErrAddressSyntax
	}
	domain := rest[1:]
	switch {
	case strings.Contains(domain, "@"):
		return Address{}, ErrSecondAt
	case len(local) > MaxLocal || len(domain) > MaxDomain:
		return Address{}, ErrAddressTooLong
	case !isDomain(domain) && !isLiteral(domain):
		return Address{}, ErrAddressSyntax
	}
	return Address{Local: local, Domain: domain}, nil
}

// parseLocal splits s behind its local part.
func parseLocal(s string) (local, rest string, err error) {
	if s[0] != '"' {
		end := strings.IndexByte(s, '@')
		if end < 0 {
			end = len(s)
		}
		if !isDotString(s[:end]) {
			return "", "", ErrAddressSyntax
		}
		return s[:end], s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] == 0x7f {
				return "", "", ErrAddressSyntax
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", "", ErrAddressSyntax
		default:
			b.WriteByte(c)
		}
	}
	return "", "", ErrAddressSyntax
}

// isDotString says whether s is atoms joined by single dots.
func isDotString(s string) bool {
	atom := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.':
			if atom == 0 {
				return false
			}
			atom = 0
		case isAtext(c):
			atom++
		default:
			return false
		}
	}
	return atom > 0
}

// isAtext is RFC 5322, section 3.2.3, with RFC 6531's UTF-8 beside it.
func isAtext(c byte) bool {
	return isAlnum(c) || c >= 0x80 || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isDomain takes what hosts are called in practice: labels of letters, digits,
// hyphens, UTF-8, and QUIRK: underscores, which some senders' hosts have.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' && c < 0x80 {
				return false
			}
		}
	}
	return true
}

// isLiteral takes address literals (RFC 5321, section 4.1.3) by their form.
func isLiteral(s string) bool {
	if len(s) < 3 || s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	for _, c := range []byte(s[1 : len(s)-1]) {
		if !isAlnum(c) && c != '.' && c != ':' && c != '-' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}
