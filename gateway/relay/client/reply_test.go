package client

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern/gateway/mail"
)

func TestReply(t *testing.T) {
	tests := []struct {
		in   string
		want mail.Reply
		rest string
		err  error
	}{
		{in: "250 2.1.0 ok\r\n", want: mail.Reply{Code: 250, Enhanced: "2.1.0", Text: "ok"}},
		{in: "250 ok\r\n250 next\r\n", want: mail.Reply{Code: 250, Text: "ok"}, rest: "250 next\r\n"},
		{in: "250\r\n", want: mail.Reply{Code: 250}},
		{in: "250 \r\n", want: mail.Reply{Code: 250}},
		{in: "250 ok\n", want: mail.Reply{Code: 250, Text: "ok"}},
		{in: "550-5.1.1 no\r\n550 5.1.1 such user\r\n", want: mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}},
		{in: "550-no\r\n550 5.1.1\r\n", want: mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}},
		{in: "550 5.7.123 x\r\n", want: mail.Reply{Code: 550, Enhanced: "5.7.123", Text: "x"}},
		{in: "550 4.7.1 other class\r\n", want: mail.Reply{Code: 550, Text: "4.7.1 other class"}},
		{in: "550 5.7.1234 x\r\n", want: mail.Reply{Code: 550, Text: "5.7.1234 x"}},
		{in: "550 5.7. x\r\n", want: mail.Reply{Code: 550, Text: "5.7. x"}},
		{in: "550 5.7.1.1 x\r\n", want: mail.Reply{Code: 550, Text: "5.7.1.1 x"}},
		{in: "550 5.7.1: x\r\n", want: mail.Reply{Code: 550, Text: "5.7.1: x"}},
		{in: "250 a\x00\x1b[2Jb\r\x7f\xff\r\n", want: mail.Reply{Code: 250, Text: "a??[2Jb???"}},
		{in: "250 " + strings.Repeat("x", maxReplyText) + "\r\n", want: mail.Reply{Code: 250, Text: strings.Repeat("x", maxReplyText)}},
		{in: "250-" + strings.Repeat("x", maxReplyText) + "y\r\n250 z\r\n", want: mail.Reply{Code: 250, Text: strings.Repeat("x", maxReplyText)}},

		{in: "", err: io.EOF},
		{in: "250 ok", err: io.EOF},
		{in: "250-ok\r\n", err: io.EOF},
		{in: "25 ok\r\n", err: errReply},
		{in: "\r\n", err: errReply},
		{in: "250ok\r\n", err: errReply},
		{in: "250\tok\r\n", err: errReply},
		{in: "150 ok\r\n", err: errReply},
		{in: "650 ok\r\n", err: errReply},
		{in: "2x0 ok\r\n", err: errReply},
		{in: " 250 ok\r\n", err: errReply},
		{in: "250-ok\r\n251 ok\r\n", err: errReply},

		{in: "250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n", want: mail.Reply{Code: 250, Text: strings.Repeat("x", maxReplyText)}},
		{in: "250 " + strings.Repeat("x", maxReplyLine-5) + "\r\n", err: errReplySize},
		{in: strings.Repeat("250-\r\n", maxReplyLines-1) + "250 x\r\n", want: mail.Reply{Code: 250, Text: "x"}},
		{in: strings.Repeat("250-\r\n", maxReplyLines) + "250 x\r\n", err: errReplySize},
		{in: ofSize(maxReply), want: mail.Reply{Code: 250, Text: "x"}},
		{in: ofSize(maxReply + 1), err: errReplySize},
	}
	for _, test := range tests {
		slow := iotest.OneByteReader
		if len(test.in) > 2*maxReplyLine {
			slow = iotest.HalfReader
		}
		for how, src := range map[string]io.Reader{"whole": strings.NewReader(test.in), "in pieces": slow(strings.NewReader(test.in))} {
			r := replyReader{}
			rep, err := readReply(&r, src)
			if !errors.Is(err, test.err) {
				t.Errorf("%s %.40q: error %v, want %v", how, test.in, err, test.err)
				continue
			}
			if got := rep.Mail(); got != test.want && err == nil {
				t.Errorf("%s %.40q: %+v, want %+v", how, test.in, got, test.want)
			}
			if rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(r.buf[r.start:r.end]), src)); err == nil && string(rest) != test.rest {
				t.Errorf("%s %.40q: left %q, want %q", how, test.in, rest, test.rest)
			}
		}
	}
}

// ofSize is a reply of n octets, whose lines are none too long.
func ofSize(n int) string {
	const last = "250 x\r\n"
	var b strings.Builder
	for b.Len() < n-len(last) {
		line := min(maxReplyLine, n-len(last)-b.Len())
		if left := n - len(last) - b.Len() - line; left > 0 && left < 6 {
			line -= 6
		}
		b.WriteString("250-" + strings.Repeat(" ", line-6) + "\r\n")
	}
	return b.String() + last
}

func readReply(r *replyReader, src io.Reader) (Reply, error) {
	for {
		rep, ok, err := r.next()
		if ok || err != nil {
			return rep, err
		}
		if err := r.fill(src); err != nil {
			return Reply{}, err
		}
	}
}

// FuzzReply: whatever a server says, in whatever pieces, is read the same, is
// bounded, and comes out printable.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n220 c\r\n", "550 5.7.1 \xff\r\n", "250", "2500\r\n", "421-4.3.2\r\n421\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, wholeErr := readReply(&replyReader{}, bytes.NewReader(in))
		a := whole.Mail()
		pieces, piecesErr := readReply(&replyReader{}, iotest.OneByteReader(bytes.NewReader(in)))
		b := pieces.Mail()
		if a != b || !errors.Is(wholeErr, piecesErr) && !errors.Is(piecesErr, wholeErr) {
			t.Fatalf("%+v (%v) in one piece, %+v (%v) in several", a, wholeErr, b, piecesErr)
		}
		if wholeErr != nil {
			return
		}
		if len(a.Text) > maxReplyText || len(whole.raw) > maxReply || a.Code < 200 || a.Code > 599 {
			t.Fatalf("out of bounds: %+v", a)
		}
		for _, c := range []byte(a.Text + a.Enhanced) {
			if c < ' ' || c > '~' {
				t.Fatalf("not printable: %q", a.Text)
			}
		}
		parseCapabilities(whole)
	})
}

func TestParseCapabilities(t *testing.T) {
	tests := map[string]Capabilities{
		"250 one\r\n":                   {},
		"250 SIZE 5\r\n":                {}, // the first line is the server's name
		"250-one\r\n250 SIZE 5\r\n":     {SizeOffered: true, Size: 5},
		"250-one\r\n250 size\r\n":       {SizeOffered: true},
		"250-one\r\n250 SIZE x\r\n":     {SizeOffered: true},
		"250-one\r\n250 SIZE -1\r\n":    {SizeOffered: true},
		"250-one\r\n250 XSIZE 5\r\n":    {},
		"250-one\r\n250-\r\n250 \r\n":   {},
		"250-one\r\n250 STARTTLS\r\n":   {StartTLS: true},
		"250-one\r\n250 smtputf8 x\r\n": {SMTPUTF8: true},
	}
	for in, want := range tests {
		if got := parseCapabilities(Reply{Code: 250, raw: []byte(in)}); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}
