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
		{"", "", ""},
		{"nothing", "", ""},
		{"utf-8", "", ""},
		{"Utf-8", "\xef\xbb\xbfx", "\ufeffx"},
		{"US-ASCII", "é", "é"},
		{"us-ascii", "\x93a\x94", "“a”"}, // as browsers: ASCII is Windows-1252
		{"iso-8859-1", "\x80", "€"},
		{"ISO_8859-5", "\xbf", "П"},
		{"windows-1251", "\xcf", "П"},
		{"koi8-u", "\xb4", "Є"},
		{"iso-2022-jp", "\x1b$B$\"\x1b(B", "あ"},
		{"iso-2022-jp", "\x1b$B", ""},
		{"gb18030", "\x81\x30\x81\x30", "\u0080"},
		{"ks_c_5601-1987", "\xb0\xa1", "가"},
		{"shift_jis", "\x88", "\ufffd"}, // half a character
		{"utf-16be", "\x00a\x00", "a\ufffd"},
		{"iso-2022-kr", "\x1b$)Cabc", "\x1b$)Cabc"}, // no longer read
		{"hz-gb-2312", "\xe9", "é"},
		{" utf-8 ", "é", "é"},
		{"x-user-defined", "a", "a"},
	} {
		if got := DecodeText(c.charset, []byte(c.octets)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.charset, c.octets, got, c.want)
		}
	}
}

func TestDecodeWords(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"none", "a = b ? c", "a = b ? c"},
		{"empty", "", ""},
		{"q", "=?utf-8?q?a_b=3Dc?=", "a b=c"},
		{"q, hexadecimal in either case", "=?utf-8?Q?=c3=A9?=", "é"},
		{"q, a sign that encodes nothing", "=?utf-8?Q?100%=zz=4?=", "100%=zz=4"},
		{"q, a space that stands bare", "=?utf-8?Q?a b?=", "a b"},
		{"q, an underscore encoded", "=?utf-8?Q?a=5Fb?=", "a_b"},
		{"q, a question mark", "=?utf-8?Q?what??=", "what?"},
		{"b", "=?utf-8?b?w6k=?=", "é"},
		{"b without padding", "=?utf-8?B?w6k?=", "é"},
		{"b, padding within", "=?utf-8?B?w6k=w6k=?=", "éé"},
		{"b, octets that are no digits", "=?utf-8?B?w6 *k=?=", "é"},
		{"b, nothing", "=?utf-8?B??=", ""},
		{"b, one digit", "a=?utf-8?B?w?=b", "ab"},
		{"text around", "a =?utf-8?Q?b?= c", "a b c"},
		{"glued to text", "a=?utf-8?Q?b?=c", "abc"},
		{"in quotes", `"=?utf-8?Q?b?="`, `"b"`},
		{"two words", "=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"},
		{"two words, glued", "=?utf-8?Q?a?==?utf-8?Q?b?=", "ab"},
		{"two words, much white space", "=?utf-8?Q?a?= \t  =?utf-8?Q?b?=", "ab"},
		{"two words, text between", "=?utf-8?Q?a?= x =?utf-8?Q?b?=", "a x b"},
		{"two words, half a word between", "=?utf-8?Q?a?= =? =?utf-8?Q?b?=", "a =? b"},
		{"white space behind the last", "=?utf-8?Q?a?= ", "a "},
		{"two charsets", "=?utf-8?Q?a?= =?koi8-r?Q?=C1?= =?utf-8?Q?b?=", "aаb"},
		{"two charsets, white space behind", "=?utf-8?Q?a?= =?koi8-r?Q?=C1?= x", "aа x"},
		{"a character in two words", "=?utf-8?Q?=C3?= =?utf-8?B?qQ==?=", "é"},
		{"a character in two words, charsets in two cases", "=?utf-8?Q?=C3?= =?UTF-8?Q?=A9?=", "é"},
		{"a character in two words and two charsets", "=?utf-8?Q?=C3?= =?utf8?Q?=A9?=", "\ufffd\ufffd"},
		{"shift state over two words", "=?iso-2022-jp?B?GyRCJCI=?= =?iso-2022-jp?B?GyhC?=", "あ"},
		{"language", "=?us-ascii*en-US?Q?colour?=", "colour"},
		{"language, no charset", "=?*en?Q?colour?=", "colour"},
		{"no charset", "=??Q?a?=", "=??Q?a?="},
		{"a space in the charset", "=?utf 8?Q?a?=", "=?utf 8?Q?a?="},
		{"a sign in the charset", "=?utf=8?Q?a?=", "=?utf=8?Q?a?="},
		{"no encoding", "=?utf-8??a?=", "=?utf-8??a?="},
		{"unknown encoding", "=?utf-8?X?a?=", "=?utf-8?X?a?="},
		{"encoding of two letters", "=?utf-8?QQ?a?=", "=?utf-8?QQ?a?="},
		{"cut behind the charset", "=?utf-8?", "=?utf-8?"},
		{"cut behind the encoding", "=?utf-8?Q", "=?utf-8?Q"},
		{"cut in the text", "=?utf-8?Q?a", "=?utf-8?Q?a"},
		{"cut, then a whole one", "=?utf-8?Q =?utf-8?Q?a?=", "=?utf-8?Q a"},
		{"only beginnings", "=?=?=?=?", "=?=?=?=?"},
		{"what is decoded is not decoded again", "=?utf-8?Q?=3D=3Futf-8=3FQ=3Fa=3F=3D?=", "=?utf-8?Q?a?="},
	} {
		if got := DecodeWords(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWordLimits goes up to each limit, where the word is decoded, and one beyond.
func TestWordLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		most int
		make func(n int) string
	}{
		{"charset", maxCharset - 1, func(n int) string { return "=?" + strings.Repeat("x", n) + "?Q?=41?=" }},
		{"word", maxWord - 2, func(n int) string { return "=?utf-8?Q?" + strings.Repeat("x", n-3) + "=41?=" }},
	} {
		if got := DecodeWords(c.make(c.most)); !strings.HasSuffix(got, "A") {
			t.Errorf("%s at the limit: %.80q", c.name, got)
		}
		if in := c.make(c.most + 1); DecodeWords(in) != in {
			t.Errorf("%s beyond the limit: %.80q", c.name, DecodeWords(in))
		}
	}
}

// FuzzText holds that whatever is called a charset gives UTF-8 of bounded length.
func FuzzText(f *testing.F) {
	for _, charset := range []string{"", "utf-8", "us-ascii", "nothing", "iso-2022-jp", "gb18030", "utf-16le", "big5", "replacement"} {
		f.Add(charset, []byte("a\x1b$B\xe9\xff\x00"))
	}
	f.Fuzz(func(t *testing.T, charset string, octets []byte) {
		got := DecodeText(charset, octets)
		if !utf8.ValidString(got) || len(got) > 6*len(octets)+6 {
			t.Fatalf("%q", got)
		}
	})
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
