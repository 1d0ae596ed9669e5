package mime

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"
	"testing/iotest"
)

// open decodes body, from memory and from a reader.
func open(t testing.TB, encoding, body string) []byte {
	t.Helper()
	b, err := io.ReadAll(NewBytesReader(encoding, []byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := io.ReadAll(NewReader(encoding, strings.NewReader(body)))
	if err != nil || !bytes.Equal(streamed, b) {
		t.Fatalf("%s %q: %q from memory, %q, %v from a reader", encoding, body, b, streamed, err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ encoding, body, want string }{
		{"", "as it is\r\n", "as it is\r\n"},
		{"8bit", "caf\xe9", "caf\xe9"},
		{"nonsense", "=41", "=41"},
		{"base64", "", ""},
		{"base64", "SGVsbG8=", "Hello"},
		{"base64", "SGVs\r\nbG8=\r\n", "Hello"},
		{"base64", "S\r\nG\r\nV\r\ns", "Hel"},
		{"base64", "SGVsbG8", "Hello"},
		{"base64", "SGVsb", "Hel"},
		{"base64", "SGVsbG8=IHdvcmxk", "Hello world"},
		{"base64", "SGVsbG8===SGVs====", "HelloHel"},
		{"base64", "====", ""},
		{"base64", "S!G\x00V\xffs-b_G8=", "Hello"},
		{"quoted-printable", "a=3Db=3db", "a=b=b"},
		{"quoted-printable", "soft=\r\nbreak", "softbreak"},
		{"quoted-printable", "soft= \t\r\nbreak", "softbreak"},
		{"quoted-printable", "soft=\nbreak=", "softbreak"},
		{"quoted-printable", "blanks \t\r\nand\n", "blanks\r\nand\n"},
		{"quoted-printable", "blanks at the end  ", "blanks at the end"},
		{"quoted-printable", " a  b \tc", " a  b \tc"},
		{"quoted-printable", "=4", "=4"},
		{"quoted-printable", "=4x=x4==41=", "=4x=x4=A"},
		{"quoted-printable", "=\rx \rx\r\r\n", "=\rx \rx\r\r\n"},
		{"quoted-printable", "= x", "= x"},
		{"quoted-printable", strings.Repeat(" ", 300) + "x", strings.Repeat(" ", 300) + "x"},
		{"quoted-printable", "=" + strings.Repeat(" ", 300) + "x", "=" + strings.Repeat(" ", 300) + "x"},
		{"x-uuencode", "begin 644 a\r\n#86)C\r\n`\r\nend\r\nbehind", "abc"},
		{"x-uuencode", "#86)C\n", ""},
		{"x-uuencode", "begin 644 a\n#86)C\nend\n#86)C\nbegin 644 b\n\"86)C\n", "abcab"},
		{"x-uuencode", "begin 644 a\nM86\n", "a`\x00"},
		{"base64", "SGVsbG8=\r\n\r\nSGVs", "HelloHel"},
		{"base64", "S=GVs", "\x19\x5b"},
		{"base64", "SG=Vs", "HV"},
		{"base64", " \t\r\nSGVs \t\r\n", "Hel"},
		{"base64", "A", ""},
		{"BASE64", "SGVs", "SGVs"},
		{"quoted-printable", "", ""},
		{"quoted-printable", "=", ""},
		{"quoted-printable", "=\r\n", ""},
		{"quoted-printable", "==\r\nx", "=x"},
		{"quoted-printable", "=E9=00=0d=0A", "\xe9\x00\r\n"},
		{"quoted-printable", "=4\r\n1", "=4\r\n1"},
		{"quoted-printable", "a\tb \n", "a\tb\n"},
		{"quoted-printable", "a \r b", "a \r b"},
		{"quoted-printable", "\r\n \r\n\n", "\r\n\r\n\n"},
		{"quoted-printable", "caf\xe9\x00", "caf\xe9\x00"},
		{"x-uuencode", "", ""},
		{"x-uuencode", "begin 644 a\nend\n", ""},
		{"x-uuencode", "begin\n#86)C\n", ""},
		{"x-uuencode", "text before\nbegin 644 a\n#86)C\n \nend\n", "abc"},
		{"x-uuencode", "begin 644 a\n!80\n", "a"},
		{"x-uuencode", "begin 644 a\n#86\n", "a`\x00"},
		{"x-uuencode", "begin 644 a\n#\n", ""},
		{"x-uuencode", "begin 644 a\n#86)Cbehind\n", "abc"},
		{"x-uuencode", "begin 644 a\n#86)C\r\r\n", "abc"},
		{"x-uuencode", "begin 644 a\n\n#86)C\n", "abc"},
		{"x-uuencode", "begin 644 a\n#86)C" + strings.Repeat("x", 500) + "\n#86)C", "abcabc"},
	} {
		if got := string(open(t, c.encoding, c.body)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.encoding, c.body, got, c.want)
		}
	}
}

// TestDecodeAsLibrary holds that what a library encoded comes back.
func TestDecodeAsLibrary(t *testing.T) {
	for size := range 200 {
		data := make([]byte, size*17)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		if got := open(t, "base64", lined(base64.StdEncoding.EncodeToString(data))); !bytes.Equal(got, data) {
			t.Fatalf("base64 of %d octets", len(data))
		}
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		w.Binary = true
		_, _ = w.Write(data)
		_ = w.Close()
		if got := open(t, "quoted-printable", b.String()); !bytes.Equal(got, data) {
			t.Fatalf("quoted-printable of %d octets: %q, want %q", len(data), got, data)
		}
	}
}

// TestUUAsWritten holds that what uuencode writes comes back.
func TestUUAsWritten(t *testing.T) {
	for size := range 200 {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		if got := open(t, UUEncode, uuencoded(data)); !bytes.Equal(got, data) {
			t.Fatalf("%d octets: %q, want %q", size, got, data)
		}
	}
}

// uuencoded writes data as uuencode does: 45 octets a line, the digits from
// space on, and "`" for a space.
func uuencoded(data []byte) string {
	var b strings.Builder
	digit := func(v byte) {
		if v &= 0x3f; v == 0 {
			v = '`' - ' '
		}
		b.WriteByte(v + ' ')
	}
	b.WriteString("begin 644 name\n")
	for len(data) > 0 {
		line := data[:min(45, len(data))]
		data = data[len(line):]
		digit(byte(len(line)))
		for len(line) > 0 {
			var o [3]byte
			line = line[copy(o[:], line):]
			digit(o[0] >> 2)
			digit(o[0]<<4 | o[1]>>4)
			digit(o[1]<<2 | o[2]>>6)
			digit(o[2])
		}
		b.WriteByte('\n')
	}
	return b.String() + "`\nend\n"
}

// lined breaks s into lines as mailers do.
func lined(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

// TestReads holds that the size of the reads makes no difference.
func TestReads(t *testing.T) {
	body := lined(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("some octets "), 5000)))
	for name, reader := range map[string]func(encoding string) io.Reader{
		"memory": func(encoding string) io.Reader { return NewBytesReader(encoding, []byte(body)) },
		"reader": func(encoding string) io.Reader { return NewReader(encoding, strings.NewReader(body)) },
		"slow": func(encoding string) io.Reader {
			return NewReader(encoding, iotest.HalfReader(strings.NewReader(body)))
		},
	} {
		for _, encoding := range []string{"base64", "quoted-printable", "x-uuencode", "binary"} {
			want, err := io.ReadAll(reader(encoding))
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 2, 79, 80, 81, 160, 319, 320, 321, 1000} {
				got, err := readIn(reader(encoding), size)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s from %s in reads of %d: %d octets, not %d; %v", encoding, name, size, len(got), len(want), err)
				}
			}
			if err := iotest.TestReader(reader(encoding), want); err != nil {
				t.Error(encoding, err)
			}
		}
	}
}

