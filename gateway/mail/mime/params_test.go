package mime

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParams(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		field, value string
		params       map[string]string
		odd          string // kinds of faults
	}{
		{"text/plain", "text/plain", nil, ""},
		{"", "", nil, ""},
		{";", "", nil, ""},
		{"text/plain;", "text/plain", nil, ""},
		{"text/plain; charset=utf-8", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain ;charset = utf-8 ;;format=flowed", "text/plain", m{"charset": "utf-8", "format": "flowed"}, ""},
		{"text/plain; charset=\"utf-8\" \r", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain; charset=utf-8 (a ; comment)", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain; charset=utf-8 (a comment)", "text/plain", m{"charset": "utf-8"}, ""},
		{`text/plain; charset="utf-8" (a ; comment); a=b`, "text/plain", m{"charset": "utf-8", "a": "b"}, ""},
		{`text/plain; (c\)) a=b`, "text/plain", m{"a": "b"}, ""},
		{"text/plain; a=b; A=c", "text/plain", m{"a": "b"}, "twice"},
		{"text/plain; a", "text/plain", nil, "malformed"},
		{"text/plain; =b", "text/plain", m{"": "b"}, ""},
		{"text/plain; a=", "text/plain", m{"a": ""}, ""},
		{`text/plain; a=""`, "text/plain", m{"a": ""}, ""},
		{`text/plain; a="b;c"; d=e`, "text/plain", m{"a": "b;c", "d": "e"}, ""},
		{`text/plain; a="b\"c\\d\e"`, "text/plain", m{"a": `b"c\d\e`}, ""},
		{`text/plain; a="b" c="d"`, "text/plain", m{"a": "b", "c": "d"}, "malformed"},
		{`text/plain; a=b c=d`, "text/plain", m{"a": "b", "c": "d"}, "malformed"},
		{`text/plain a=b`, "text/plain", m{"a": "b"}, "malformed"},
		{`text/plain; a="b; c=d`, "text/plain", m{"a": "b", "c": "d"}, "malformed"},
		{"x; a*=utf-8''%C3%A9", "x", m{"a": "é"}, ""},
		{"x; a*=%C3%A9%", "x", m{"a": "é%"}, ""},
		{"x; a*='%C3%A9", "x", m{"a": "'é"}, ""},
		{"x; a*0=b; a*1=c", "x", m{"a": "bc"}, ""},
		{"x; a*1=c; a*0=b; a*2=d", "x", m{"a": "bcd"}, ""},
		{"x; a*0*=iso-8859-1'fr'%E9; a*1=%E9; a*2*=%E9", "x", m{"a": "é%E9é"}, ""},
		{"x; a*0=b; a*0=c", "x", m{"a": "b"}, ""},
		{"x; a*x=b", "x", m{"a*x": "b"}, ""},
		{"x; a*-1=b", "x", m{"a*-1": "b"}, ""},
		{"x; a*99999999999999999999=b", "x", m{"a*99999999999999999999": "b"}, ""},
		{"x; a=b; a*=c", "x", m{"a": "b"}, ""},
		{"x; boundary=b; boundary*0=c", "x", m{"boundary": "b"}, "twice"},
		{"x; name=\"=?utf-8?Q?=C3=A9?=\"", "x", m{"name": "é"}, "word"},
		{"x; a=\"=?utf-8?Q?=C3=A9?=\"", "x", m{"a": "=?utf-8?Q?=C3=A9?="}, "word"},
		{"x; a=\"=?utf-8\"", "x", m{"a": "=?utf-8"}, ""},
		{"x; name=a; name=\"=?utf-8?Q?b?=\"", "x", m{"name": "a"}, "twice"},
		{"x; boundary*0=b; boundary*1=c", "x", m{"boundary": "bc"}, ""},
		{"x; boundary*0=c; boundary=b; boundary*1=d", "x", m{"boundary": "b"}, "twice"},
		{"x; boundary=b; boundary*1=c", "x", m{"boundary": "b"}, ""},
		{"x; boundary*=b; boundary*=c", "x", m{"boundary": "b"}, "twice"},
		{"x; A*0=b; a*1=c", "x", m{"a": "bc"}, ""},
		{"x; a*00=b; a*01=c", "x", m{"a": "bc"}, ""},
		{"x; a*0=b; a*2=c", "x", m{"a": "bc"}, ""},
		{"x; a*1*=utf-8''%C3%A9", "x", m{"a": "é"}, ""},
		{"x; a*0=b; a*1*=utf-8''%C3%A9", "x", m{"a": "butf-8''é"}, ""},
		{"x; a*0*=utf-8''%C3; a*1*=%A9", "x", m{"a": "é"}, ""},
		{"x; a*=x-nothing''%e9", "x", m{"a": "é"}, ""},
		{"x; a*='fr'b", "x", m{"a": "b"}, ""},
		{"x; a*=utf-8''b'c", "x", m{"a": "b'c"}, ""},
		{"x; a*=utf-8''%3D%3Futf-8%3FQ%3Fb%3F%3D", "x", m{"a": "b"}, ""},
		{"x; a*=\"utf-8''%41%4\"", "x", m{"a": "A%4"}, ""},
		{"x; a**=b", "x", m{"a**": "b"}, ""},
		{"x; *=b", "x", m{"": "b"}, ""},
		{"text/plain, a=b", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; a=b, c=d", "text/plain", m{"a": "b,", "c": "d"}, "malformed"},
		{"text / plain; a=b", "text/plain", m{"a": "b"}, ""},
		{"text/ plain", "text/plain", nil, ""},
		{"text /plain", "text/plain", nil, ""},
		{"(c) text (c) / (c) plain (c)", "text/plain", nil, ""},
		{"text plain", "text", nil, "malformed"},
		{"a=b", "", m{"a": "b"}, "malformed"},
		{"a =b", "a", m{"": "b"}, "malformed"},
		{"text/plain; a =\tb", "text/plain", m{"a": "b"}, ""},
		{"text/plain; a b=c", "text/plain", m{"b": "c"}, "malformed"},
		{"text/plain; a (c) b=c", "text/plain", m{"b": "c"}, "malformed"},
		{"text/plain; a (c)=b", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; a(c)=b", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; a (;c=d)=b", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; a (c (d)) (e) = (f) b (g)", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; a*0 (c)=b; a*1=c", "text/plain", m{"a": "bc"}, "malformed"},
		{"x; a *=utf-8''%41", "x", m{"a": "A"}, "malformed"},
		{"x; a *0 *=''%41; a* 1=B; a* (c) 2 =C", "x", m{"a": "ABC"}, "malformed"},
		{"x; a==?utf-8?Q?b c?= d=e", "x", m{"a": "=?utf-8?Q?b c?=", "d": "e"}, "malformed word"},
		{"x; a==?utf-8?Q?b?= d=e", "x", m{"a": "=?utf-8?Q?b?=", "d": "e"}, "malformed word"},
		{"text/plain; a(=b", "text/plain", m{"a(": "b"}, "malformed"},
		{"text/plain; a=b c", "text/plain", m{"a": "b c"}, "malformed"},
		{"text/plain; a=(c) b", "text/plain", m{"a": "b"}, ""},
		{"text/plain; a=b(c)", "text/plain", m{"a": "b(c)"}, ""},
		{`text/plain; a=b"c"`, "text/plain", m{"a": `b"c"`}, ""},
		{`text/plain; a="b`, "text/plain", m{"a": "b"}, "malformed"},
		{`text/plain; a="`, "text/plain", m{"a": ""}, "malformed"},
		{`text/plain; a="b\`, "text/plain", m{"a": `b\`}, "malformed"},
		{`text/plain; a="b".c; d=e`, "text/plain", m{"a": "b", "d": "e"}, "malformed"},
		{`text/plain; a="b" "c"`, "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; (unclosed; a=b", "text/plain", m{"a": "b"}, "malformed"},
		{"text/plain; (((; a=b", "text/plain", m{"a": "b"}, "malformed"},
		{`text/plain; (\); a=b`, "text/plain", m{"a": "b"}, "malformed"},
	} {
		v := ParseValue(c.field)
		got, faults := v.Params()
		faults = append(v.Faults, faults...)
		if v.Word != c.value || !maps.Equal(got, c.params) || kindNames(faults) != c.odd {
			t.Errorf("%s: %q %q %v", c.field, v.Word, got, faults)
		}
	}
}

// TestAll holds that every value that some reader takes is seen, the likeliest
// first.
func TestAll(t *testing.T) {
	for _, c := range []struct {
		field string
		want  []string
	}{
		{"x", nil},
		{"x; b=c", nil},
		{"x; a=b", []string{"b"}},
		{"x; A=b", []string{"b"}},
		{"x; a=b; a=c", []string{"b", "c"}},
		{"x; a=b; a*=utf-8''c", []string{"c", "b"}},
		{"x; a*0=b; a*1=c; a=d", []string{"bc", "d"}},
		{"x; a*=; a=b", []string{"b"}},
		{"x; a=", []string{""}},
		{`x; a="b.txt".exe`, []string{"b.txt", "b.txt.exe"}},
		{`x; a="b.txt"".exe"`, []string{"b.txt", "b.txt.exe"}},
		{`x; a="b.exe; c=d`, []string{"b.exe", "b.exe; c=d"}},
		{`x; a="b.exe`, []string{"b.exe"}},
		{"x; a=my file.exe", []string{"my file.exe", "my"}},
		{"x; a=b.txt c=d", []string{"b.txt"}},
		{`x; a="=?utf-8?Q?b=2Eexe?="`, []string{"b.exe", "=?utf-8?Q?b=2Eexe?="}},
		{`x; a="=?utf-8?Q?b"`, []string{"=?utf-8?Q?b", "=?utf-8?Q?b"}},
		{"x; a==?utf-8?Q?my b?=.exe", []string{"my b.exe", "=?utf-8?Q?my b?=.exe"}},
		{"x; a==?utf-8?Q?my b?=.exe c=d", []string{"my b.exe", "=?utf-8?Q?my b?=.exe"}},
		{"x; a==?utf-8?Q?my b; c==?utf-8?Q?=.exe", []string{"=?utf-8?Q?my b", "=?utf-8?Q?my", "=?utf-8?Q?my b"}},
		{"x; a*=b; a*=c", []string{"b", "c"}},
		{"x; a*0=b.txt; a*0=b.exe", []string{"b.txt", "b.exe"}},
		{"x; a*=b.txt; a*0=b; a*1=.exe", []string{"b.txt.exe", "b.exe"}},
		{"x; a*=b; a*=c; a=d", []string{"b", "c", "d"}},
		{"x; a*=''; a*=b", []string{"b"}},
		{"x; a *=b", []string{"b"}},
		{`x; a="=?utf-8?Q?b?=".exe`, []string{"b", "b.exe", "=?utf-8?Q?b?="}},
	} {
		v := ParseValue(c.field)
		if got := v.All("a"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.field, got, c.want)
		}
	}
	var none Value
	if values, faults := none.Params(); values != nil || faults != nil || none.All("a") != nil {
		t.Error("the zero value is not empty")
	}
}

// TestParameterLimit goes up to the limit, and one beyond.
func TestParameterLimit(t *testing.T) {
	for beyond := range 2 {
		v := ParseValue("text/plain" + strings.Repeat("; a*1=b", MaxParameters+beyond))
		if faults := kindNames(v.Faults); len(v.params) != MaxParameters || (faults == "limit") != (beyond == 1) {
			t.Errorf("%d beyond: %d parameters, %q", beyond, len(v.params), faults)
		}
	}
	// Words that are no parameters don't count.
	if v := ParseValue("x" + strings.Repeat("; a", 1000) + "; b=c"); len(v.params) != 1 || kindNames(v.Faults) != "malformed" {
		t.Errorf("%d parameters, %q", len(v.params), kindNames(v.Faults))
	}
}

// TestFaultEvidence holds what is shown of a fault: the field's word for its
// limit, the field for its grammar, else the parameter.
func TestFaultEvidence(t *testing.T) {
	many := strings.Repeat("; p=q", MaxParameters)
	for _, c := range []struct {
		field string
		want  []Fault
	}{
		{"text/plain" + many + ";r=s t", append([]Fault{{ParameterLimit, "text/plain"}}, slices.Repeat([]Fault{{ParameterTwice, "p"}}, MaxParameters-1)...)},
		{"text/plain; a", []Fault{{ParameterMalformed, "text/plain; a"}}},
		{"x; B=1; b=2", []Fault{{ParameterTwice, "b"}}},
		{`x; c="=?utf-8?Q?d?="`, []Fault{{ParameterWord, "=?utf-8?Q?d?="}}},
		{`x; c="=?utf-8?Q?d?="; c=d; e`, []Fault{{ParameterMalformed, `x; c="=?utf-8?Q?d?="; c=d; e`}, {ParameterWord, "=?utf-8?Q?d?="}, {ParameterTwice, "c"}}},
	} {
		v := ParseValue(c.field)
		_, faults := v.Params()
		if got := append(v.Faults, faults...); !slices.Equal(got, c.want) {
			t.Errorf("%.60s: %v", c.field, got)
		}
	}
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{
		"text/plain; charset=utf-8", `a/b (c (d)) ; e="f\"" ; g*0*=utf-8''%41; g*1=h`, `x; a="b; c=d`, "x; ((((", "=;=;=", "a/b; c=d e=f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := ParseValue(s)
		values, faults := v.Params()
		if len(values) > MaxParameters || len(v.Faults) > 2 || len(faults) > 2*MaxParameters {
			t.Fatalf("%d parameters, %d and %d faults", len(values), len(v.Faults), len(faults))
		}
		total := 0
		for name, value := range values {
			total += len(name) + len(value)
			for _, v := range v.All(name) {
				if utf8.ValidString(s) && !utf8.ValidString(v) {
					t.Fatalf("%q is not UTF-8", v)
				}
			}
		}
		if total > 12*len(s)+64 {
			t.Fatalf("%d octets became %d", len(s), total)
		}
		for _, f := range append(v.Faults, faults...) {
			if f.Kind < 0 || f.Kind >= FaultKinds || !strings.Contains(strings.ToLower(s), strings.ToLower(f.Evidence)) {
				t.Fatalf("%+v", f)
			}
		}
	})
}
