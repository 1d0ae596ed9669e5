package mail

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
		odd          string // symbols
	}{
		{"text/plain", "text/plain", nil, ""},
		{"", "", nil, ""},
		{";", "", nil, ""},
		{"text/plain;", "text/plain", nil, ""},
		{"text/plain; charset=utf-8", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain ;charset = utf-8 ;;format=flowed", "text/plain", m{"charset": "utf-8", "format": "flowed"}, ""},
		{"text/plain;\r\n charset=\"utf-8\"\r\n", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain; charset=utf-8 (a ; comment)", "text/plain", m{"charset": "utf-8"}, ""},
		{"text/plain; charset=utf-8 (a comment)", "text/plain", m{"charset": "utf-8"}, ""},
		{`text/plain; charset="utf-8" (a ; comment); a=b`, "text/plain", m{"charset": "utf-8", "a": "b"}, ""},
		{`text/plain; (c\)) a=b`, "text/plain", m{"a": "b"}, ""},
		{"text/plain; a=b; A=c", "text/plain", m{"a": "b"}, MIMEParameterTwice},
		{"text/plain; a", "text/plain", nil, MIMEParameterOdd},
		{"text/plain; =b", "text/plain", m{"": "b"}, ""},
		{"text/plain; a=", "text/plain", m{"a": ""}, ""},
		{`text/plain; a=""`, "text/plain", m{"a": ""}, ""},
		{`text/plain; a="b;c"; d=e`, "text/plain", m{"a": "b;c", "d": "e"}, ""},
		{`text/plain; a="b\"c\\d\e"`, "text/plain", m{"a": `b"c\d\e`}, ""},
		{`text/plain; a="b" c="d"`, "text/plain", m{"a": "b", "c": "d"}, MIMEParameterOdd},
		{`text/plain; a=b c=d`, "text/plain", m{"a": "b", "c": "d"}, MIMEParameterOdd},
		{`text/plain a=b`, "text/plain", m{"a": "b"}, MIMEParameterOdd},
		{`text/plain; a="b; c=d`, "text/plain", m{"a": "b", "c": "d"}, MIMEParameterOdd},
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
		{"x; boundary=b; boundary*0=c", "x", m{"boundary": "b"}, MIMEParameterTwice},
		{"x; name=\"=?utf-8?Q?=C3=A9?=\"", "x", m{"name": "é"}, MIMEParameterWord},
	} {
		n := notes{}
		value, ps := parseParams(c.field, noter{&n, ""})
		got := ps.toMap(noter{&n, ""})
		if value != c.value || !maps.Equal(got, c.params) || strings.Join(symbols(n.list), " ") != c.odd {
			t.Errorf("%s: %q %q %v", c.field, value, got, n.list)
		}
	}
}

func TestMediaType(t *testing.T) {
	for in, want := range map[string]string{
		"text/plain": "text/plain", "TEXT/Html": "text/html", "multipart": "multipart/mixed", "multipart/": "multipart/mixed",
		"multipart/x/y": "multipart/mixed", "text": "text/plain", "html": "text/html", "image": "application/octet-stream",
		"x/y/z": "", "/plain": "", "": "", "te xt/plain": "", "message": "", "a/b=c": "",
	} {
		if got, _ := mediaType(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
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
		n := notes{}
		_, ps := parseParams(s, noter{&n, ""})
		if len(ps) > maxParams || len(n.list) > maxOddities {
			t.Fatalf("%d parameters, %d oddities", len(ps), len(n.list))
		}
		total := 0
		for name, value := range ps.toMap(noter{&n, ""}) {
			total += len(name) + len(value)
			for _, v := range ps.names(name) {
				if utf8.ValidString(s) && !utf8.ValidString(v) {
					t.Fatalf("%q is not UTF-8", v)
				}
			}
		}
		if total > 12*len(s)+64 {
			t.Fatalf("%d octets became %d", len(s), total)
		}
		if slices.ContainsFunc(n.list, func(o Oddity) bool { return o.Description() == "" }) {
			t.Fatal(n.list)
		}
	})
}
