// Package filtertest holds what tests of filters share: the contract that every
// filter passes (Run), and under the build tag "integration" the real daemons
// that some of them need (StartClamd, StartSpamd).
package filtertest

import (
	"context"
	"io"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/gateway/mail"
)

// Filter is what filters.Filter is, named here so that the tests of filters and
// of the package filters can both use this one.
type Filter interface {
	Check(ctx context.Context, m *mail.Message, earlier []mail.Result) ([]mail.Result, error)
}

// soon is how long a check with a done context may take, on a busy machine.
const soon = 2 * time.Second

// enough is how long any other check may take: a 50 MB message, under the race
// detector.
const enough = 60 * time.Second

// Run holds the filters that make makes to the contract of filters.Filter. An
// engine that a filter needs has to be there, and may be a fake that finds
// nothing.
func Run(t *testing.T, make func() Filter) {
	t.Helper()
	for _, c := range messages {
		t.Run(c.name, func(t *testing.T) { checkOne(t, make(), c.build) })
	}
	t.Run("cancelled", func(t *testing.T) { cancelled(t, make()) })
	t.Run("at once", func(t *testing.T) { atOnce(t, make()) })
}

// checkOne looks whether the filter bears a message and leaves it as it was.
func checkOne(t *testing.T, f Filter, build func() *mail.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	m := build()
	for _, earlier := range [][]mail.Result{nil, someResults()} {
		before := slices.Clone(earlier)
		results, err := f.Check(ctx, m, earlier)
		if err != nil {
			t.Errorf("the filter could not tell: %v", err)
		}
		WellFormed(t, results)
		if !reflect.DeepEqual(earlier, before) {
			t.Error("the filter changed the earlier results")
		}
	}
	if !reflect.DeepEqual(m, build()) {
		t.Error("the filter changed the message")
	}
}

// cancelled looks whether the filter stops when nobody waits any more.
func cancelled(t *testing.T, f Filter) {
	for _, c := range messages {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		m := c.build() // which takes longer than any check
		began := time.Now()
		_, _ = f.Check(ctx, m, nil)
		if took := time.Since(began); took > soon {
			t.Errorf("%s: %v after its context was done", c.name, took)
		}
	}
}

// atOnce runs one filter on one message many times at once, for the race
// detector, and looks whether it says the same each time.
func atOnce(t *testing.T, f Filter) {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	m := usual()
	results := make([][]mail.Result, 16)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			var err error
			if results[i], err = f.Check(ctx, m, nil); err != nil {
				t.Errorf("the filter could not tell: %v", err)
			}
		})
	}
	all.Wait()
	for _, r := range results[1:] {
		if !slices.Equal(symbols(r), symbols(results[0])) {
			t.Errorf("the same message is %q and %q", symbols(results[0]), symbols(r))
		}
	}
	if !reflect.DeepEqual(m, usual()) {
		t.Error("the filter changed the message")
	}
}

func symbols(results []mail.Result) []string {
	var names []string
	for _, r := range results {
		names = append(names, r.Symbol)
	}
	return names
}

var symbol = regexp.MustCompile(`^[A-Za-z0-9_]{0,128}$`)

// Limits of a result's texts in octets, so that logs and records stay readable.
const (
	maxEvidence    = 1024
	maxDescription = 1024
)

