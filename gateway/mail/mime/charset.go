package mime

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
)

// DecodeText is b in UTF-8. It never fails: a charset that is not known, or
// that is named wrongly over valid UTF-8, is read as UTF-8 where that is valid
// and as Latin-1 otherwise.
func DecodeText(name string, b []byte) string {
	if isUTF8(name) {
		if utf8.Valid(b) {
			return string(b)
		}
		if name != "" {
			return strings.ToValidUTF8(string(b), "\ufffd")
		}
		return latin1(b)
	}
	// "replacement" is what browsers take for charsets that they no longer read.
	encoding, canonical := charset.Lookup(name)
	if encoding == nil || canonical == "replacement" {
		return DecodeText("", b)
	}
	if strings.EqualFold(name, "us-ascii") && utf8.Valid(b) {
		return string(b)
	}
	decoded, err := encoding.NewDecoder().Bytes(b)
	if err != nil {
		return latin1(b)
	}
	return string(decoded)
}

func isUTF8(name string) bool {
	return name == "" || strings.EqualFold(name, "utf-8") || strings.EqualFold(name, "utf8")
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}
