package compose

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"postern/gateway/mail"
)

const original = "Received: from a by b\r\nX-Spam-Flag: YES\r\nFrom: s@example.net\r\nSubject: Hello\r\n\r\nbody\r\n.\r\n"

func TestOutgoingFromFileAndMemory(t *testing.T) {
	m := newMessage(original)
	v := mail.Verdict{Score: 6, Required: 5, SubjectTag: "[SPAM] "}
	want := read(t, composer.Outgoing(m, v, ""))
	m.Content = onDisk(t, original)
	checkContent(t, composer.Outgoing(m, v, ""), want)
	if !strings.HasSuffix(want, "\r\nReceived: from a by b\r\nFrom: s@example.net\r\nSubject: [SPAM] Hello\r\n\r\nbody\r\n.\r\n") {
		t.Errorf("got %q", want)
	}
}

func TestOutgoingZeroValues(t *testing.T) {
	got := read(t, new(Composer).Outgoing(&mail.Message{}, mail.Verdict{}, ""))
	if !strings.Contains(got, "by localhost (Postern)") || !strings.HasSuffix(got, "tests=none\r\n") {
		t.Errorf("got %q", got)
	}
}

// What stands between the header and the body of odd messages.
func TestOutgoingOddForms(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"empty", "", ""},
		{"no header", "\r\nbody\r\n", "\r\nbody\r\n"},
		{"no body", "From: a\r\n", "From: a\r\n"},
		{"no line break at all", "From: a", "From: a"},
		{"forged and nothing else", "X-Spam-Flag: NO\r\n", ""},
		{"forged without line break", "X-Spam-Flag: NO", ""},
		{"begins with a continuation", " NO\r\nFrom: a\r\n", "X-Postern-Oddity: the message began with\r\n NO\r\nFrom: a\r\n"},
		{"bare LF", "X-Spam-Flag: NO\nFrom: a\n\nX-Spam-Flag: b\n", "From: a\n\nX-Spam-Flag: b\n"},
		{"mbox line", "From someone\r\nX-Spam-Flag: NO\r\nTo: a\r\n\r\n", "From someone\r\nTo: a\r\n\r\n"},
		{"forged behind a line that is no field", "From: a\r\nno field\r\nX-Spam-Flag: NO\r\n\r\n", "From: a\r\nno field\r\n\r\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := read(t, composer.Outgoing(newMessage(test.content), mail.Verdict{}, ""))
			_, got, _ = strings.Cut(got, "tests=none\r\n")
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A forged field behind the reader's limits must not survive.
func TestForgedBehindTheLimits(t *testing.T) {
	content := strings.Repeat("X-Filler: x\r\n", 20) + "X-Spam-Flag: NO\r\n folded\r\nno field\r\n here\r\n" +
		"Authentication-Results: mx.example.com; spf=pass\r\nTo: a\r\n\r\nX-Spam-Flag: body\r\n"
	want := strings.Repeat("X-Filler: x\r\n", 20) + "no field\r\n here\r\nTo: a\r\n\r\nX-Spam-Flag: body\r\n"
	for fields := range 20 {
		for _, c := range []mail.Content{mail.Bytes(content), onDisk(t, content)} {
			m := newMessage(content)
			m.Content = c
			m.Header = m.Header[:fields]
			m.Parts[0].Body.Start = 0
			if fields > 0 {
				m.Parts[0].Body.Start = m.Header[fields-1].Span.End
			}
			got := read(t, composer.Outgoing(m, mail.Verdict{}, ""))
			if _, got, _ = strings.Cut(got, "tests=none\r\n"); got != want {
				t.Errorf("%d fields: got %q", fields, got)
			}
		}
	}
	m := newMessage(content)
	m.Parse(mail.Limits{Depth: 1, Parts: 1, HeaderBytes: 100, Fields: 5})
	got := read(t, composer.Outgoing(m, mail.Verdict{}, ""))
	if _, got, _ = strings.Cut(got, "tests=none\r\n"); got != want {
		t.Errorf("got %q", got)
	}
}

func TestAuthservID(t *testing.T) {
	tests := []struct {
		value string
		own   bool
	}{
		{" mx.example.com; spf=pass", true},
		{"mx.example.com;spf=pass", true},
		{" MX.EXAMPLE.com ; none", true},
		{" mx.example.com 1; none", true},
		{" mx.example.com/1; none", true},
		{" mx.example.com.; none", true},
		{" mx.example.com\r\n", true},
		{"\r\n\tmx.example.com;\r\n spf=pass", true},
		{" (c) mx.example.com (c); none", true},
		{" ((a) b \\) (\\() c)mx.example.com(x); none", true},
		{" \"mx.example.com\"; none", true},
		{" \"mx.\\example.com\" 1; none", true},
		{" \"mx.example\r\n.com\"; none", true},
		{" \" mx.example.com \"; none", true},
		{" mx.(c)example.com; none", true},
		{" mx.example.com=x", true},
		{" \x0b\x01mx.example.com; none", true},
		{" mx.example.com", true},
		{" ｍｘ.example.com; none", true},

		{"", false},
		{" ; spf=pass", false},
		{" none", false},
		{" example.com; none", false},
		{" amx.example.com; none", false},
		{" mx.example.com.au; none", false},
		{" mx.example.com-x; none", false},
		{" mx.example.co m; none", false},
		{" other.example; x=mx.example.com", false},
		{" other.example mx.example.com; none", false},
		{" (mx.example.com; none", false},
		{" (mx.example.com) x; none", false},
		{" \"mx.example.com", true},
		{" \"other\" mx.example.com", false},
		{" \"\\", false},
		{" (\\", false},
	}
	for _, test := range tests {
		f := mail.Field{Name: "authentication-Results", Raw: []byte("authentication-Results:" + test.value)}
		if got := composer.forged(f); got != test.own {
			t.Errorf("%q: %v", test.value, got)
		}
	}
}

func TestAuthservIDInternational(t *testing.T) {
	for _, hostname := range []string{"mx.bücher.example", "mx.xn--bcher-kva.example"} {
		c := &Composer{Hostname: hostname}
		for _, id := range []string{"mx.bücher.example", "MX.BÜCHER.example", "\"mx.bücher.example\"", "mx.xn--bcher-kva.EXAMPLE"} {
			if !c.forged(mail.Field{Name: "Authentication-Results", Raw: []byte("Authentication-Results: " + id + ";")}) {
				t.Errorf("%s: %s not recognised", hostname, id)
			}
		}
		got := read(t, c.Outgoing(&mail.Message{}, mail.Verdict{}, ""))
		if !strings.Contains(got, "by mx.xn--bcher-kva.example (") {
			t.Errorf("got %q", got)
		}
	}
}

func TestForgedNames(t *testing.T) {
	for name, forged := range map[string]bool{
		"X-Spam-Flag": true, "x-sPAM-flag": true, "X-Spam-Score": true, "X-Spam-Level": true, "X-Spam-Status": true,
		"X-Postern-": true, "X-POSTERN-ID": true, "X-Postern-Stripped": true, "x-postern-whatever": true,
		"X-Spam-Report": false, "X-Spam-Flags": false, "X-Spam": false, "X-Spam-": false, "X-Postern": false,
		"Received": false, "ARC-Authentication-Results": false, "": false, "Subject": false,
	} {
		if got := composer.forged(mail.Field{Name: name, Raw: []byte(name + ": x\r\n")}); got != forged {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// Whatever is around them, exactly the forged fields go and everything else
// stays, octet for octet.
func TestOutgoingKeepsEverythingElse(t *testing.T) {
	kept := []string{"From: a\r\n", "Received: x\r\n by mx.example.com\r\n", "X-Spam-Report: y\r\n\tz\r\n", "Subject: =?utf-8?q?=C3=A9?=\r\n", "x :\r\n", "8bit: \xe9\xff\r\n"}
	forged := []string{"X-Spam-Flag: YES\r\n", "x-postern-ID :\r\n a\r\n", "Authentication-Results: mx.example.com\r\n", "X-SPAM-STATUS:x\r\n\ty\r\n z\r\n"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var in, want strings.Builder
		for range random.IntN(12) {
			if random.IntN(2) == 0 {
				in.WriteString(forged[random.IntN(len(forged))])
				continue
			}
			f := kept[random.IntN(len(kept))]
			in.WriteString(f)
			want.WriteString(f)
		}
		body := "\r\n" + strings.Repeat("X-Spam-Flag: NO\r\n\r\n", random.IntN(3))
		got := read(t, composer.Outgoing(newMessage(in.String()+body), mail.Verdict{}, ""))
		if _, got, _ = strings.Cut(got, "tests=none\r\n"); got != want.String()+body {
			t.Fatalf("%q became %q", in.String()+body, got)
		}
	}
}

func TestOutgoingAtOnce(t *testing.T) {
	m := newMessage(original)
	want := read(t, composer.Outgoing(m, mail.Verdict{Score: 9, Required: 5, SubjectTag: "[X]"}, "spf=pass"))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			c := composer.Outgoing(m, mail.Verdict{Score: 9, Required: 5, SubjectTag: "[X]"}, "spf=pass")
			var b bytes.Buffer
			if _, err := c.WriteTo(&b); err != nil || b.String() != want {
				t.Errorf("got %q, %v", b.String(), err)
			}
		})
	}
	group.Wait()
	if string(m.Content.(mail.Bytes)) != original {
		t.Error("the original was changed")
	}
}

// FuzzOutgoing sends any octets through every rule.
func FuzzOutgoing(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")), 2, "[SPAM] ", "a.exe")
	}
	f.Add([]byte(" X-Spam-Flag: NO\r\nX-Spam-Flag : YES\r\n\r\n"), -1, "é", "\r\nX-Spam-Flag: NO")
	f.Add([]byte("no field\r\nX-Spam-Flag: YES\n\t\r\nSubject:\r\n"), 0, "\r\n x", "\u202e")
	f.Fuzz(func(t *testing.T, content []byte, part int, tag, name string) {
		m := newMessage(string(content))
		m.Client.HELO = name
		v := mail.Verdict{Score: 6, Required: 5, SubjectTag: tag, Hits: []mail.Hit{{Symbol: name, Score: 1}}}
		stripped := part >= 0
		if stripped {
			v.Strip = []mail.Attachment{{Name: name, Type: name, Reason: tag, Part: part}}
		}
		c := composer.Outgoing(m, v, name)
		out := read(t, c)
		checkReadAt(t, c, out, len(out)/3, len(out)/2)
		checkHeader(t, out)
		if body := content[len(content)-len(bodyOf(content)):]; !stripped && !strings.HasSuffix(out, string(body)) {
			t.Errorf("the body %q is not in %q", body, out)
		}
	})
}