// WellFormed holds results to what mail.Result promises.
func WellFormed(t testing.TB, results []mail.Result) {
	t.Helper()
	for _, r := range results {
		switch {
		case !symbol.MatchString(r.Symbol):
			t.Errorf("symbol %q", r.Symbol)
		case r.Symbol == "" && r.HasPoints:
			t.Errorf("points without a symbol: %+v", r)
		case r.Points != 0 && !r.HasPoints:
			t.Errorf("%s has points that it doesn't propose", r.Symbol)
		case r.Fault == mail.FaultEngine:
			t.Errorf("%s: the engine's fault is to be an error, not a result", r.Symbol)
		case r.Fault == mail.FaultMessage && !strings.HasSuffix(r.Symbol, "_LIMIT") && !strings.HasSuffix(r.Symbol, "_UNSCANNABLE"):
			t.Errorf("%q for a message at fault", r.Symbol)
		case len(r.Evidence) > maxEvidence || hasControl(r.Evidence):
			t.Errorf("%s: evidence %.100q", r.Symbol, r.Evidence)
		case len(r.Description) > maxDescription || hasControl(r.Description):
			t.Errorf("%s: description %.100q", r.Symbol, r.Description)
		}
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// messages are what every filter has to bear. Each is built anew at each call:
// two of them are equal as long as nobody changed one.
var messages = []struct {
	name  string
	build func() *mail.Message
}{
	{"nothing known", func() *mail.Message { return &mail.Message{} }},
	{"before the content", func() *mail.Message { m := Message(""); m.Content = nil; return m }},
	{"empty", func() *mail.Message { return Message("") }},
	{"no header", func() *mail.Message { return Message("\r\nonly a body\r\n") }},
	{"no body", func() *mail.Message { return Message("Subject: no body\r\n") }},
	{"usual", usual},
	{"hostile header", func() *mail.Message { return Message(hostile()) }},
	{"50 MB", func() *mail.Message { return withContent(Repeated(50_000_000)) }},
}

func usual() *mail.Message {
	return Message("From: Alice <alice@sender.example>\r\nTo: bob@example.com\r\n" +
		"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\n" +
		"Message-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee https://www.example.com/ for more.\r\n" +
		"--b\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n--b--\r\n")
}

// hostile is a header section of what breaks readers.
func hostile() string {
	long := strings.Repeat("a", 100_000)
	lines := []string{
		"GIF89a: a field whose name is another file's first octets",
		"From: " + long, "From: \"\x00\xff\xfe\" <a@b>", "From", ":", ": no name", "\xe2\x80\xae: right to left",
		"Subject: =?utf-8?B?" + long + "?=", "Subject: =?x?Q?=?=", "Subject: \x1b[2J%s%n\x7f",
		"To: " + strings.Repeat("(", 10_000), "To: " + strings.Repeat("<a@b>,", 10_000),
		"Received: from x by " + long, "Date: 99 Foo 99999 99:99:99 +9999",
		"Message-ID: <" + long, "MIME-Version: 9", "Content-Transfer-Encoding: base64, base64",
		"Content-Type: multipart/mixed; boundary=a; boundary=\"b\"; charset=" + long,
		"Content-Type: text/" + strings.Repeat("html;", 1000), "Content-Length: -1",
		" a continuation of nothing\tand\x0b more", "\t" + long,
	}
	header := strings.Join(lines, "\r\n") + "\r\n" + strings.Repeat("X-Many: field\r\n", 5000)
	return header + "\r\n--b\r\n\r\n--a\r\n\r\n=\r\n--b--\r\n--a--"
}

// Message makes a message of its octets, with an envelope.
func Message(content string) *mail.Message { return withContent(mail.Bytes(content)) }

func withContent(c mail.Content) *mail.Message {
	m := &mail.Message{
		ID:       "0test0000000000000001",
		Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC),
		Client: mail.Client{
			Addr: netip.MustParseAddrPort("198.51.100.7:25000"),
			HELO: "mail.sender.example", ESMTP: true,
		},
		Envelope: mail.Envelope{
			ReversePath: mail.Address{Local: "alice", Domain: "sender.example"},
			Recipients:  []mail.Address{{Local: "bob", Domain: "example.com"}},
		},
		Content: c,
	}
	m.Header, m.Parts, m.Oddity = mail.Read(c, mail.DefaultLimits)
	return m
}

// Repeated is a message of that many octets which takes no memory: a header, and
// lines that all differ.
type Repeated int64

const (
	repeatedHeader = "From: a@sender.example\r\nTo: b@example.com\r\nSubject: long\r\n\r\n"
	lineLength     = 64
)

// Size implements mail.Content.
func (r Repeated) Size() int64 { return int64(r) }

// ReadAt implements mail.Content.
func (r Repeated) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= int64(r) {
		return 0, io.EOF
	}
	if left := int64(r) - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	if off < int64(len(repeatedHeader)) {
		n = copy(p, repeatedHeader[off:])
	}
	for n < len(p) {
		at := off + int64(n) - int64(len(repeatedHeader))
		line := numbered(at / lineLength)
		n += copy(p[n:], line[at%lineLength:])
	}
	return n, err
}

// numbered is a line that begins with its number.
func numbered(number int64) (line [lineLength]byte) {
	copy(line[:], "00000000 the quick brown fox jumps over the lazy dog, again on\r\n")
	for i := 7; number > 0; i-- {
		line[i] = byte('0' + number%10)
		number /= 10
	}
	return line
}

// WriteTo implements mail.Content.
func (r Repeated) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{mail.NewReader(r)})
}

// EICAR is the test file that every virus scanner knows, put together so that
// none takes this source for one.
func EICAR() string {
	return strings.ReplaceAll(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR_STANDARD_ANTIVIRUS_TEST_FILE!$H+H*`, "_", "-")
}

// GTUBE is the test string that every spam filter knows.
func GTUBE() string {
	return strings.ReplaceAll("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE_STANDARD_ANTI_UBE_TEST_EMAIL*C.34X", "_", "-")
}

func someResults() []mail.Result {
	return []mail.Result{
		{Filter: "mailauth", Symbol: "SPF_PASS"},
		{Filter: "rules", Symbol: "MISSING_DATE", Points: 1.2, HasPoints: true},
		{Filter: "clamav", Fault: mail.FaultEngine, Err: io.ErrUnexpectedEOF},
	}
}
