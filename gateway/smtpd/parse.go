package smtpd

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/gateway/mail"
)

// Why the argument of MAIL or RCPT can't be taken apart.
var errPath = errors.New("no path in angle brackets")

// splitVerb takes a command line apart, and puts the verb in upper case where it
// lies. White space at the end means nothing (RFC 5321, section 4.1.1).
func splitVerb(line []byte) (verb []byte, arg string) {
	line = bytes.TrimRight(line, " \t")
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	for i, c := range verb {
		if c >= 'a' && c <= 'z' {
			verb[i] = c - 'a' + 'A'
		}
	}
	return verb, string(bytes.TrimLeft(rest, " "))
}

// splitPath takes the argument of MAIL or RCPT apart: keyword, colon, path in
// angle brackets, parameters. A bracket in a quoted string doesn't end the path.
//
// QUIRK: some clients write a space behind the colon.
func splitPath(arg, keyword string) (path string, params []string, err error) {
	n := len(keyword)
	if len(arg) < n+1 || !strings.EqualFold(arg[:n], keyword) || arg[n] != ':' {
		return "", nil, errPath
	}
	rest := strings.TrimLeft(arg[n+1:], " ")
	if rest == "" || rest[0] != '<' {
		return "", nil, errPath
	}
	end := bracket(rest)
	if end < 0 || end+1 < len(rest) && rest[end+1] != ' ' {
		return "", nil, errPath
	}
	isSpace := func(r rune) bool { return r == ' ' }
	return rest[1:end], strings.FieldsFunc(rest[end+1:], isSpace), nil
}

// bracket is where the bracket stands that closes the one s begins with; -1 is
// nowhere.
func bracket(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}

// printable says that s has no control characters and is UTF-8. The line
// separators of Unicode count as control characters: what shows addresses may
// break lines at them.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// readMail reads the argument of MAIL. The zero Reply means that it is good.
// After HELO there are no parameters (RFC 5321, section 4.1.1.1).
func readMail(arg string, esmtp bool, limit int64) (m MailCommand, refusal mail.Reply) {
	if !printable(arg) {
		return m, replyBadFrom
	}
	path, params, err := splitPath(arg, "FROM")
	if err != nil {
		return m, replyBadFrom
	}
	if len(params) > 0 && !esmtp {
		return m, replyParameter
	}
	if refusal = readParams(&m, params); refusal.Code != 0 {
		return m, refusal
	}
	if !m.SMTPUTF8 && !isASCII(arg) {
		return m, replyUTF8
	}
	m.ReversePath, err = mail.ParseAddress(path)
	// "postmaster" without a domain is a forward-path only (section 4.1.1.3).
	if err != nil || path != "" && m.ReversePath.Domain == "" {
		return m, replyBadFrom
	}
	if m.Size > limit {
		return m, replyTooBig
	}
	return m, mail.Reply{}
}

// readParams reads the parameters of MAIL: those of RFC 1870, 6152 and 6531.
func readParams(m *MailCommand, params []string) mail.Reply {
	seen := map[string]bool{}
	for _, p := range params {
		key, value, has := strings.Cut(p, "=")
		key = strings.ToUpper(key)
		ok := false
		switch key {
		case "SIZE":
			m.Size, ok = readSize(value)
		case "BODY":
			m.EightBit = strings.EqualFold(value, "8BITMIME")
			ok = m.EightBit || strings.EqualFold(value, "7BIT")
		case "SMTPUTF8":
			m.SMTPUTF8, ok = true, !has
		default:
			return replyParameter
		}
		if !ok || seen[key] {
			return replyValue
		}
		seen[key] = true
	}
	return mail.Reply{}
}

// readSize reads up to 20 digits (RFC 1870, section 5). More than fits is more
// than any limit.
func readSize(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case len(s) > 20:
		return 0, false
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64, true
	}
	return int64(n), err == nil
}

// readRcpt reads the argument of RCPT. The zero Reply means that there is a
// path, about which the session decides.
func readRcpt(arg string, utf8 bool) (r RcptCommand, refusal mail.Reply) {
	if !printable(arg) {
		return r, replyBadTo
	}
	path, params, err := splitPath(arg, "TO")
	switch {
	case err != nil, path == "":
		return r, replyBadTo
	case len(params) > 0:
		return r, replyParameter
	case !utf8 && !isASCII(path):
		return r, replyUTF8
	}
	r.Path = path
	r.Address, r.Err = mail.ParseAddress(path)
	return r, mail.Reply{}
}

// isHTTP says that the line is the beginning of an HTTP request: somebody makes
// a browser talk to us, or mistook the port.
func isHTTP(verb []byte, line []byte) bool {
	switch string(verb) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PATCH", "DELETE", "TRACE":
		return true
	}
	i := bytes.LastIndex(line, []byte(" HTTP/"))
	return i >= 0 && len(line)-i <= len(" HTTP/1.1")
}
