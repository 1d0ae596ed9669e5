package compose

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"postern/gateway/mail"
)

func failed() DSN {
	return DSN{
		ID: "0report", Time: noon, To: mail.Address{Local: "sender", Domain: "example.net"},
		Original:   mail.Bytes("From: sender@example.net\r\nSubject: Hello\r\n\tworld\r\n\r\nbody\r\n"),
		OriginalID: "0abc", MessageID: "<1@example.net>", Arrival: noon.Add(-time.Hour),
		Recipients: []Undelivered{
			{
				Recipient: mail.Address{Local: "nobody", Domain: "example.com"}, Status: "5.1.1",
				Diagnostic: "550 5.1.1 no such user", RemoteMTA: "mail.internal", Last: noon.Add(-time.Minute),
			},
			{Recipient: mail.Address{Local: "a  b", Domain: "example.com"}, Diagnostic: "no answer within 5 days"},
		},
	}
}

func delayed() DSN {
	d := failed()
	d.RetryUntil = noon.Add(24 * time.Hour)
	d.Recipients = d.Recipients[:1]
	d.Recipients[0].Status, d.Recipients[0].Diagnostic = "4.4.1", "connection refused"
	return d
}

func international() DSN {
	d := failed()
	d.To.Local = "rené"
	d.Recipients = []Undelivered{{Recipient: mail.Address{Local: "zoë", Domain: "example.com"}, Status: "5.1.1"}}
	d.Original = mail.Bytes("Subject: \xe9\r\n\r\n")
	return d
}

func TestDSNGolden(t *testing.T) {
	for name, d := range map[string]DSN{"dsn-failed": failed(), "dsn-delayed": delayed(), "dsn-utf8": international()} {
		t.Run(name, func(t *testing.T) {
			c, err := composer.DSN(d)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "testdata/"+name+".want", read(t, c))
		})
	}
}

// report is a DSN as another program reads it.
type report struct {
	header netmail.Header
	types  []string
	parts  []string
}

func readReport(t testing.TB, d DSN) report {
	t.Helper()
	c, err := composer.DSN(d)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, c)
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatal(media, params, err)
	}
	r := report{header: m.Header}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body := io.Reader(p)
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		r.types = append(r.types, p.Header.Get("Content-Type"))
		r.parts = append(r.parts, string(b))
	}
	checkLines(t, text, d.To.ASCII())
	return r
}

// checkLines says that text may travel as it is.
func checkLines(t testing.TB, text string, sevenBit bool) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > maxLine || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %q", line)
		}
	}
	for i := range len(text) {
		if text[i] >= 0x80 && sevenBit {
			t.Fatalf("8-bit octet behind %q", text[:i])
		}
	}
}

