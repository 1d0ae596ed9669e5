package mime

import "strings"

// tokens walks over an unfolded structured field's value.
type tokens struct {
	s      string
	i      int
	odd    bool
	opened bool // a comment without end was seen: no other has one either
}

func (t *tokens) rest() string { return t.s[t.i:] }

// until goes to the next octet that is one of these, or to the end.
func (t *tokens) until(octets string) {
	for t.i < len(t.s) && strings.IndexByte(octets, t.s[t.i]) < 0 {
		t.i++
	}
}

// space skips white space, comments and the given separators.
func (t *tokens) space(separators string) {
	for t.i < len(t.s) {
		switch c := t.s[t.i]; {
		case c == ' ', c == '\t', c == '\r', strings.IndexByte(separators, c) >= 0:
			t.i++
		case c == '(' && !t.opened:
			if !t.comment() {
				return
			}
		default:
			return
		}
	}
}

// comment skips one, with those nested in it (RFC 5322, section 3.2.2). One
// without end is no comment, or it would hide the parameters behind it.
func (t *tokens) comment() bool {
	depth := 0
	for i := t.i; i < len(t.s); i++ {
		switch t.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				t.i = i + 1
				return true
			}
		}
	}
	t.odd, t.opened = true, true
	return false
}

// first reads what stands before the parameters. What has a "=" is a parameter
// already.
func (t *tokens) first() string {
	t.space("")
	if i := strings.IndexAny(t.rest(), "=/ \t;"); i >= 0 && t.rest()[i] == '=' {
		t.odd = true
		return ""
	}
	var b string
	for {
		from := t.i
		t.until(" \t(;,")
		b += t.s[from:t.i]
		t.space("")
		// "text / plain" is one value in three words.
		if t.i == from || t.rest() == "" || (t.s[t.i] != '/' && !strings.HasSuffix(b, "/")) {
			break
		}
	}
	if t.rest() != "" && t.s[t.i] != ';' {
		t.odd = true
	}
	return b
}

// param reads one parameter; false is a word that is none.
func (t *tokens) param() (param, bool) {
	name := t.name()
	if t.rest() == "" || t.s[t.i] == ';' {
		t.odd = true
		return param{}, false
	}
	t.i++
	p := param{name: strings.ToLower(name)}
	t.space("")
	if t.rest() != "" && t.s[t.i] == '"' {
		p.value, p.other = t.quoted()
	} else {
		p.value, p.other = t.bare()
	}
	return p, true
}

// name reads up to the "=" and gives back the last word: what stands before it is
// passed over as readers do, and so are comments, which may hold a "=" or ";".
// "name *0 *" is one word (RFC 2231, section 3).
func (t *tokens) name() (name string) {
	ended := func() bool { return t.rest() == "" || t.s[t.i] == '=' || t.s[t.i] == ';' }
	stem := ""
	for start := t.i; !ended(); {
		t.i++
		t.until(" \t(=;")
		name = stem + t.s[start:t.i]
		before := t.i
		t.space("")
		if t.i == before {
			continue // the word goes on behind a "(" that begins no comment
		}
		start, stem = t.i, ""
		if !ended() && (t.s[t.i] == '*' || name[len(name)-1] == '*') {
			stem = name
		}
		// A comment is allowed here, but few expect it.
		t.odd = t.odd || !ended() || strings.IndexByte(t.s[before:t.i], '(') >= 0
	}
	return name
}

// quoted reads a quoted string. Without its end it goes to the next semicolon
// for some readers, to the field's end for others.
func (t *tokens) quoted() (value, other string) {
	t.i++
	all := t.rest()
	var b strings.Builder
	for i := 0; i < len(all); i++ {
		switch c := all[i]; {
		case c == '"':
			t.i += i + 1
			return b.String(), t.behind(b.String())
		// QUIRK: clients write file names with bare backslashes in quotes.
		case c == '\\' && i+1 < len(all) && (all[i+1] == '"' || all[i+1] == '\\'):
			i++
			b.WriteByte(all[i])
		default:
			b.WriteByte(c)
		}
	}
	t.odd = true
	value, _, cut := strings.Cut(all, ";")
	t.i += len(value)
	if cut {
		other = all
	}
	return strings.TrimRight(value, " \t"), other
}

// behind looks for text glued to a quoted string, as in "a.txt".exe.
func (t *tokens) behind(value string) (other string) {
	t.space("")
	from := t.i
	t.until(";")
	junk := strings.TrimSpace(t.s[from:t.i])
	if junk == "" {
		return ""
	}
	t.odd = true
	if strings.Contains(junk, "=") {
		t.i = from // a parameter whose semicolon is missing
		return ""
	}
	return value + strings.ReplaceAll(junk, `"`, "")
}

// bare reads a value without quotes. QUIRK: it goes to the semicolon, since file
// names with spaces come unquoted; a comment behind it is cut off.
func (t *tokens) bare() (value, other string) {
	from := t.i
	t.until(" \t;")
	if end := strings.Index(t.rest(), "?="); end >= 0 && beginsWord(t.s[from:t.i]) && !strings.Contains(t.rest()[:end], ";") {
		t.odd = true // mailers put spaces into encoded words
		t.i += end
		t.until(" \t;")
	}
	word := t.s[from:t.i]
	t.space("")
	if t.rest() == "" || t.s[t.i] == ';' {
		return word, ""
	}
	t.odd = true
	t.i = from + len(word)
	t.until(";")
	value = strings.TrimRight(t.s[from:t.i], " \t")
	if strings.Contains(value[len(word):], "=") {
		t.i = from + len(word) // a parameter whose semicolon is missing
		return word, ""
	}
	return value, word
}

// beginsWord says that an encoded word begins in s and does not end there.
func beginsWord(s string) bool { return strings.Contains(s, "=?") && DecodeWords(s) == s }
