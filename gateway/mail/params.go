package mail

import (
	"slices"
	"strconv"
	"strings"
)

// maxParams bounds the parameters of one field; a real one has a handful.
const maxParams = 100

// param is one parameter as it stands in a field.
type param struct {
	name  string // in lower case, with the asterisks of RFC 2231
	value string // unquoted, not decoded
	other string // what a laxer reader takes for the value; "" is none
}

// params are the parameters of one MIME field (RFC 2045, section 5.1).
type params []param

// parseParams splits a MIME field's value. The grammar is tolerant: comments,
// missing semicolons, unclosed quotes and bare spaces are read as most clients
// do, and noted.
func parseParams(s string, note noter) (value string, ps params) {
	t := tokens{s: unfold(s)}
	value = t.first()
	for {
		t.space(";,")
		if t.rest() == "" {
			break
		}
		if len(ps) == maxParams {
			note.add(MIMEParameterLimit, value)
			break
		}
		if p, ok := t.param(); ok {
			ps = append(ps, p)
		}
	}
	if t.odd {
		note.add(MIMEParameterOdd, t.s)
	}
	return value, ps
}

// tokens walks over a structured field's value.
type tokens struct {
	s      string
	i      int
	odd    bool
	opened bool // a comment without end was seen: no other has one either
}

func (t *tokens) rest() string { return t.s[t.i:] }

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
		for t.i < len(t.s) && strings.IndexByte(" \t(;,", t.s[t.i]) < 0 {
			t.i++
		}
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
	from := t.i
	for t.i < len(t.s) && t.s[t.i] != '=' && t.s[t.i] != ';' {
		t.i++
	}
	name := strings.TrimRight(t.s[from:t.i], " \t")
	if t.rest() == "" || t.s[t.i] == ';' {
		t.odd = true
		return param{}, false
	}
	t.i++
	if i := strings.IndexAny(name, " \t("); i >= 0 {
		t.odd, name = true, name[strings.LastIndexAny(name, " \t)")+1:]
	}
	p := param{name: strings.ToLower(name)}
	t.space("")
	if t.rest() != "" && t.s[t.i] == '"' {
		p.value, p.other = t.quoted()
	} else {
		p.value, p.other = t.bare()
	}
	return p, true
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
	for t.i < len(t.s) && t.s[t.i] != ';' {
		t.i++
	}
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
	for t.i < len(t.s) && t.s[t.i] != ';' {
		if t.s[t.i] == ' ' || t.s[t.i] == '\t' {
			break
		}
		t.i++
	}
	word := t.s[from:t.i]
	t.space("")
	if t.rest() == "" || t.s[t.i] == ';' {
		return word, ""
	}
	t.odd = true
	t.i = from + len(word)
	for t.i < len(t.s) && t.s[t.i] != ';' {
		t.i++
	}
	value = strings.TrimRight(t.s[from:t.i], " \t")
	if strings.Contains(value[len(word):], "=") {
		t.i = from + len(word) // a parameter whose semicolon is missing
		return word, ""
	}
	return value, word
}

// segment is one piece of a value that RFC 2231, section 3 continues.
type segment struct {
	number  int
	value   string
	encoded bool
}

// base splits a parameter's name: "name*1*" is piece 1 of name, encoded.
func (p param) base() (name string, number int, encoded, extended bool) {
	name, mark, found := strings.Cut(p.name, "*")
	if !found {
		return name, 0, false, false
	}
	if mark == "" {
		return name, 0, true, true
	}
	digits, encoded := strings.CutSuffix(mark, "*")
	number, err := strconv.Atoi(digits)
	if err != nil || number < 0 {
		return p.name, 0, false, false
	}
	return name, number, encoded, true
}

// plain are the values of the parameters that are called just name.
func (ps params) plain(name string) (values []string) {
	for i := range ps {
		if ps[i].name != name {
			continue
		}
		values = append(values, decodeWords(ps[i].value))
		if ps[i].other != "" {
			values = append(values, decodeWords(ps[i].other))
		}
		if strings.Contains(ps[i].value, "=?") {
			values = append(values, ps[i].value)
		}
	}
	return values
}

// extended is the value that name has by RFC 2231.
func (ps params) extended(name string) string {
	var pieces []segment
	for i := range ps {
		if base, number, encoded, extended := ps[i].base(); extended && base == name {
			pieces = append(pieces, segment{number, ps[i].value, encoded})
		}
	}
	if len(pieces) == 0 {
		return ""
	}
	slices.SortStableFunc(pieces, func(a, b segment) int { return a.number - b.number })
	return joinSegments(pieces)
}

// joinSegments puts pieces together. Only the first may name a charset.
func joinSegments(pieces []segment) string {
	charset := ""
	var b []byte
	for i, s := range pieces {
		if i > 0 && s.number == pieces[i-1].number {
			continue
		}
		if !s.encoded {
			b = append(b, s.value...)
			continue
		}
		if i == 0 {
			if set, rest, ok := strings.Cut(s.value, "'"); ok {
				if _, text, ok := strings.Cut(rest, "'"); ok {
					charset, s.value = set, text
				}
			}
		}
		b = appendPercent(b, s.value)
	}
	return decodeWords(DecodeText(charset, b))
}

func appendPercent(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return b
}

// names are all values that readers may see for name, the likeliest first: who
// knows RFC 2231 prefers its form.
func (ps params) names(name string) []string {
	if len(ps) == 0 {
		return nil
	}
	values := ps.plain(name)
	if e := ps.extended(name); e != "" {
		values = append([]string{e}, values...)
	}
	return values
}

// toMap gives each name its value. The plain form outweighs that of RFC 2231:
// what decides of structure, boundary and charset, is read by old readers too.
func (ps params) toMap(note noter) map[string]string {
	if len(ps) == 0 {
		return nil
	}
	m := make(map[string]string, len(ps))
	for i := range ps {
		if name, _, _, extended := ps[i].base(); !extended {
			if _, twice := m[name]; twice {
				note.add(MIMEParameterTwice, name)
				continue
			}
			m[name] = ps[i].value
			if strings.Contains(ps[i].value, "=?") && decodeWords(ps[i].value) != ps[i].value {
				note.add(MIMEParameterWord, ps[i].value)
				if name == "name" {
					m[name] = decodeWords(ps[i].value)
				}
			}
		}
	}
	for i := range ps {
		name, number, _, extended := ps[i].base()
		if !extended {
			continue
		}
		if _, has := m[name]; !has {
			m[name] = ps.extended(name)
		} else if number == 0 && name == "boundary" {
			note.add(MIMEParameterTwice, name)
		}
	}
	return m
}