func readIn(r io.Reader, size int) (all []byte, err error) {
	buf := make([]byte, size)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestReaderError(t *testing.T) {
	broken := errors.New("broken")
	for _, encoding := range []string{"base64", "quoted-printable", "x-uuencode", "7bit"} {
		src := io.MultiReader(strings.NewReader(strings.Repeat("QUJD", 10_000)), iotest.ErrReader(broken))
		if _, err := io.ReadAll(NewReader(encoding, src)); !errors.Is(err, broken) {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

// nothing is a reader that never comes to its end.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// TestReaderStuck holds that a source that gives nothing is not asked for ever.
func TestReaderStuck(t *testing.T) {
	if _, err := io.ReadAll(NewReader(Base64, nothing{})); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

func TestReadNothing(t *testing.T) {
	for _, encoding := range []string{"base64", "quoted-printable", "x-uuencode", "7bit", ""} {
		r := NewBytesReader(encoding, []byte("QUJD"))
		if n, err := r.Read(nil); n != 0 || err != nil {
			t.Errorf("%s: %d %v into nothing", encoding, n, err)
		}
		if n, err := NewBytesReader(encoding, nil).Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: %d %v of nothing", encoding, n, err)
		}
	}
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "SGVsbG8=", "SGVs\r\nbG8=", "S=G=V=s", "SGVs!bG8", "===="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := open(t, "base64", string(body))
		if len(got) > len(body)/4*3+len(body)%4 {
			t.Fatalf("%d octets of %d", len(got), len(body))
		}
		if want, err := base64.StdEncoding.DecodeString(string(body)); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
		sameInPieces(t, "base64", body, got)
	})
}

func FuzzQuotedPrintable(f *testing.F) {
	for _, s := range []string{"", "a=3D", "a=\r\nb", "a= \t\nb ", "==41", "=4", " \r\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := open(t, "quoted-printable", string(body))
		if len(got) > len(body) {
			t.Fatalf("%d octets of %d", len(got), len(body))
		}
		sameInPieces(t, "quoted-printable", body, got)
	})
}

func FuzzUU(f *testing.F) {
	f.Add([]byte("begin 644 a\n#86)C\n`\nend\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := open(t, "x-uuencode", string(body))
		if len(got) > len(body) {
			t.Fatalf("%d octets of %d", len(got), len(body))
		}
		sameInPieces(t, "x-uuencode", body, got)
	})
}

// sameInPieces decodes octet by octet.
func sameInPieces(t *testing.T, encoding string, body, want []byte) {
	d := newDecoder(encoding)
	var got []byte
	var buf [1 + slack]byte
	for _, c := range body {
		got = append(got, buf[:d.decode(buf[:], []byte{c})]...)
	}
	got = append(got, buf[:d.end(buf[:])]...)
	if !bytes.Equal(got, want) {
		t.Fatalf("octet by octet %q, at once %q", got, want)
	}
}
