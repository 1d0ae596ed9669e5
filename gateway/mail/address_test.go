package mail

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", MaxLocal)
	label := strings.Repeat("d", 63)
	domain := strings.Join([]string{label, label, label, label}, ".") // 255
	for _, c := range []struct {
		in, local, domain, out string
	}{
		{"", "", "", ""},
		{"a@example.com", "a", "example.com", "a@example.com"},
		{"A.b+c@Example.COM", "A.b+c", "Example.COM", "A.b+c@Example.COM"},
		{"!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com", "!#$%&'*+-/=?^_`{|}~@example.com"},
		{`"a b"@example.com`, "a b", "example.com", `"a b"@example.com`},
		{`"ab"@example.com`, "ab", "example.com", "ab@example.com"},
		{`"a@b"@example.com`, "a@b", "example.com", `"a@b"@example.com`},
		{`"a>b"@example.com`, "a>b", "example.com", `"a>b"@example.com`},
		{`"a> SIZE=1"@example.com`, "a> SIZE=1", "example.com", `"a> SIZE=1"@example.com`},
		{`"a\"b\\c\d"@example.com`, `a"b\cd`, "example.com", `"a\"b\\cd"@example.com`},
		{`""@example.com`, "", "example.com", `""@example.com`},
		{`"a."@example.com`, "a.", "example.com", `"a."@example.com`},
		{`"postmaster"`, "postmaster", "", "postmaster"},
		{"postmaster", "postmaster", "", "postmaster"},
		{"PostMaster", "PostMaster", "", "PostMaster"},
		{"a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a@localhost", "a", "localhost", "a@localhost"},
		{"a@under_score.example", "a", "under_score.example", "a@under_score.example"},
		{"jos\u00e9@ex\u00e4mple.com", "jos\u00e9", "ex\u00e4mple.com", "jos\u00e9@ex\u00e4mple.com"},
		{"a%b@example.com", "a%b", "example.com", "a%b@example.com"},
		{"a!b@example.com", "a!b", "example.com", "a!b@example.com"},
		{long + "@example.com", long, "example.com", long + "@example.com"},
		{"a@" + domain, "a", domain, "a@" + domain},
	} {
		a, err := ParseAddress(c.in)
		if err != nil || a.Local != c.local || a.Domain != c.domain || a.String() != c.out {
			t.Errorf("%s: %q %q %q %v", c.in, a.Local, a.Domain, a, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	label := strings.Repeat("d", 63)
	domain := strings.Join([]string{label, label, label, label}, ".")
	for _, c := range []struct {
		in   string
		want error
	}{
		{"a", ErrAddressSyntax},
		{"@", ErrSourceRoute},
		{"@a.example:b@example.com", ErrSourceRoute},
		{"@a.example,@b.example:c@example.com", ErrSourceRoute},
		{"a@", ErrAddressSyntax},
		{"a@b@example.com", ErrSecondAt},
		{`"a"@b@example.com`, ErrSecondAt},
		{"a@[192.0.2.1]@example.com", ErrSecondAt},
		{"a\x00@example.com", ErrAddressSyntax},
		{"a@exa\x00mple.com", ErrAddressSyntax},
		{"\"a\x00b\"@example.com", ErrAddressSyntax},
		{"\"a\\\x00b\"@example.com", ErrAddressSyntax},
		{"\"a\r\nb\"@example.com", ErrAddressSyntax},
		{"\"a\\\rb\"@example.com", ErrAddressSyntax},
		{"\"a\tb\"@example.com", ErrAddressSyntax},
		{"\"a\x7fb\"@example.com", ErrAddressSyntax},
		{"a\x7f@example.com", ErrAddressSyntax},
		{"a@example.com\r\n", ErrAddressSyntax},
		{"a\xff@example.com", ErrAddressSyntax},
		{"a b@example.com", ErrAddressSyntax},
		{" a@example.com", ErrAddressSyntax},
		{"a@example.com ", ErrAddressSyntax},
		{"a(comment)@example.com", ErrAddressSyntax},
		{"(comment)a@example.com", ErrAddressSyntax},
		{"a@example.com(comment)", ErrAddressSyntax},
		{"a@(comment)example.com", ErrAddressSyntax},
		{"<a@example.com>", ErrAddressSyntax},
		{"a@example.com>", ErrAddressSyntax},
		{"a@example.com> SIZE=1", ErrAddressSyntax},
		{".a@example.com", ErrAddressSyntax},
		{"a.@example.com", ErrAddressSyntax},
		{"a..b@example.com", ErrAddressSyntax},
		{`"a@example.com`, ErrAddressSyntax},
		{`"a`, ErrAddressSyntax},
		{`"`, ErrAddressSyntax},
		{`"a\`, ErrAddressSyntax},
		{`"a"b@example.com`, ErrAddressSyntax},
		{`a"b"@example.com`, ErrAddressSyntax},
		{`"a".b@example.com`, ErrAddressSyntax},
		{"a:b@example.com", ErrAddressSyntax},
		{"a,b@example.com", ErrAddressSyntax},
		{"a;b@example.com", ErrAddressSyntax},
		{"a@.example.com", ErrAddressSyntax},
		{"a@example.com.", ErrAddressSyntax},
		{"a@example..com", ErrAddressSyntax},
		{"a@-example.com", ErrAddressSyntax},
		{"a@example-.com", ErrAddressSyntax},
		{"a@exam ple.com", ErrAddressSyntax},
		{"a@[]", ErrAddressSyntax},
		{"a@[192.0.2.1", ErrAddressSyntax},
		{"a@[192.0.2.1]x", ErrAddressSyntax},
		{"a@[a b]", ErrAddressSyntax},
		{"a@[a]b]", ErrAddressSyntax},
		{strings.Repeat("a", MaxLocal+1) + "@example.com", ErrAddressTooLong},
		{"a@" + domain + "d", ErrAddressTooLong},
		{"a@" + label + "d.example", ErrAddressSyntax},
		{strings.Repeat("a", 10_000) + "@example.com", ErrAddressTooLong},
	} {
		if a, err := ParseAddress(c.in); !errors.Is(err, c.want) || a != (Address{}) {
			t.Errorf("%q: %q, %v, want %v", c.in, a, err, c.want)
		}
	}
}

func TestAddress(t *testing.T) {
	a := Address{Local: "Ab", Domain: "Example.com"}
	b := Address{Local: "aB", Domain: "eXample.com"}
	if a.Key() != b.Key() || a.DomainKey() != "example.com" || !a.ASCII() || a.IsZero() {
		t.Error(a.Key(), b.Key(), a.DomainKey())
	}
	if !(Address{}).IsZero() || (Address{}).String() != "" || (Address{Local: "é", Domain: "x"}).ASCII() || (Address{Local: "x", Domain: "é"}).ASCII() {
		t.Error("the null reverse-path, or ASCII")
	}
	text, err := json.Marshal([]Address{a, {}})
	if err != nil || string(text) != `["Ab@Example.com",""]` {
		t.Errorf("%s %v", text, err)
	}
	var back []Address
	if err := json.Unmarshal(text, &back); err != nil || back[0] != a || !back[1].IsZero() {
		t.Error(back, err)
	}
	if err := json.Unmarshal([]byte(`["a@b@c"]`), &back); err == nil {
		t.Error("a second @ was read")
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@example.com", `"a b"@example.com`, `"a\"\\b>"@[192.0.2.1]`, "postmaster", "", "@a:b@c", "é@ü.example", `""@x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		out := a.String()
		if back, err := ParseAddress(out); err != nil || back != a {
			t.Fatalf("%q: %q became %q, %v", s, out, back, err)
		}
		if i := unsafeOctet(out); i >= 0 {
			t.Fatalf("%q: %q holds %q where it may end a path or a line", s, out, out[i])
		}
	})
}

// unsafeOctet is where s holds an octet that could end the path it is put into.
func unsafeOctet(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return i
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '>' || c == '<' || c == ' '):
			return i
		}
	}
	if quoted {
		return len(s) - 1
	}
	return -1
}
