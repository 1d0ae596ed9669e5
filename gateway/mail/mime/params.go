package mime

import (
	"slices"
	"strconv"
	"strings"
)

// MaxParameters bounds the parameters of one field; a real one has a handful.
const MaxParameters = 100

// Value is a MIME field's value, split (RFC 2045, section 5.1).
type Value struct {
	Word   string  // what stands before the parameters: "text/plain", "attachment"
	Faults []Fault // of the grammar; Params finds more
	params []param
}

// param is one parameter as it stands in a field.
type param struct {
	name  string // in lower case, with the asterisks of RFC 2231
	value string // unquoted, not decoded
	other string // what a laxer reader takes for the value; "" is none
}

// ParseValue splits an unfolded value. The grammar is tolerant: comments,
// missing semicolons, unclosed quotes and bare spaces are read as most clients
// do, and reported.
func ParseValue(s string) (v Value) {
	t := tokens{s: s}
	v.Word = t.first()
	for {
		t.space(";,")
		if t.rest() == "" {
			break
		}
		if len(v.params) == MaxParameters {
			v.Faults = append(v.Faults, Fault{ParameterLimit, v.Word})
			break
		}
		if p, ok := t.param(); ok {
			v.params = append(v.params, p)
		}
	}
	if t.odd {
		v.Faults = append(v.Faults, Fault{ParameterMalformed, s})
	}
	return v
}

// Params gives each parameter, named in lower case, its value. The plain form
// outweighs that of RFC 2231: what decides of structure, boundary and charset,
// is read by old readers too. It is nil where there is none.
func (v *Value) Params() (values map[string]string, faults []Fault) {
	if len(v.params) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(v.params))
	for i := range v.params {
		if _, _, _, extended := v.params[i].base(); !extended {
			faults = append(faults, v.params[i].into(m)...)
		}
	}
	for i := range v.params {
		name, number, _, extended := v.params[i].base()
		if !extended {
			continue
		}
		if _, has := m[name]; !has {
			m[name] = v.extended(name)[0]
		} else if number == 0 && name == "boundary" {
			faults = append(faults, Fault{ParameterTwice, name})
		}
	}
	return m, faults
}

// into gives m a parameter in plain form, unless one of that name was before.
func (p param) into(m map[string]string) []Fault {
	if _, twice := m[p.name]; twice {
		return []Fault{{ParameterTwice, p.name}}
	}
	m[p.name] = p.value
	decoded := DecodeWords(p.value)
	if decoded == p.value {
		return nil
	}
	if p.name == "name" {
		m[p.name] = decoded
	}
	return []Fault{{ParameterWord, p.value}}
}

// All are all values that readers may see for the parameter called name, in
// lower case, decoded and not; the likeliest first: who knows RFC 2231 prefers
// its form.
func (v *Value) All(name string) []string {
	if len(v.params) == 0 {
		return nil
	}
	values := v.extended(name)
	if len(values) > 0 && values[0] == "" {
		values = values[1:] // nobody prefers an empty one
	}
	return append(values, v.plain(name)...)
}

// plain are the values of the parameters that are called just name.
func (v *Value) plain(name string) (values []string) {
	for i := range v.params {
		p := &v.params[i]
		if p.name != name {
			continue
		}
		values = append(values, DecodeWords(p.value))
		if p.other != "" {
			values = append(values, DecodeWords(p.other))
		}
		if strings.Contains(p.value, "=?") {
			values = append(values, p.value)
		}
	}
	return values
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

// extended is the value that name has by RFC 2231, and where pieces of it stand
// twice, what it is for who takes the last.
func (v *Value) extended(name string) []string {
	var pieces []segment
	for i := range v.params {
		if base, number, encoded, extended := v.params[i].base(); extended && base == name {
			pieces = append(pieces, segment{number, v.params[i].value, encoded})
		}
	}
	if len(pieces) == 0 {
		return nil
	}
	first := joinSegments(pieces)
	slices.Reverse(pieces)
	if last := joinSegments(pieces); last != first {
		return []string{first, last}
	}
	return []string{first}
}

// joinSegments puts pieces together. Only the first may name a charset. Of two
// with one number the one that stands before the other counts.
func joinSegments(pieces []segment) string {
	pieces = slices.SortedStableFunc(slices.Values(pieces), func(a, b segment) int { return a.number - b.number })
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
			charset, s.value = cutCharset(s.value)
		}
		b = appendPercent(b, s.value)
	}
	return DecodeWords(DecodeText(charset, b))
}

// cutCharset takes charset and language off a value (RFC 2231, section 4).
func cutCharset(s string) (charset, text string) {
	set, rest, ok := strings.Cut(s, "'")
	if !ok {
		return "", s
	}
	if _, text, ok = strings.Cut(rest, "'"); !ok {
		return "", s
	}
	return set, text
}
