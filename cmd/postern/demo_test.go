package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/cmd/postern/demo"
	"postern/cmd/postern/house"
	"postern/cmd/postern/screen"
	"postern/gateway/mail"
)

// nobody are the daemons of a machine that has none.
func nobody() []daemon {
	return []daemon{{filter: "clamav", name: "clamd"}, {filter: "spamassassin", name: "spamd"}}
}

// newTestShow writes into out, and below the test's folder.
func newTestShow(t *testing.T, out *output) *show {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	return &show{
		terminal: terminal{out: out, err: out}, screen: screen.Screen{Out: out, Width: screen.Narrow},
		daemons: nobody(), samples: demo.Samples(),
	}
}

// output is what was shown so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// nothingLeft says that the folder for temporary files is as empty as before.
func nothingLeft(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

var changing = []struct{ pattern, name string }{
	{`0[0-9a-z]{21}`, strings.Repeat("i", 22)},
	{`127\.0\.0\.1:\d{4,5}`, "127.0.0.1:PORT"},
	{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}`, "2026-11-22 12:00:00 +0000"},
	{`(mx for example.com) +`, "$1   "},
	{`delivered \d+ ms`, "delivered N ms"},
	{`in \d+\.\d s`, "in N s"},
	// The queue may have tried once more before the inside was back.
	{`(  Delivery .* 451\n +4\.4\.1 .*\n)(?:  Delivery .* 451\n +4\.4\.1 .*\n)+`, "$1"},
}

// steady replaces what differs from run to run.
func steady(text string) string {
	for _, c := range changing {
		text = regexp.MustCompile(c.pattern).ReplaceAllString(text, c.name)
	}
	return text
}

// The whole demonstration on a machine without engines, as it is seen at 80
// columns.
func TestDemo(t *testing.T) {
	var out output
	if err := newTestShow(t, &out).run(t.Context()); err != nil {
		t.Fatal(err, out.String())
	}
	want, err := os.ReadFile("testdata/demo.want")
	if err != nil {
		t.Fatal(err)
	}
	got := steady(out.String())
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/demo.want", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("want -, got +; UPDATE=1 writes it:\n%s", diff)
	}
	nothingLeft(t)
}

// Each action stands in the table of verdicts at least once, and whatever way the
// engines are, the demonstration says so.
func TestDemoActions(t *testing.T) {
	var out output
	if err := newTestShow(t, &out).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range []mail.Action{mail.Accept, mail.Tag, mail.Strip, mail.Quarantine, mail.Reject} {
		if !regexp.MustCompile(`(?m)^ ?\d+  .{30}  ` + a.String() + ` +\d{3} \d\.\d\.\d`).MatchString(out.String()) {
			t.Errorf("no %s in the table", a)
		}
	}
	if !strings.Contains(out.String(), "there is no antivirus") {
		t.Error("nothing says that there is no antivirus")
	}
	if n := strings.Count(out.String(), "\n"); n > 75 {
		t.Errorf("%d lines", n)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > screen.Narrow && !strings.Contains(line, "postern") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// A verdict that was not promised makes the demonstration a failed test.
func TestDemoBrokenPromise(t *testing.T) {
	var out output
	s := newTestShow(t, &out)
	s.samples = s.samples[:1]
	s.samples[0].Action, s.samples[0].Reply = mail.Reject, "550 5.7.1"
	if err := s.run(t.Context()); !errors.Is(err, exitError(1)) {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"not as promised: reject and 550 5.7.1", "1 of 1 not as promised", "msg=ready"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	nothingLeft(t)
}

// An engine that is in the configuration and does not answer is said to be
// silent: clamd's silence defers mail, as it does by default.
func TestDemoSilentEngine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "tcp:" + l.Addr().String()
	_ = l.Close()
	var out output
	s := newTestShow(t, &out)
	s.samples, s.daemons[0].address, s.daemons[1].address = s.samples[:1], address, address
	if err := s.run(t.Context()); !errors.Is(err, exitError(1)) {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"clamd at " + address, "clamav        did not answer", "spamassassin  did not answer", "451 4.7.1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q in\n%s", want, out.String())
		}
	}
}

// Ctrl-C in the middle takes everything down.
func TestDemoInterrupted(t *testing.T) {
	var out output
	s := newTestShow(t, &out)
	ctx, cancel := context.WithCancel(t.Context())
	s.screen.Out = writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("newsletter")) {
			cancel()
		}
		return out.Write(p)
	})
	if err := s.run(ctx); !errors.Is(err, interrupted) {
		t.Errorf("error %v", err)
	}
	nothingLeft(t)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What --keep leaves running answers the other commands, until Ctrl-C.
func TestDemoKeep(t *testing.T) {
	var out output
	s := newTestShow(t, &out)
	s.keep = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	configs := regexp.MustCompile(`--config (\S+)`)
	for !strings.Contains(out.String(), "swaks --server") {
		select {
		case err := <-done:
			t.Fatal(err, out.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	path := configs.FindStringSubmatch(out.String())[1]
	for _, c := range []struct{ command, want string }{
		{"track anna@example.com", "Site visit"},
		{"quarantine list", "virus"},
		{"queue list", "Nothing waits."},
		{"check --offline", "good"},
	} {
		var answer, faults bytes.Buffer
		args := append([]string{"--config", path}, strings.Fields(c.command)...)
		if code := run(ctx, args, terminal{out: &answer, err: &faults}); code != 0 || !strings.Contains(answer.String(), c.want) {
			t.Errorf("%s: %d %s%s", c.command, code, answer.String(), faults.String())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// Engines are found where they answer, and only there.
func TestFindDaemons(t *testing.T) {
	here := func(address string) (house.Pinger, error) { return fakeEngine(address == "unix:/b"), nil }
	for _, c := range []struct {
		addresses []string
		want      string
	}{
		{[]string{"unix:/a", "unix:/b", "unix:/c"}, "unix:/b"},
		{[]string{"unix:/a"}, ""},
		{nil, ""},
	} {
		if got := answering(t.Context(), here, c.addresses...); got != c.want {
			t.Errorf("%v: %q", c.addresses, got)
		}
	}
	found := findDaemons(t.Context())
	if len(found) != 2 || found[0].name != "clamd" || found[1].name != "spamd" {
		t.Errorf("%+v", found)
	}
}

type fakeEngine bool

func (f fakeEngine) Ping(context.Context) error {
	if f {
		return nil
	}
	return net.ErrClosed
}

func TestWhy(t *testing.T) {
	hit := func(filter, symbol string, score float64) mail.Hit {
		return mail.Hit{Filter: filter, Symbol: symbol, Score: score, Description: "words", Evidence: "seen"}
	}
	many := []mail.Hit{hit("f", "A", 1), hit("f", "B", -3), hit("f", "C", 0), hit("f", "D", 2.5), hit("f", "E", 0.25), hit("f", "F", 0.5)}
	for name, c := range map[string]struct {
		record mail.Record
		want   string
	}{
		"nothing":      {mail.Record{}, ": nothing found"},
		"one":          {mail.Record{Hits: many[:1]}, "f: A +1: words [seen]"},
		"several":      {mail.Record{Hits: many[:3]}, "f: B -3, A +1, C"},
		"many":         {mail.Record{Hits: many}, "f: B -3, D +2.5, A +1, F +0.5, 2 more +0.2"},
		"two filters":  {mail.Record{Hits: []mail.Hit{hit("f", "A", 0), hit("g", "B", 0)}}, "f: A: words [seen]; g: B: words [seen]"},
		"silent":       {mail.Record{Unscanned: []string{"clamav"}, Reason: "clamav did not answer"}, "clamav: did not answer"},
		"score":        {mail.Record{Hits: many[:1], Reason: "score 6.0 >= 5.0", Action: mail.Tag}, "f: A +1: words [seen]; score: 6.0 >= 5.0, the threshold of tag"},
		"unknown":      {mail.Record{Reason: "unknown"}, "gateway: the server inside has no such user; refused at RCPT"},
		"not received": {mail.Record{Reason: "bare LF"}, "gateway: bare LF"},
	} {
		var got []string
		for _, r := range why(c.record) {
			got = append(got, r.who+": "+strings.Join(r.pieces, " "))
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}

func TestProgramName(t *testing.T) {
	before := os.Args
	defer func() { os.Args = before }()
	for arg, want := range map[string]string{"./postern": "./postern", "/x/postern": "/x/postern", "/tmp/cmd.test": "postern"} {
		os.Args = []string{filepath.FromSlash(arg)}
		if got := program(); got != want {
			t.Errorf("%s: %s", arg, got)
		}
	}
}
