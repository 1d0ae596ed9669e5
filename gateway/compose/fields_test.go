package compose

import (
	"math"
	"mime"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// added is what Outgoing puts on top for v.
func added(t testing.TB, v mail.Verdict) mail.Header {
	t.Helper()
	m := newMessage("")
	h, _, _ := mail.Read(mail.Bytes(read(t, composer.Outgoing(m, v, ""))), mail.DefaultLimits)
	return h
}

func TestScoreAndThreshold(t *testing.T) {
	tests := []struct {
		score, required          float64
		flag, value, stars, need string
	}{
		{0, 5, "NO", "0.0", "", "5.0"},
		{math.Copysign(0, -1), 5, "NO", "0.0", "", "5.0"},
		{-0.04, 5, "NO", "0.0", "", "5.0"},
		{-7.25, 5, "NO", "-7.3", "", "5.0"},
		{0.99, 5, "NO", "1.0", "", "5.0"},
		{1, 5, "NO", "1.0", "*", "5.0"},
		{4.96, 5, "NO", "4.9", "****", "5.0"}, // never "No, score=5.0 required=5.0"
		{5, 5, "YES", "5.0", "*****", "5.0"},
		{5.04, 5.05, "NO", "5.0", "*****", "5.05"},
		{7.3, 5, "YES", "7.3", "*******", "5.0"},
		{50, 5, "YES", "50.0", strings.Repeat("*", 50), "5.0"},
		{51, 5, "YES", "51.0", strings.Repeat("*", 50), "5.0"},
		{1000, 6.31, "YES", "1000.0", strings.Repeat("*", 50), "6.31"},
		{7.3, 0, "NO", "7.3", "*******", "0.0"}, // 0 is never
		{math.NaN(), 5, "NO", "0.0", "", "5.0"},
		{math.Inf(1), 5, "YES", "99999.0", strings.Repeat("*", 50), "5.0"},
	}
	for _, test := range tests {
		h := added(t, mail.Verdict{Score: test.score, Required: test.required})
		word := map[string]string{"YES": "Yes", "NO": "No"}[test.flag]
		for name, want := range map[string]string{
			"X-Spam-Flag": test.flag, "X-Spam-Score": test.value, "X-Spam-Level": test.stars,
			"X-Spam-Status": word + ", score=" + test.value + " required=" + test.need + " tests=none",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%v of %v: %s: %q, want %q", test.score, test.required, name, got, want)
			}
		}
	}
}

