package mail

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHeaderGet(t *testing.T) {
	h, _, _ := Read(Bytes("Subject: one\r\nX-A: 1\r\nsubject : two\r\nX-Fold:\r\n a\r\n\tb \r\n\r\n"), Limits{})
	for name, want := range map[string]string{"Subject": "one", "SUBJECT": "one", "x-a": "1", "X-Fold": "a\tb", "None": ""} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if all := h.All("Subject"); len(all) != 2 || all[1].Value() != "two" || all[1].Name != "subject" || string(all[1].Raw) != "subject : two\r\n" {
		t.Errorf("%v", all)
	}
	if all := h.All("None"); all != nil {
		t.Error(all)
	}
	var none Header
	if none.Get("Subject") != "" || (Field{}).Value() != "" || (Field{}).Text() != "" {
		t.Error("the zero values are not empty")
	}
}

// TestHeaderAliases holds that fields of content in memory are no copies.
func TestHeaderAliases(t *testing.T) {
	content := []byte("Subject: one\r\n\r\n")
	h, _, _ := Read(Bytes(content), Limits{})
	if &h[0].Raw[0] != &content[0] {
		t.Error("copied")
	}
	if cap(h[0].Raw) != len(h[0].Raw) {
		t.Error("an append would overwrite the content")
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"plain", "hello", "hello"},
		{"utf-8 as it is", "Grüße", "Grüße"},
		{"latin-1 as it is", "Gr\xfc\xdfe", "Grüße"},
		{"adjacent", "=?utf-8?Q?a?= \t =?utf-8?Q?b?= c", "ab c"},
		{"folded", "=?utf-8?Q?a?=\r\n =?utf-8?Q?b?=", "ab"},
		{"charsets differ", "=?utf-8?Q?a?= =?iso-8859-1?Q?=E9?=", "aé"},
		{"split character", "=?utf-8?B?4oI=?= =?UTF-8?Q?=AC?=", "€"},
		{"split by text", "=?utf-8?Q?=E2=82?= x =?UTF-8?Q?=AC?=", "\ufffd x \ufffd"},
		{"shift-jis", "=?shift_jis?B?k/qWew==?=", "日本"},
		{"gb2312", "=?gb2312?B?xOO6ww==?=", "你好"},
		{"koi8", "=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"no longer read", "=?iso-2022-kr?Q?abc?=", "abc"},
		{"utf-8 called ascii", "=?us-ascii?Q?caf=C3=A9?=", "café"},
		{"empty word", "a =?utf-8?Q??= b", "a  b"},
		{"only words", "=?utf-8?Q??=", ""},
		{"no charset", "=??Q?a?=", "=??Q?a?="},
		{"unknown encoding", "=?utf-8?Y?a?=", "=?utf-8?Y?a?="},
		{"word in word", "=?utf-8?Q?=?utf-8?Q?a?=", "=?utf-8?Q?a"},
		{"long charset", "=?" + strings.Repeat("x", 100) + "?Q?a?=", "=?" + strings.Repeat("x", 100) + "?Q?a?="},
		{"controls", "a\tb\x00c\x7fd", "a b\ufffdc\ufffdd"},
		{"c1", "=?utf-8?Q?=C2=85?=", "\ufffd"},
	} {
		got := Field{Name: "X", Raw: []byte("X: " + c.value + "\r\n")}.Text()
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTextBounded(t *testing.T) {
	for _, value := range []string{
		strings.Repeat("x", maxText), strings.Repeat("x", maxText+1), strings.Repeat("\xe9", maxText),
		strings.Repeat("\u20ac", maxText), strings.Repeat("=?iso-8859-1?Q?=E9=E9=E9?=", 10_000),
	} {
		got := Field{Raw: []byte("X: " + value)}.Text()
		if len(got) > maxText || len(got) < maxText/16 || !utf8.ValidString(got) {
			t.Errorf("%.10q: %d octets, valid %v", value, len(got), utf8.ValidString(got))
		}
	}
}

// TestTextCut holds that a text is cut between characters, and is read as what
// it is all the same.
func TestTextCut(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"at the limit", strings.Repeat("x", maxText), strings.Repeat("x", maxText)},
		{"beyond", strings.Repeat("x", maxText+1), strings.Repeat("x", maxText)},
		{"within two octets", "x" + strings.Repeat("é", maxText/2), "x" + strings.Repeat("é", maxText/2-1)},
		{"within three octets", strings.Repeat("€", maxText/3+1), strings.Repeat("€", maxText/3)},
		{"within four octets", "xxx" + strings.Repeat("😀", maxText/4), "xxx" + strings.Repeat("😀", maxText/4-1)},
		{"no UTF-8", strings.Repeat("\x80", maxText+1), strings.Repeat("\ufffd", maxText/3)},
		{"encoded words", strings.Repeat("=?iso-8859-1?Q?"+strings.Repeat("=E9", 1000)+"?=", 25), strings.Repeat("é", 21_000)},
	} {
		got := Field{Raw: []byte("X: " + c.value)}.Text()
		if !strings.HasPrefix(got, c.want) || len(got) > maxText || len(got) > len(c.want)+4000 {
			t.Errorf("%s: %d octets, %.20q … %.20q", c.name, len(got), got, got[max(0, len(got)-20):])
		}
	}
}

func FuzzField(f *testing.F) {
	for _, s := range []string{"X: a\r\n b\r\n", "=?utf-8?Q?a=41?= =?utf-8?B?QUI=?=", "X:=?x?q?\xff?=", ":", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		field := Field{Raw: bytes.Clone(raw)}
		if v := field.Value(); strings.Contains(v, "\n") || len(v) > len(raw) {
			t.Fatalf("value %q", v)
		}
		s := field.Text()
		if !utf8.ValidString(s) || len(s) > maxText || strings.ContainsAny(s, "\r\n\x00\x7f\x1b") {
			t.Fatalf("text %q", s)
		}
		if !bytes.Equal(field.Raw, raw) {
			t.Fatal("changed")
		}
	})
}
