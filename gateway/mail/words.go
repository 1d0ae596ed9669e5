package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
)

// maxText bounds the text of one field in octets.
const maxText = 64 << 10

// DecodeText is b in UTF-8. It never fails: a charset that is not known, or
// that is named wrongly over valid UTF-8, is read as UTF-8 where that is valid
// and as Latin-1 otherwise.
func DecodeText(name string, b []byte) string {
	if isASCII(name) && isUTF8(name) {
		if utf8.Valid(b) {
			return string(b)
		}
		if name != "" {
			return strings.ToValidUTF8(string(b), "\ufffd")
		}
		return latin1(b)
	}
	// "replacement" is what browsers take for charsets that they no longer read.
	encoding, canonical := charset.Lookup(name)
	if encoding == nil || canonical == "replacement" {
		return DecodeText("", b)
	}
	if strings.EqualFold(name, "us-ascii") && utf8.Valid(b) {
		return string(b)
	}
	decoded, err := encoding.NewDecoder().Bytes(b)
	if err != nil {
		return latin1(b)
	}
	return string(decoded)
}

func isUTF8(name string) bool {
	return name == "" || strings.EqualFold(name, "utf-8") || strings.EqualFold(name, "utf8")
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

// printable replaces control characters: those that are white space by a space,
// the others, C1 included, by U+FFFD.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return utf8.RuneError
		}
		return r
	}, s)
}

// cutText cuts s to maxText between two characters.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// decodeWords replaces the encoded words of s (RFC 2047), wherever they stand:
// QUIRK: mailers put them into quoted strings and glue them to other text.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var w words
	for {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		charset, text, rest, ok := cutWord(s[i:])
		if !ok {
			w.plain(s[:i+2])
			s = s[i+2:]
			continue
		}
		w.plain(s[:i])
		w.word(charset, text)
		s = rest
	}
	w.plain(s)
	w.flush()
	return w.out.String()
}

// words joins encoded words while their charset stays the same: a character of
// several octets may be split between two of them.
type words struct {
	out     strings.Builder
	charset string
	octets  []byte
	open    bool
	gap     string // white space behind the last word, which only counts before text
}

func (w *words) plain(s string) {
	if w.open && strings.Trim(s, " \t") == "" {
		w.gap += s
		return
	}
	w.flush()
	w.out.WriteString(s)
}

func (w *words) word(charset string, octets []byte) {
	if w.open && !strings.EqualFold(w.charset, charset) {
		w.gap = ""
		w.flush()
	}
	w.open, w.charset, w.gap = true, charset, ""
	w.octets = append(w.octets, octets...)
}

func (w *words) flush() {
	if w.open {
		w.out.WriteString(DecodeText(w.charset, w.octets))
		w.out.WriteString(w.gap)
	}
	w.open, w.octets, w.gap = false, w.octets[:0], ""
}

// cutWord reads the encoded word that s begins with. What follows a language
// (RFC 2231, section 5) in the charset is dropped.
func cutWord(s string) (charset string, octets []byte, rest string, ok bool) {
	head := s[2:min(len(s), 2+maxCharset)]
	charset, _, ok = strings.Cut(head, "?")
	if !ok || charset == "" || strings.ContainsAny(charset, " \t=") {
		return "", nil, "", false
	}
	body := s[2+len(charset)+1:]
	if len(body) < 2 || body[1] != '?' {
		return "", nil, "", false
	}
	text, rest, ok := cutWordEnd(body[2:])
	if !ok {
		return "", nil, "", false
	}
	switch body[0] {
	case 'b', 'B':
		octets = decodeBase64([]byte(text))
	case 'q', 'Q':
		octets = decodeQ(text)
	default:
		return "", nil, "", false
	}
	charset, _, _ = strings.Cut(charset, "*")
	return charset, octets, rest, true
}

// maxCharset bounds a charset's name, maxWord an encoded word: RFC 2047 allows
// 75 octets, mailers write whole subjects into one.
const (
	maxCharset = 64
	maxWord    = 4096
)

// cutWordEnd splits s at the end of its word.
func cutWordEnd(s string) (text, rest string, ok bool) {
	i := strings.Index(s[:min(len(s), maxWord)], "?=")
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+2:], true
}

// decodeQ is RFC 2047, section 4.2.
func decodeQ(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			b = append(b, ' ')
		case s[i] == '=' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// decodeBase64 decodes all of b.
func decodeBase64(b []byte) []byte {
	var d base64Decoder
	out := make([]byte, len(b)+slack)
	n := d.decode(out, b)
	n += d.end(out[n:])
	return bytes.Clone(out[:n])
}
