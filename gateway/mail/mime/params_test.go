package mime

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

var kindName = [FaultKinds]string{
	ParameterLimit: "limit", ParameterMalformed: "malformed", ParameterTwice: "twice", ParameterWord: "word",
	EncodingMalformed: "encoding", EncodingUnknown: "unknown",
}

func kindNames(faults []Fault) string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = kindName[f.Kind]
	}
	return strings.Join(names, " ")
}

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
	} {
		v := ParseValue(c.field)
		got, faults := v.Params()
		faults = append(v.Faults, faults...)
		if v.Word != c.value || !maps.Equal(got, c.params) || kindNames(faults) != c.odd {
			t.Errorf("%s: %q %q %v", c.field, v.Word, got, faults)
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