func TestStatusTests(t *testing.T) {
	tests := []struct {
		name string
		hits []mail.Hit
		want string
	}{
		{"none", nil, "none"},
		{"informing only", []mail.Hit{{Symbol: "A"}, {Score: 1}}, "none"},
		{
			"weights",
			[]mail.Hit{{Symbol: "A", Score: 1}, {Symbol: "B", Score: -1.25}, {Symbol: "C", Score: 0.001}, {Symbol: "D", Score: 0.0001}, {Symbol: "E", Score: 0.1 + 0.2}},
			"A=1.0,B=-1.25,C=0.001,D=0.0,E=0.3",
		},
		{"hostile", []mail.Hit{{Symbol: "A,B=9\r\nX-Spam-Flag: NO", Score: 1}}, "A?B?9??X-Spam-Flag:?NO=1.0"},
	}
	for _, test := range tests {
		value := added(t, mail.Verdict{Hits: test.hits, Required: 5}).Get("X-Spam-Status")
		if _, got, _ := strings.Cut(value, "tests="); strings.ReplaceAll(got, "\t", "") != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

func TestStatusIsFolded(t *testing.T) {
	for size := 1; size <= 100; size++ {
		var hits []mail.Hit
		for range 40 {
			hits = append(hits, mail.Hit{Symbol: strings.Repeat("N", size), Score: 1.5})
		}
		status := added(t, mail.Verdict{Hits: hits, Required: 5}).All("X-Spam-Status")[0]
		for line := range strings.SplitSeq(strings.TrimSuffix(string(status.Raw), "\r\n"), "\r\n") {
			if len(line) > foldAt && size < 60 || len(line) > maxLine || strings.TrimSpace(line) == "" {
				t.Errorf("a line of %d octets: %q", len(line), line)
			}
		}
		if n := strings.Count(strings.ReplaceAll(status.Value(), "\t", ""), strings.Repeat("N", size)+"=1.5"); n != 40 {
			t.Errorf("%d of 40 tests in %q", n, status.Value())
		}
	}
}

func TestReceived(t *testing.T) {
	tests := []struct {
		name   string
		change func(*mail.Message)
		want   string
	}{
		{"usual", func(*mail.Message) {}, "from client.example.net ([192.0.2.7])|by mx.example.com (Postern) with ESMTPS id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000"},
		{
			"no name, no TLS, HELO", func(m *mail.Message) { m.Client.HELO, m.Client.TLS, m.Client.ESMTP = "", "", false },
			"from unknown ([192.0.2.7])|by mx.example.com (Postern) with SMTP id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000",
		},
		{"literals", func(m *mail.Message) {
			m.Client.HELO, m.Client.Addr = "[IPv6:2001:db8::2]", netip.MustParseAddrPort("[2001:db8::1]:25")
		}, "from [IPv6:2001:db8::2] ([IPv6:2001:db8::1])|by mx.example.com (Postern) with ESMTPS id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000"},
		{
			"IPv4 in IPv6", func(m *mail.Message) { m.Client.Addr = netip.MustParseAddrPort("[::ffff:192.0.2.1]:25") },
			"from client.example.net ([192.0.2.1])|by mx.example.com (Postern) with ESMTPS id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000",
		},
		{
			"zone", func(m *mail.Message) { m.Client.Addr = netip.MustParseAddrPort("[fe80::1%eth0]:25") },
			"from client.example.net ([IPv6:fe80::1])|by mx.example.com (Postern) with ESMTPS id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000",
		},
		{
			"no address", func(m *mail.Message) { m.Client.Addr = netip.AddrPort{} },
			"from client.example.net|by mx.example.com (Postern) with ESMTPS id 0abc|for <r@example.com>; Sun, 22 Nov 2026 12:00:00 +0000",
		},
		{"two recipients", func(m *mail.Message) {
			m.Envelope.Recipients = append(m.Envelope.Recipients, mail.Address{Local: "x", Domain: "example.com"})
		}, "from client.example.net ([192.0.2.7])|by mx.example.com (Postern) with ESMTPS id 0abc;|Sun, 22 Nov 2026 12:00:00 +0000"},
		{"SMTPUTF8", func(m *mail.Message) {
			m.Envelope.SMTPUTF8, m.Envelope.Recipients = true, []mail.Address{{Local: "rené", Domain: "example.com"}}
		}, "from client.example.net ([192.0.2.7])|by mx.example.com (Postern) with UTF8SMTPS id 0abc|for <rené@example.com>; Sun, 22 Nov 2026 12:00:00 +0000"},
		{
			"hostile recipient", func(m *mail.Message) {
				m.Envelope.Recipients = []mail.Address{{Local: "a\r\nX: y", Domain: "b\xff\nc"}}
			},
			"from client.example.net ([192.0.2.7])|by mx.example.com (Postern) with ESMTPS id 0abc|for <\"a  X: y\"@b? c>; Sun, 22 Nov 2026 12:00:00 +0000",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMessage("")
			test.change(m)
			want := "Received: " + strings.ReplaceAll(test.want, "|", "\r\n\t") + "\r\n"
			if got := string(composer.appendReceived(nil, m)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestHELOIsBounded(t *testing.T) {
	for size, want := range map[int]int{maxHELO: maxHELO, maxHELO + 1: maxHELO} {
		m := newMessage("")
		m.Client.HELO = strings.Repeat("q", size)
		if n := strings.Count(string(composer.appendReceived(nil, m)), "q"); n != want {
			t.Errorf("%d of %d", n, size)
		}
	}
}

func TestResults(t *testing.T) {
	long := strings.Repeat("x", maxWord)
	tests := []struct{ name, auth, want string }{
		{"none", "", " none"},
		{"none of words", " ;\r\n\t; \u200b", " none"},
		{"a result without words", "a;\u200b", "\r\n\ta;"},
		{"white space", "\r\n\t", " none"},
		{"one", "spf=pass", "\r\n\tspf=pass"},
		{"two, folded", "spf=pass\r\n\tsmtp.mailfrom=a;\r\n dkim=none", "\r\n\tspf=pass smtp.mailfrom=a;\r\n\tdkim=none"},
		{"injection", "spf=pass\nX-Spam-Flag: NO\r\r\n\r\nbody", "\r\n\tspf=pass X-Spam-Flag: NO body"},
		{"not ASCII", "spf=pass smtp.mailfrom=é\xff", "\r\n\tspf=pass smtp.mailfrom=??"},
		{"long word", "spf=" + long, "\r\n\tspf=" + long[4:]},
		{"long", strings.Repeat("word ", 20), "\r\n\t" + strings.Repeat("word ", 14) + "word\r\n\tword word word word word"},
	}
	for _, test := range tests {
		if got := string(appendResults(nil, test.auth, ascii)); got != test.want+"\r\n" {
			t.Errorf("%s: got %q", test.name, got)
		}
	}
	if got := string(appendResults(nil, "smtp.mailfrom=é\xff", utf8s)); got != "\r\n\tsmtp.mailfrom=é?\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestResultsAreBounded(t *testing.T) {
	one := "dkim=pass header.d=example.com;"
	for _, n := range []int{maxAuth / len(one), maxAuth/len(one) + 1, 10 * maxAuth / len(one)} {
		got := string(appendResults(nil, strings.Repeat(one, n), ascii))
		if len(got) > maxAuth*11/10 || strings.Count(got, "dkim=pass header.d=example.com") != min(n, maxAuth/len(one)) {
			t.Errorf("%d results: %d octets", n, len(got))
		}
	}
	if got := string(appendResults(nil, strings.Repeat("x", maxAuth+1), ascii)); got != " none\r\n" {
		t.Errorf("got %d octets", len(got))
	}
}

// typeParam holds a slash without quotes, for people to read.
var typeParam = regexp.MustCompile(` type=[a-z/-]+;`)

func TestStripped(t *testing.T) {
	tests := []struct {
		a    mail.Attachment
		want string
	}{
		{mail.Attachment{Name: "a.exe", Type: "application/x-dosexec", Reason: "a program"}, `name="a.exe"; type=application/x-dosexec; reason="a program"`},
		{mail.Attachment{}, `name="unnamed"; type=application/octet-stream; reason=""`},
		{mail.Attachment{Name: `a"\b`, Type: "Text/HTML; charset=x", Reason: "é"}, `name="a\"\\b"; type=text/html; reason*=utf-8''%C3%A9`},
		{mail.Attachment{Name: "a\r\nX-Spam-Flag: NO\x00\u202e", Type: "a\r\nb/c"}, `name="a  X-Spam-Flag: NO"; type=application/octet-stream; reason=""`},
		{mail.Attachment{Name: "rené\u2028%.exe", Type: "text"}, `name*=utf-8''ren%C3%A9%20%25.exe; type=application/octet-stream; reason=""`},
		{mail.Attachment{Name: "\xff", Type: strings.Repeat("a", 127) + "/b"}, `name="?"; type=application/octet-stream; reason=""`},
	}
	for _, test := range tests {
		h := added(t, mail.Verdict{Strip: []mail.Attachment{test.a}})
		got := strings.ReplaceAll(h.Get("X-Postern-Stripped"), "\t", " ")
		if got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		_, params, err := mime.ParseMediaType("x/y; " + typeParam.ReplaceAllString(got, ""))
		if err != nil || params["name"] != displayName(test.a) {
			t.Errorf("%q is read as %v, %v", got, params, err)
		}
	}
}

func TestStrippedIsBounded(t *testing.T) {
	long := mail.Attachment{Name: strings.Repeat("é", maxName), Reason: strings.Repeat("€", maxReason), Type: strings.Repeat("a", 60) + "/" + strings.Repeat("b", 60)}
	for _, n := range []int{maxStripped, maxStripped + 1, maxStripped + 17} {
		strip := make([]mail.Attachment, n)
		for i := range strip {
			strip[i] = long
		}
		out := read(t, composer.Outgoing(newMessage(""), mail.Verdict{Strip: strip}, ""))
		for line := range strings.SplitSeq(out, "\r\n") {
			if len(line) > maxLine {
				t.Errorf("a line of %d octets", len(line))
			}
		}
		if got := strings.Count(out, "X-Postern-Stripped: name"); got != maxStripped {
			t.Errorf("%d fields for %d", got, n)
		}
		more := strings.Contains(out, "X-Postern-Stripped: more=")
		if more != (n > maxStripped) || n > maxStripped+1 && !strings.Contains(out, "more=17\r\n") {
			t.Errorf("%d: the rest is not counted", n)
		}
	}
}

func TestSubject(t *testing.T) {
	long := strings.Repeat("x", maxLine-len("Subject: "))
	tests := []struct{ name, tag, field, want string }{
		{"usual", "[SPAM] ", "Subject: a b", "Subject: [SPAM] a b"},
		{"no space", "[SPAM] ", "Subject:a", "Subject: [SPAM] a"},
		{"white space before the colon", "[SPAM] ", "SUBJECT \t: a", "SUBJECT \t: [SPAM] a"},
		{"tag without space", "***", "Subject: a", "Subject: *** a"},
		{"empty", "[SPAM] ", "Subject:", "Subject: [SPAM]"},
		{"blank", "[SPAM] ", "Subject: ", "Subject: [SPAM] "},
		{"folded", "[SPAM] ", "Subject: a\r\n b", "Subject: [SPAM] a\r\n b"},
		{"folded at once", "[SPAM] ", "Subject:\r\n\ta", "Subject: [SPAM]\r\n\ta"},
		{"folded behind a space", "[SPAM] ", "Subject: \r\n a", "Subject: [SPAM] \r\n a"},
		{"encoded", "[SPAM] ", "Subject: =?utf-8?b?w6k=?=", "Subject: [SPAM] =?utf-8?b?w6k=?="},
		{"encoded, no space", "[SPAM] ", "Subject:=?utf-8?b?w6k=?=", "Subject: [SPAM] =?utf-8?b?w6k=?="},
		{"encoded, folded", "[SPAM] ", "Subject:\r\n =?utf-8?b?w6k=?=", "Subject: [SPAM]\r\n =?utf-8?b?w6k=?="},
		{"raw octets", "[SPAM] ", "Subject: \xe9\xff", "Subject: [SPAM] \xe9\xff"},
		{"there already", "[SPAM] ", "Subject: [SPAM] a", "Subject: [SPAM] a"},
		{"there already, encoded", "[SPAM] ", "Subject:\r\n =?utf-8?q?=5BSPAM=5D_?= =?utf-8?b?w6k=?=", "Subject:\r\n =?utf-8?q?=5BSPAM=5D_?= =?utf-8?b?w6k=?="},
		{"in other letters", "[SPAM] ", "Subject: [spam] a", "Subject: [SPAM] [spam] a"},
		{"not at the start", "[SPAM] ", "Subject: Re: [SPAM] a", "Subject: [SPAM] Re: [SPAM] a"},
		{"tag to be encoded", "[é] ", "Subject: a", "Subject: =?utf-8?q?[=C3=A9]?= a"},
		{"tag to be encoded, no space", "[é] ", "Subject:a", "Subject: =?utf-8?q?[=C3=A9]?= a"},
		{"both encoded", "[é] ", "Subject: =?utf-8?b?w6k=?=", "Subject: =?utf-8?q?[=C3=A9]_?= =?utf-8?b?w6k=?="},
		{"both encoded, folded", "[é] ", "Subject:\r\n =?utf-8?b?w6k=?=", "Subject: =?utf-8?q?[=C3=A9]_?=\r\n =?utf-8?b?w6k=?="},
		{"tag of spaces", "  ", "Subject: a", "Subject: a"},
		{"tag with line breaks", "[a\r\nX: b] ", "Subject: a", "Subject: [a  X: b] a"},
		{"tag that would be an encoded word", "=?utf-8?q?a?=", "Subject: a", "Subject: =utf-8?q?a?= a"},
		{"a full line", "[SPAM] ", "Subject: " + long, "Subject: [SPAM]\r\n " + long},
		{"a full line, no space", "[SPAM] ", "Subject:" + long, "Subject: [SPAM]\r\n " + long},
		{"a line that just holds it", "[SPAM] ", "Subject: " + long[:len(long)-8], "Subject: [SPAM] " + long[:len(long)-8]},
		{"a line of spaces", "[SPAM] ", "Subject:" + strings.Repeat(" ", maxLine) + "\r\n a", "Subject: [SPAM]" + strings.Repeat(" ", maxLine) + "\r\n a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMessage(test.field + "\r\n\r\nbody")
			v := mail.Verdict{Score: 5, Required: 5, SubjectTag: test.tag}
			out := read(t, composer.Outgoing(m, v, ""))
			_, got, _ := strings.Cut(out, "tests=none\r\n")
			if got != test.want+"\r\n\r\nbody" {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			again := newMessage(out)
			if twice := read(t, composer.Outgoing(again, v, "")); !strings.HasSuffix(twice, got) {
				t.Errorf("tagged again: %q", twice)
			}
		})
	}
}

func TestSubjectOfHam(t *testing.T) {
	for _, v := range []mail.Verdict{
		{Score: 4.9, Required: 5, SubjectTag: "[SPAM] "},
		{Score: 9, Required: 0, SubjectTag: "[SPAM] "},
		{Score: 9, Required: 5},
		{Score: 1, Required: 5, SubjectTag: "[SPAM] ", Action: mail.Strip},
	} {
		out := read(t, composer.Outgoing(newMessage("Subject: a\r\n\r\n"), v, ""))
		if !strings.HasSuffix(out, "tests=none\r\nSubject: a\r\n\r\n") {
			t.Errorf("got %q", out)
		}
	}
}

func TestTagIsBounded(t *testing.T) {
	for size, want := range map[int]int{maxTag: maxTag, maxTag + 1: maxTag} {
		tag := newTag(mail.Verdict{Score: 5, Required: 5, SubjectTag: strings.Repeat("💥", size)})
		if n := strings.Count(tag, "💥"); n != want {
			t.Errorf("%d characters of %d", n, size)
		}
		if n := len(encodeTag(tag, true)); n > 876 {
			t.Errorf("%d octets", n)
		}
	}
}

func TestHops(t *testing.T) {
	content := "Received: a\r\nreceived : b\r\nX-Received: c\r\nRECEIVED: d\r\n\r\nReceived: e\r\n"
	h, _, _ := mail.Read(mail.Bytes(content), mail.DefaultLimits)
	if n := Hops(h); n != 3 {
		t.Errorf("%d", n)
	}
	if n := Hops(nil); n != 0 {
		t.Errorf("%d", n)
	}
}

func TestOwnHops(t *testing.T) {
	rcpt := mail.Address{Local: "Rob", Domain: "Example.com"}
	tests := []struct {
		value string
		n     int
	}{
		{" from a ([192.0.2.1])\r\n\tby mx.example.com (Postern) with ESMTPS id 0\r\n\tfor <rob@example.com>; date", 1},
		{" from a by MX.example.com for <ROB@example.COM>", 1},
		{" from by by mx.example.com for <rob@example.com>;x", 1},
		{" from a by mx.example.com (c) (d (e)) for <rob@example.com>", 1},
		{" from a by mx.example.com(Postern) for <rob@example.com>(x)", 1},
		{" from a by mx.example.com.evil for <rob@example.com>", 0},
		{" from a by mx.example.com for <bob@example.com>", 0},
		{" from a by mx.example.com for rob@example.com", 0},
		{" from a by mx.example.com; date", 0},
		{" from a by other for <rob@example.com>", 0},
		{" from a (by mx.example.com for <rob@example.com>)", 0},
		{" from a by mx.example.com (for <rob@example.com>)", 0},
		{" from a (\\) by mx.example.com for <rob@example.com>", 0},
		{"", 0},
		{" by", 0},
		{" by mx.example.com for", 0},
	}
	for _, test := range tests {
		h := mail.Header{{Name: "received", Raw: []byte("received:" + test.value + "\r\n")}, {Name: "To", Raw: []byte("To:" + test.value)}}
		if n := OwnHops(h, "mx.example.com", rcpt); n != test.n {
			t.Errorf("%q: %d", test.value, n)
		}
	}
}

// What Outgoing writes is known again, whatever the address.
func TestOwnHopsOfOutgoing(t *testing.T) {
	for _, rcpt := range []mail.Address{
		{Local: "a", Domain: "example.com"}, {Local: "a b> by (x", Domain: "example.com"}, {Local: `"\`, Domain: "[192.0.2.1]"}, {Local: "postmaster"},
	} {
		m := newMessage("Subject: a\r\n\r\n")
		m.Envelope.Recipients = []mail.Address{rcpt}
		for want := range 4 {
			if n := OwnHops(m.Header, "mx.example.com", rcpt); n != want {
				t.Errorf("%s: %d, want %d", rcpt, n, want)
			}
			m.Content = composer.Outgoing(m, mail.Verdict{}, "")
			m.Parse(mail.DefaultLimits)
		}
	}
}
