package relay

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	tests := []struct {
		in, want string // want is "" for a fault
		network  string
		lmtp     bool
	}{
		{"mail.internal", "mail.internal:25", "tcp", false},
		{"mail.internal:2525", "mail.internal:2525", "tcp", false},
		{"mail_1", "mail_1:25", "tcp", false},
		{"mail.internal.", "mail.internal.:25", "tcp", false},
		{"192.0.2.1", "192.0.2.1:25", "tcp", false},
		{"192.0.2.1:26", "192.0.2.1:26", "tcp", false},
		{"::1", "[::1]:25", "tcp", false},
		{"0::", "[::]:25", "tcp", false},
		{"[::1]", "[::1]:25", "tcp", false},
		{"[::1]:2525", "[::1]:2525", "tcp", false},
		{"[192.0.2.1]:25", "192.0.2.1:25", "tcp", false},
		{"host:65535", "host:65535", "tcp", false},
		{"lmtp://host", "host:24", "tcp", true},
		{"lmtp://host:2424", "host:2424", "tcp", true},
		{"lmtp://[::1]:24", "[::1]:24", "tcp", true},
		{"lmtp:///run/x.sock", "/run/x.sock", "unix", true},
		{"mx:other.example", "mx:other.example", "", false},
		{strings.Repeat("a", 63) + ".x", strings.Repeat("a", 63) + ".x:25", "tcp", false},

		{"", "", "", false},
		{":25", "", "", false},
		{"host:", "", "", false},
		{"host:0", "", "", false},
		{"host:65536", "", "", false},
		{"host:smtp", "", "", false},
		{"host:+25", "", "", false},
		{"a b", "", "", false},
		{"a..b", "", "", false},
		{"-a", "", "", false},
		{"a/b", "", "", false},
		{"[::1", "", "", false},
		{"[::1]x", "", "", false},
		{"[]:25", "", "", false},
		{"[host]:25", "", "", false},
		{"smtp://host", "", "", false},
		{"lmtp://", "", "", false},
		{"mx:a b", "", "", false},
		{"mx:host:25", "", "", false},
		{strings.Repeat("a", 64) + ".x", "", "", false},
		{strings.Repeat("a.", 127), "", "", false},
	}
	for _, test := range tests {
		h, err := parseHost(test.in)
		if fault := ParseHost(test.in); (err != nil) != (test.want == "") || (fault != nil) != (err != nil) {
			t.Errorf("%q: error %v", test.in, err)
			continue
		}
		if err == nil && (h.String() != test.want || h.network != test.network || h.lmtp != test.lmtp) {
			t.Errorf("%q: %+v, want %s", test.in, h, test.want)
		}
	}
	if err := ParseHost("mx:"); err != nil {
		t.Error(err)
	}
}

func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"host", "host:25", "[::1]:25", "lmtp:///x", "lmtp://h", "mx:", "mx:d", "::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, err := parseHost(in)
		if err != nil || h.network != "tcp" {
			return
		}
		again, err := parseHostPort(h.String(), "1")
		again.lmtp = h.lmtp
		if err != nil || again != h {
			t.Errorf("%q is %+v, and read again %+v (%v)", in, h, again, err)
		}
	})
}

func TestTLSPolicyText(t *testing.T) {
	for _, name := range policyNames {
		var p TLSPolicy
		if err := p.UnmarshalText([]byte(name)); err != nil {
			t.Error(err)
		}
		if text, _ := json.Marshal(map[string]TLSPolicy{"tls": p}); string(text) != `{"tls":"`+name+`"}` {
			t.Errorf("%s became %s", name, text)
		}
	}
	p := TLSVerify
	if err := p.UnmarshalText(nil); err != nil || p != TLSMay {
		t.Errorf("nothing is %s, %v", p, err)
	}
	if err := p.UnmarshalText([]byte("May")); err == nil {
		t.Error("a name that is none")
	}
	if TLSPolicy(9).String() != "tls(9)" || Status(9).String() != "status(9)" || Waiting.String() != "waiting" {
		t.Error("names")
	}
}