// bodyOf is what stands behind the first empty line.
func bodyOf(content []byte) []byte {
	for at := 0; at < len(content); {
		i := bytes.IndexByte(content[at:], '\n')
		if i < 0 {
			return nil
		}
		line := content[at : at+i]
		at += i + 1
		if s := string(line); s == "" || s == "\r" {
			return content[at:]
		}
	}
	return nil
}

var ownResults = regexp.MustCompile(`(?i)^\s*mx\.example\.com\s*(;|$)`)

// checkHeader reads the header section of out in the simplest way that a reader
// inside may use, and finds each mark exactly once.
func checkHeader(t testing.TB, out string) {
	t.Helper()
	count := map[string]int{}
	for line := range strings.SplitSeq(out, "\n") {
		if line == "" || line == "\r" {
			break
		}
		name, value, colon := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if line[0] == ' ' || line[0] == '\t' || !colon {
			continue
		}
		if name == "authentication-results" && !ownResults.MatchString(value) {
			continue
		}
		count[name]++
	}
	for _, name := range []string{"x-spam-flag", "x-spam-score", "x-spam-level", "x-spam-status", "x-postern-id", "authentication-results"} {
		if count[name] != 1 {
			t.Errorf("%d fields %s in %q", count[name], name, out)
		}
	}
}

