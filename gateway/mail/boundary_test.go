package mail

import (
	"strings"
	"testing"
)

func TestIsBoundary(t *testing.T) {
	for boundary, want := range map[string]bool{
		"b": true, "----=_Part_1": true, "a b": true, "azAZ09'()+_,-./:=?": true,
		strings.Repeat("b", 70): true, strings.Repeat("b", 71): false,
		"a*b": false, "a;b": false, `a"b`: false, "a\tb": false, "a\x00b": false, "caf\xe9": false, "é": false, "a@b": false,
	} {
		if isBoundary(boundary) != want {
			t.Errorf("%q: %v", boundary, !want)
		}
	}
}

// TestDelimiter says of a line which of the boundaries around it, outermost
// first, it is. One that was closed is marked "!".
func TestDelimiter(t *testing.T) {
	const none = -1
	for _, c := range []struct {
		open, line string
		level      int
		closes     bool
		odd        bool
	}{
		{"", "--b", none, false, false},
		{"b", "", none, false, false},
		{"b", "-", none, false, false},
		{"b", "--", none, false, false},
		{"b", "b", none, false, false},
		{"b", "-b", none, false, false},
		{"b", "--b", 0, false, false},
		{"b", "--b--", 0, true, false},
		{"b", "--b  \t", 0, false, false},
		{"b", "--b-- \t ", 0, true, false},
		{"b", "--b\r", 0, false, false}, // of CR CR LF
		{"b", " --b", none, false, false},
		{"b", "--B", none, false, false},
		{"b", "-- b", none, false, false},
		{"b", "---b", none, false, false},
		{"b", "--bx", none, false, true},
		{"b", "--b-", none, false, true},
		{"b", "--b -- ", none, false, true},
		{"b", "--b--x", none, false, true},
		{"b", "--b----", none, false, true},
		{"a b", "--b", 1, false, false},
		{"a b", "--a", 0, false, false},
		{"a b", "--a--", 0, true, false},
		{"a b", "--c", none, false, false},
		{"b b", "--b", 1, false, false},
		{"b b!", "--b", 0, false, false},
		{"b b!", "--b--", 0, true, false},
		{"b! b!", "--b", 1, false, false},
		{"b! b!", "--b--", 1, true, false},
		{"b!", "--b", 0, false, false},
		{"b!", "--b--", 0, true, false},
		{"b! a", "--b", 0, false, false},
		{"abc abcdef", "--abc", 0, false, false},
		{"abc abcdef", "--abcdef", 1, false, false},
		{"abcdef abc", "--abcdef", 0, false, false},
		{"abc abcdef", "--abcde", none, false, true},
		{"b b--", "--b--", 1, false, false},
		{"b b--", "--b----", 1, true, false},
		{"b b--!", "--b--", 0, true, false},
		{"b-- b", "--b--", 1, true, false},
		{"-", "---", 0, false, false},
		{"-", "-----", 0, true, false},
		{"/", "--", 0, false, false}, // "/" is the empty one
		{"/", "----", 0, true, false},
		{"/", "--x", none, false, false},
		{"b /", "--b", 0, false, false},
		{"b /", "----", 1, true, false},
	} {
		r := reader{tree: &tree{}, lines: newLines(Bytes(c.line + "\n"))}
		for word := range strings.FieldsSeq(c.open) {
			name, closed := strings.CutSuffix(word, "!")
			r.open = append(r.open, delimiter{boundary: []byte(strings.TrimPrefix(name, "/")), closed: closed})
		}
		r.lines.next()
		h, ok := r.delimiter()
		if !ok {
			h.level = none
		}
		if h.level != c.level || h.closes != c.closes || (len(r.notes.list) > 0) != c.odd {
			t.Errorf("%q within %q: level %d, closes %v, %v", c.line, c.open, h.level, h.closes, r.notes.list)
		}
	}
}

// TestInexactBounded holds that lines that are nearly boundaries are not noted
// without end.
func TestInexactBounded(t *testing.T) {
	content := someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
	for i := range 100 {
		content += "--b" + strings.Repeat("x", i+1) + "\r\n"
	}
	_, parts, oddities := Read(Bytes(content+"--b--\r\n"), Limits{})
	if len(parts) != 2 || len(oddities) != maxSame {
		t.Errorf("%d parts, %d oddities", len(parts), len(oddities))
	}
}

func TestOutside(t *testing.T) {
	for _, c := range []struct{ name, text, preamble, epilogue string }{
		{"nothing", "", "", ""},
		{"blank lines", "\n \n\t\r\n", "", ""},
		{"the customary line", "This is a multi-part message in MIME format.\n", "", "This is a multi-part message in MIME format."},
		{"another one", "multipart\n", "", "multipart"},
		{"text", "one\ntwo\n", "one", "one"},
		{"text behind the customary line", "MIME\n\ntext\n", "text", "MIME"},
		{"in other letters", "mime\n", "mime", "mime"},
	} {
		for want, check := range map[string]*outside{
			"preamble " + c.preamble: {customary: customaryPreamble},
			"epilogue " + c.epilogue: {},
		} {
			where, want, _ := strings.Cut(want, " ")
			found := []string{}
			for line := range strings.SplitSeq(c.text, "\n") {
				if fault := check.Line([]byte(line), true); fault != nil {
					found = append(found, string(fault))
				}
			}
			if fault := check.End(); fault != nil {
				t.Errorf("%s: %q at the end", c.name, fault)
			}
			if got := strings.Join(found, "|"); got != want {
				t.Errorf("%s as %s: %q, want %q", c.name, where, got, want)
			}
		}
	}
}