func TestDSNIsRead(t *testing.T) {
	r := readReport(t, failed())
	if strings.Join(r.types, "|") != "text/plain; charset=utf-8|message/delivery-status|text/rfc822-headers" {
		t.Errorf("types %q", r.types)
	}
	for name, want := range map[string]string{
		"From": "Mail Delivery System <MAILER-DAEMON@mx.example.com>", "To": "<sender@example.net>",
		"Auto-Submitted": "auto-replied", "In-Reply-To": "<1@example.net>", "Message-Id": "<0report@mx.example.com>",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := r.header.Date(); err != nil {
		t.Error(err)
	}
	groups := strings.Split(r.parts[1], "\r\n\r\n")
	if len(groups) != 3 || !strings.Contains(groups[2], `Final-Recipient: rfc822; "a  b"@example.com`) ||
		!strings.Contains(groups[2], "Status: 5.0.0") || !strings.Contains(groups[2], "Diagnostic-Code: X-Postern; no answer") {
		t.Errorf("groups %q", groups)
	}
	if r.parts[2] != "From: sender@example.net\r\nSubject: Hello\r\n\tworld\r\n" {
		t.Errorf("returned %q", r.parts[2])
	}
}

func TestDSNRefused(t *testing.T) {
	d := failed()
	d.To = mail.Address{}
	if _, err := composer.DSN(d); !errors.Is(err, ErrNullReversePath) {
		t.Error(err)
	}
	d = failed()
	d.Recipients = nil
	if _, err := composer.DSN(d); !errors.Is(err, ErrNoRecipients) {
		t.Error(err)
	}
}

// Nothing that comes from outside begins a line of its own.
func TestDSNHostile(t *testing.T) {
	const evil = "x\r\nEvil: yes\r\n\r\n--=_postern_0report--\r\nEvil: \x00\xff\u2028é"
	d := failed()
	d.OriginalID, d.MessageID = evil, "<"+evil+">"
	d.Original = mail.Bytes("Subject: " + strings.Repeat("x", 2000) + "\r\n--=_postern_0report--\r\n\r\n")
	d.Recipients = []Undelivered{{Recipient: mail.Address{Local: evil, Domain: evil}, Status: evil, Diagnostic: evil, RemoteMTA: evil}}
	r := readReport(t, d)
	if len(r.parts) != 3 || r.header.Get("Evil") != "" || r.header.Get("In-Reply-To") != "" {
		t.Errorf("got %q, %q", r.header, r.parts)
	}
	for _, part := range r.parts[:2] {
		if strings.Contains(part, "\nEvil") {
			t.Errorf("got %q", part)
		}
	}
}

func TestStatus(t *testing.T) {
	for s, want := range map[string]string{
		"5.1.1": "5.1.1", "5.123.999": "5.123.999", "": "5.0.0", "4.1.1": "5.0.0", "5.1": "5.0.0", "5.1.1.1": "5.0.0",
		"5.1.1000": "5.0.0", "5..1": "5.0.0", "5.1.1 ": "5.0.0", "5.a.1": "5.0.0",
	} {
		if got := status(s, '5'); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
	if got := status("4.4.1", '4'); got != "4.4.1" {
		t.Error(got)
	}
}

func TestDiagnosticType(t *testing.T) {
	for s, want := range map[string]string{
		"550 no": "smtp", "421": "smtp", "550-5.1.1 x": "smtp", "5501 x": "X-Postern", "connection refused": "X-Postern",
		"": "X-Postern", "5d": "X-Postern", "999 x": "X-Postern",
	} {
		if got := diagnosticType(s); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestAddressType(t *testing.T) {
	address := mail.Address{Local: "zoë+x", Domain: "example.com"}
	if got := addressType(address, utf8s); got != "utf-8; zoë+x@example.com" {
		t.Error(got)
	}
	if got := addressType(address, ascii); got != `utf-8; zo\x{EB}\x{2B}x@example.com` {
		t.Error(got)
	}
	if got := addressType(mail.Address{Local: "a+b", Domain: "c"}, ascii); got != "rfc822; a+b@c" {
		t.Error(got)
	}
}

func TestMessageID(t *testing.T) {
	for s, want := range map[string]string{
		"<a@b>": "<a@b>", " <a@b>\r\n": "<a@b>", "": "", "a@b": "", "<>": "", "<a b>": "", "<a><b>": "", "<é>": "",
		"<" + strings.Repeat("x", 248) + ">": "<" + strings.Repeat("x", 248) + ">",
		"<" + strings.Repeat("x", 249) + ">": "",
	} {
		if got := messageID(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}

func TestHeaderSection(t *testing.T) {
	line := "X: " + strings.Repeat("x", 95) + "\r\n"
	many := strings.Repeat(line, maxReturned/len(line))
	tests := []struct{ name, content, want string }{
		{"empty", "", ""},
		{"no header", "\r\nbody\r\n\r\n", ""},
		{"usual", "A: b\r\n\r\nbody\r\n\r\n", "A: b\r\n"},
		{"no body", "A: b\r\n", "A: b\r\n"},
		{"no line break", "A: b", ""},
		{"at the limit", many + strings.Repeat("y", maxReturned-len(many)-4) + "\r\n\r\nbody", many + strings.Repeat("y", maxReturned-len(many)-4) + "\r\n"},
		{"beyond the limit", many + strings.Repeat("y", maxReturned-len(many)) + "\r\n\r\nbody", many},
	}
	for _, test := range tests {
		if got := string(headerSection(mail.Bytes(test.content))); got != test.want {
			t.Errorf("%s: %d octets, want %d", test.name, len(got), len(test.want))
		}
	}
	if headerSection(nil) != nil {
		t.Error("of nothing")
	}
}

func TestDiagnosticIsBounded(t *testing.T) {
	for size, want := range map[int]int{maxDiagnostic: maxDiagnostic, maxDiagnostic + 1: maxDiagnostic} {
		d := failed()
		d.Recipients[1].Diagnostic = strings.Repeat("q", size)
		r := readReport(t, d)
		if n := strings.Count(r.parts[1], "q"); n != want {
			t.Errorf("%d of %d", n, size)
		}
	}
}

func TestAlert(t *testing.T) {
	a := Alert{
		ID: "0alert", Time: noon, To: []mail.Address{{Local: "a", Domain: "example.com"}, {Local: "b", Domain: "example.com"}},
		Subject: "80 % of the quarantine is full\r\nX: y", Text: "line\ncafé \u202e\x00x\r\n\xff",
	}
	text := read(t, composer.Alert(a))
	compareGolden(t, "testdata/alert.want", text)
	checkLines(t, text, true)

	a.To[0].Local, a.Subject, a.ID = "zoë", "é", ""
	text = read(t, composer.Alert(a))
	if !strings.Contains(text, "To: <zoë@example.com>, <b@") || !strings.Contains(text, "Subject: =?utf-8?q?=C3=A9?=\r\n") || strings.Contains(text, "<@") {
		t.Errorf("got %q", text)
	}
}

func TestAlertIsBounded(t *testing.T) {
	text := read(t, composer.Alert(Alert{Time: noon, Text: strings.Repeat("z\n", maxAlertText), Subject: strings.Repeat("q", maxSubject+1)}))
	if n := strings.Count(text, "z\r\n"); n != maxAlertText/2 {
		t.Errorf("%d lines", n)
	}
	if n := strings.Count(text, "q"); n > maxSubject+10 {
		t.Errorf("%d octets", n)
	}
}

// FuzzDSN lets anything stand in a report.
func FuzzDSN(f *testing.F) {
	f.Add("a", "5.1.1", "550 x", "mx", []byte("A: b\r\n\r\n"))
	f.Add("a b\r\n", "5.1.1\r\n", "x\r\nX: y", "x y", []byte("\xff\n\r\r\n--=_postern_0report\r\n"))
	f.Fuzz(func(t *testing.T, local, status, diagnostic, mta string, original []byte) {
		d := failed()
		d.Original, d.MessageID = mail.Bytes(original), local
		d.Recipients = []Undelivered{{Recipient: mail.Address{Local: local, Domain: mta}, Status: status, Diagnostic: diagnostic, RemoteMTA: mta}}
		if strings.Contains(string(original), "=_postern_0report") {
			return // the id of a report can't be guessed
		}
		if r := readReport(t, d); len(r.parts) != 3 {
			t.Errorf("%d parts", len(r.parts))
		}
	})
}