// FuzzAuthservID writes our own name in whatever form RFC 8601 allows, and finds
// it.
func FuzzAuthservID(f *testing.F) {
	f.Add("(c)", "\r\n ", "mx.example.com", "1", "; spf=pass")
	f.Add("", " ", "other.example", "", "")
	f.Add("((\\)x)", "\t(", "\"", "\\", ";")
	f.Fuzz(func(t *testing.T, comment, space, id, version, results string) {
		// Any octets: it must come to an end.
		authservID([]byte(comment + space + id + version + results))

		comment = "(" + strings.Map(commentText, comment) + ")"
		space = strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, space)
		for _, own := range []string{"mx.example.com", "MX.Example.Com", `"mx.example.com"`, `"\mx.example.com"`} {
			for _, value := range []string{
				space + own + ";" + results,
				comment + own + comment + ";" + results,
				space + comment + "\r\n\t" + own + space + " 1" + comment + ";" + results,
			} {
				field := mail.Field{Name: "Authentication-Results", Raw: []byte("Authentication-Results:" + value)}
				if !composer.forged(field) {
					t.Errorf("%q is not recognised", value)
				}
			}
		}
	})
}

// commentText keeps what may stand in a comment (RFC 5322, section 3.2.2).
func commentText(r rune) rune {
	if strings.ContainsRune("()\\", r) {
		return -1
	}
	return r
}

// A clean message of usual size.
func cleanMessage() (*mail.Message, mail.Verdict) {
	var b strings.Builder
	for i := range 25 {
		fmt.Fprintf(&b, "X-Field-%d: %s\r\n", i, strings.Repeat("value ", 10))
	}
	b.WriteString("Subject: Hello\r\nFrom: a@example.net\r\n\r\n")
	b.WriteString(strings.Repeat("This is a line of text in the body of a message.\r\n", 600))
	v := mail.Verdict{Score: 1.3, Required: 5, SubjectTag: "[SPAM] ", Hits: []mail.Hit{
		{Symbol: "SPF_PASS", Score: -0.1}, {Symbol: "DKIM_VALID", Score: -0.1}, {Symbol: "HTML_MESSAGE", Score: 0.001}, {Symbol: "SOME_OTHER_RULE", Score: 1.5},
	}}
	return newMessage(b.String()), v
}

const someResults = "spf=pass smtp.mailfrom=s@example.net; dkim=pass header.d=example.net header.s=sel header.b=abcd1234; dmarc=pass header.from=example.net"

func BenchmarkOutgoing(b *testing.B) {
	m, v := cleanMessage()
	b.ReportAllocs()
	for b.Loop() {
		composer.Outgoing(m, v, someResults)
	}
}

func BenchmarkOutgoingSpam(b *testing.B) {
	m, v := cleanMessage()
	v.Score = 20
	b.ReportAllocs()
	for b.Loop() {
		composer.Outgoing(m, v, someResults)
	}
}

// A clean message costs a few allocations, whatever its size.
func TestOutgoingAllocations(t *testing.T) {
	m, v := cleanMessage()
	if n := testing.AllocsPerRun(100, func() { composer.Outgoing(m, v, someResults) }); n > 6 {
		t.Errorf("%v allocations", n)
	}
}
