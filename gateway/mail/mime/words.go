package mime

import "strings"

// DecodeWords replaces the encoded words of s (RFC 2047), wherever they stand:
// QUIRK: mailers put them into quoted strings and glue them to other text.
func DecodeWords(s string) string {
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
