package compose

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/gateway/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

// noon is when everything happens in these tests.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

var composer = &Composer{Hostname: "mx.example.com"}

// newMessage is content as it came from a client over TLS.
func newMessage(content string) *mail.Message {
	m := &mail.Message{
		ID:       "0abc",
		Received: noon,
		Client: mail.Client{
			Addr: netip.MustParseAddrPort("192.0.2.7:4711"), HELO: "client.example.net", ESMTP: true, TLS: "TLS1.3",
		},
		Envelope: mail.Envelope{
			ReversePath: mail.Address{Local: "s", Domain: "example.net"},
			Recipients:  []mail.Address{{Local: "r", Domain: "example.com"}},
		},
		Content: mail.Bytes(content),
	}
	m.Parse(mail.DefaultLimits)
	return m
}

// read is all of c, through WriteTo.
func read(t testing.TB, c mail.Content) string {
	t.Helper()
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	if err != nil || n != c.Size() || n != int64(b.Len()) {
		t.Fatalf("wrote %d octets of %d: %v", n, c.Size(), err)
	}
	return b.String()
}

// goldenCase is testdata/NAME.json, beside NAME.eml.
type goldenCase struct {
	Auth       string   `json:"auth"`
	HELO       *string  `json:"helo"`
	Client     string   `json:"client"`
	Recipients []string `json:"recipients"`
	SMTPUTF8   bool     `json:"smtputf8"`
	Score      float64  `json:"score"`
	Required   float64  `json:"required"`
	SubjectTag string   `json:"subject_tag"`
	Hits       []mail.Hit
	Strip      []struct {
		Name, Type, Reason string
		Part               int
	}
}

func (g goldenCase) verdict() mail.Verdict {
	v := mail.Verdict{Score: g.Score, Required: g.Required, SubjectTag: g.SubjectTag, Hits: g.Hits}
	for _, s := range g.Strip {
		v.Strip = append(v.Strip, mail.Attachment{Name: s.Name, Type: s.Type, Reason: s.Reason, Part: s.Part, Blocked: true})
	}
	return v
}

func (g goldenCase) message(t *testing.T, content string) *mail.Message {
	m := newMessage(content)
	if g.HELO != nil {
		m.Client.HELO = *g.HELO
	}
	if g.Client != "" {
		m.Client.Addr = netip.AddrPortFrom(netip.MustParseAddr(g.Client), 25)
	}
	if g.Recipients != nil {
		m.Envelope.Recipients = nil
	}
	for _, r := range g.Recipients {
		a, err := mail.ParseAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		m.Envelope.Recipients = append(m.Envelope.Recipients, a)
	}
	m.Envelope.SMTPUTF8 = g.SMTPUTF8
	return m
}

// The files are written with LF, so that they can be read; mail has CRLF.
func TestOutgoingGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".eml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			var g goldenCase
			if b, err := os.ReadFile(name + ".json"); err != nil {
				t.Fatal(err)
			} else if err := json.Unmarshal(b, &g); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m := g.message(t, strings.ReplaceAll(string(content), "\n", "\r\n"))
			got := read(t, composer.Outgoing(m, g.verdict(), g.Auth))
			compareGolden(t, name+".want", got)
		})
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if strings.Count(got, "\n") != strings.Count(got, "\r\n") {
		t.Error("bare LF written")
	}
	got = strings.ReplaceAll(got, "\r\n", "\n")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
