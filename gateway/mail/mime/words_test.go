package mime

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeText(t *testing.T) {
	for _, c := range []struct{ charset, octets, want string }{
		{"", "a", "a"},
		{"", "\xe9", "é"},
		{"utf-8", "\xe9", "\ufffd"},
		{"UTF8", "é", "é"},
		{"iso-8859-15", "\xa4", "€"},
		{"windows-1252", "\x80", "€"},
		{"nothing", "\xe9", "é"},
		{"nothing", "é", "é"},
		{"utf-16le", "a\x00b\x00", "ab"},
		{"us-ascii", "\xe9", "é"},
		{"big5", "\xa4\xa4", "中"},
		{"euc-jp", "\xc6\xfc", "日"},
		{"caf\xe9", "x", "x"},
	} {
		if got := DecodeText(c.charset, []byte(c.octets)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.charset, c.octets, got, c.want)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"=?utf-8?Q?a=41?= =?utf-8?B?QUI=?=", "=?=?=?=", "=?iso-2022-jp?B?GyRC?=", "=?x?q?a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeWords(s)
		if !strings.Contains(s, "=?") && got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if len(got) > 6*len(s)+6 {
			t.Fatalf("%d octets became %d", len(s), len(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
