package mime

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// checker is what both checks are.
type checker interface {
	Line(text []byte, ends bool) []byte
	End() []byte
}

// findings gives a body to a check, line by line, each cut into pieces of at most
// size octets, and joins what it finds by "|".
func findings(c checker, body string, size int) string {
	var found []string
	tell := func(fault []byte) {
		if fault != nil {
			found = append(found, string(fault))
		}
	}
	for line := range strings.SplitSeq(body, "\n") {
		for len(line) > size {
			tell(c.Line([]byte(line[:size]), false))
			line = line[size:]
		}
		tell(c.Line([]byte(line), true))
	}
	tell(c.End())
	return strings.Join(found, "|")
}

func TestBase64Check(t *testing.T) {
	long := strings.Repeat("QUJD", 1000)
	for _, c := range []struct{ name, body, fault string }{
		{"empty", "", ""},
		{"one line", "SGVsbG8=", ""},
		{"two lines", "SGVs\nbG8=\n", ""},
		{"lines that end within a group", "S\nGV\nsbG8\n=", ""},
		{"two pads", "SGVsbA==", ""},
		{"pads on a line of their own", "SGVsbA\n==\n", ""},
		{"blanks", " SGVs \n\t\n bG8= \r\n\n", ""},
		{"many groups", long + "\n" + long + "\n", ""},
		{"no pad", "SGVsbG8", "length"},
		{"one digit more", long + "A", "length"},
		{"one pad of two", "SGVsbA=", "length"},
		{"one pad more", "SGVsbG8==", "length"},
		{"only pads", "====", "length"},
		{"a group of pads", "SGVs====", "length"},
		{"three pads", "SGVsb===", "length"},
		{"digits behind a pad", "SGVsbG8=IHdvcmxk", "IHdvcmxk"},
		{"digits behind a pad, on the next line", "SGVsbG8=\nIHdvcmxk", "IHdvcmxk"},
		{"two bodies in one", "SGVsbA==\nSGVsbA==\n", "SGVsbA=="},
		{"blank, then digits behind a pad", "SGVsbG8= \t IHdv", "IHdv"},
		{"junk", "SGVs*bG8=", "*bG8="},
		{"junk on its own line", "SGVs\n-- \nbG8=", "-- "},
		{"the other alphabet", "SGVs-_==", "-_=="},
		{"NUL", "SGVs\x00bG8=", "\x00bG8="},
		{"8 bit", "SGVs\xe9bG8=", "\xe9bG8="},
		{"form feed", "SGVs\fbG8=", "\fbG8="},
		{"junk behind the end", "SGVsbG8=\n.", "."},
		{"told once", "*\n*\n*", "*"},
		{"told once, and nothing of the length", "A*A*", "*A*"},
	} {
		if got := findings(&Base64Check{}, c.body, 1<<20); got != c.fault {
			t.Errorf("%s: %q, want %q", c.name, got, c.fault)
		}
		for _, size := range []int{1, 2, 3, 7, 100} { // where a line is cut makes no difference
			if got := findings(&Base64Check{}, c.body, size); (got == "") != (c.fault == "") || !strings.HasPrefix(c.fault, got) {
				t.Errorf("%s, in pieces of %d: %q, want %q", c.name, size, got, c.fault)
			}
		}
	}
}

func TestQuotedPrintableCheck(t *testing.T) {
	for _, c := range []struct{ name, body, fault string }{
		{"empty", "", ""},
		{"no sign", "text", ""},
		{"octets", "a=3Db=3db=E9", ""},
		{"soft line break", "a=\nb", ""},
		{"soft line break and blanks", "a= \t\nb", ""},
		{"soft line break at the end", "a=", ""},
		{"one digit", "a=4", "4"},
		{"one digit before a line break", "a=4\nb", "4"},
		{"no digits", "a=xyz", "xyz"},
		{"one digit, then none", "a=4xyz", "4xyz"},
		{"blank before text", "a= b", " b"},
		{"two signs", "a==41", "=41"},
		{"behind good ones", "=41=42=4 =43", "4 =43"},
		{"told once", "=x\n=x\n", "x"},
	} {
		if got := findings(&QuotedPrintableCheck{}, c.body, 1<<20); got != c.fault {
			t.Errorf("%s: %q, want %q", c.name, got, c.fault)
		}
		for size := 1; size < 6; size++ { // a cut may hide a fault, but makes none
			if got := findings(&QuotedPrintableCheck{}, c.body, size); got != "" && c.fault == "" {
				t.Errorf("%s, in pieces of %d: %q", c.name, size, got)
			}
		}
	}
}

// FuzzBase64Check holds that the check finds a fault exactly where the library
// does not decode, wherever lines are cut.
func FuzzBase64Check(f *testing.F) {
	for _, s := range []string{"", "SGVsbG8=", "SGVs\nbG8=\n", "SG Vs\tbG\r\n8=", "SGVsbG8", "SGVsbA==SGVs", "====", "S*G=", "A\x00"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, body string, size int) {
		size = 1 + size&0xff
		whole, cut := findings(&Base64Check{}, body, 1<<20), findings(&Base64Check{}, body, size)
		if (whole == "") != (cut == "") {
			t.Fatalf("whole %q, in pieces of %d %q", whole, size, cut)
		}
		packed := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(body)
		decoded, err := base64.StdEncoding.DecodeString(packed)
		if (err == nil) != (whole == "") {
			t.Fatalf("found %q, the library says %v", whole, err)
		}
		if got := open(t, Base64, body); err == nil && !bytes.Equal(got, decoded) {
			t.Fatalf("%q, the library says %q", got, decoded)
		}
	})
}

// FuzzQuotedPrintableCheck holds that cutting lines invents no fault, and that a
// body without one decodes to no more "=" than it encodes.
func FuzzQuotedPrintableCheck(f *testing.F) {
	for _, s := range []string{"", "a=3D", "a=\nb", "a= \t\nb ", "==41", "=4", "= x", "=3D=3D=x"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, body string, size int) {
		size = 1 + size&0xff
		whole, cut := findings(&QuotedPrintableCheck{}, body, 1<<20), findings(&QuotedPrintableCheck{}, body, size)
		if cut != "" && whole == "" {
			t.Fatalf("in pieces of %d: %q", size, cut)
		}
		if strings.Contains(body, "\r") {
			return // a CR within a line is white space to the decoder
		}
		encoded := strings.Count(strings.ToUpper(body), "=3D")
		// The line break ends a soft one, which the check takes for granted.
		if got := bytes.Count(open(t, QuotedPrintable, body+"\n"), []byte("=")); whole == "" && got != encoded {
			t.Fatalf("%d signs decoded, %d encoded", got, encoded)
		}
	})
}
