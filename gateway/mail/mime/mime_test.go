package mime

import (
	"strings"
	"testing"
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

func TestParseMediaType(t *testing.T) {
	for _, c := range []struct {
		word, media string
		ok          bool
	}{
		{"text/plain", "text/plain", true},
		{"TEXT/Html", "text/html", true},
		{"application/vnd.x+y-z.1", "application/vnd.x+y-z.1", true},
		{"x-thing/x", "x-thing/x", true},
		{"", "", false},
		{"/", "", false},
		{"/plain", "", false},
		{"text/", "text/plain", false},
		{"text", "text/plain", false},
		{"PLAIN", "text/plain", false},
		{"html", "text/html", false},
		{"image", "application/octet-stream", false},
		{"application/", "application/octet-stream", false},
		{"font", "application/octet-stream", false},
		{"message", "", false},
		{"message/", "", false},
		{"nothing", "", false},
		{"x/y/z", "", false},
		{"te xt/plain", "", false},
		{"text/pl\x00ain", "", false},
		{"text/pl\xe9in", "", false},
		{"text/plain\x7f", "", false},
		{"a/b=c", "", false},
		{`"text/plain"`, "", false},
		{"<text/plain>", "", false},
		{"multipart", "multipart/mixed", false},
		{"Multipart/", "multipart/mixed", false},
		{"multipart/x/y", "multipart/mixed", false},
		{"multipart/<mixed>", "multipart/mixed", false},
		{"multiparts/<mixed>", "", false},
	} {
		if media, ok := ParseMediaType(c.word); media != c.media || ok != c.ok {
			t.Errorf("%q: %q %v, want %q %v", c.word, media, ok, c.media, c.ok)
		}
	}
}

func TestParseEncoding(t *testing.T) {
	for _, c := range []struct{ value, encoding, faults string }{
		{"7bit", "7bit", ""},
		{"8bit", "8bit", ""},
		{"binary", "binary", ""},
		{"base64", "base64", ""},
		{"Quoted-Printable", "quoted-printable", ""},
		{"BASE64", "base64", ""},
		{"x-uuencode", "x-uuencode", ""},
		{"uuencode", "x-uuencode", ""},
		{"x-uue", "x-uuencode", ""},
		{"UUE", "x-uuencode", ""},
		{"7-bit", "7bit", ""},
		{"8-Bit", "8bit", ""},
		{`"base64"`, "base64", ""},
		{"base64 (as ever)", "base64", ""},
		{"(as ever) base64", "base64", ""},
		{"base64;", "base64", "encoding"},
		{"base64; x=y", "base64", "encoding"},
		{"base64 quoted-printable", "base64", "encoding"},
		{"base64, 7bit", "base64", "encoding"},
		{"base64 (as ever", "base64", "encoding"},
		{"base64=", "", "encoding unknown"},
		{"", "", "unknown"},
		{"rot13", "rot13", "unknown"},
		{"base-64", "base-64", "unknown"},
		{"X y", "x", "encoding unknown"},
	} {
		encoding, faults := ParseEncoding(c.value)
		if encoding != c.encoding || kindNames(faults) != c.faults {
			t.Errorf("%q: %q %v", c.value, encoding, faults)
		}
		for _, f := range faults {
			if f.Evidence != c.value {
				t.Errorf("%q: the evidence is %q", c.value, f.Evidence)
			}
		}
	}
}

func TestEncoded(t *testing.T) {
	for encoding, want := range map[string]bool{
		Base64: true, QuotedPrintable: true, UUEncode: true,
		"": false, "7bit": false, "binary": false, "BASE64": false, "rot13": false,
	} {
		if Encoded(encoding) != want || (newDecoder(encoding) != nil) != want {
			t.Errorf("%q: %v", encoding, !want)
		}
	}
}

func FuzzEncoding(f *testing.F) {
	for _, s := range []string{"base64", `"7-bit" (x)`, "x / y", "base64;", "((((", "=", "multipart/x/y", "TEXT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoding, faults := ParseEncoding(s)
		if len(faults) > 2 || strings.ContainsAny(encoding, " \t;,") || encoding != strings.ToLower(encoding) {
			t.Fatalf("%q %v", encoding, faults)
		}
		if again, more := ParseEncoding(encoding); len(faults) == 0 && (again != encoding || len(more) != 0) {
			t.Fatalf("%q became %q, then %q", s, encoding, again)
		}
		media, ok := ParseMediaType(s)
		if again, still := ParseMediaType(media); media != "" && (again != media || !still) || ok && media == "" {
			t.Fatalf("%q became %q, then %q", s, media, again)
		}
	})
}
