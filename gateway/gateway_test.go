package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/gateway/health"
	"postern/gateway/mail"
	"postern/gateway/recipients"
	"postern/gateway/relay"
	"postern/gateway/smtpd"
	"postern/gateway/spool"
)

// world is a gateway with everything round it that a test may set: the servers
// inside, what the filters find, what the quarantine does.
type world struct {
	t        *testing.T
	g        *Gateway
	settings *Settings
	hops     map[string]*insideServer // by domain
	found    []mail.Result
	look     func(mail.Stage, *mail.Message) // what else the filters do
	judge    judgeFunc
	keeper   *memoryKeeper
	records  *memoryRecords
	spool    *spool.Spool
	spoolDir string
	address  string // of mx
	stop     func()
}

type judgeFunc func([]mail.Result, []mail.Address) []mail.Verdict

// Judge implements Judge.
func (f judgeFunc) Judge(r []mail.Result, a []mail.Address) []mail.Verdict { return f(r, a) }

// accept is the verdict of a policy that finds nothing wrong.
func accept(_ []mail.Result, rcpts []mail.Address) []mail.Verdict {
	return []mail.Verdict{{Recipients: rcpts, Action: mail.Accept, Required: 5}}
}

// byLocal gives each recipient the action that its local part names: "reject",
// "reject-2".
func byLocal(_ []mail.Result, rcpts []mail.Address) (vs []mail.Verdict) {
	for _, rcpt := range rcpts {
		name, _, _ := strings.Cut(rcpt.Local, "-")
		action, err := mail.ParseAction(name)
		if err != nil {
			action = mail.Accept
		}
		vs = append(vs, mail.Verdict{Recipients: []mail.Address{rcpt}, Action: action, Class: mail.ClassSpam, Required: 5})
	}
	return vs
}

// Run implements Inspector.
func (w *world) Run(_ context.Context, stage mail.Stage, m *mail.Message, _ []mail.Result) []mail.Result {
	if w.look != nil {
		w.look(stage, m)
	}
	if stage == mail.StageContent {
		return w.found
	}
	return nil
}

// memoryKeeper is a quarantine in memory.
type memoryKeeper struct {
	mu    sync.Mutex
	fail  error
	after int // so many are kept before fail
	kept  map[string]keptMail
	n     int
}

type keptMail struct {
	verdict mail.Verdict
	content string
}

// Keep implements Keeper.
func (k *memoryKeeper) Keep(_ context.Context, m *mail.Message, v mail.Verdict) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil && k.n >= k.after {
		return "", k.fail
	}
	k.n++
	id := fmt.Sprintf("%s.%d", m.ID, k.n)
	var b bytes.Buffer
	if _, err := m.Content.WriteTo(&b); err != nil {
		return "", err
	}
	k.kept[id] = keptMail{v, b.String()}
	return id, nil
}

// Drop implements Keeper.
func (k *memoryKeeper) Drop(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, id)
	return nil
}

func (k *memoryKeeper) all() (list []keptMail) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.kept {
		list = append(list, m)
	}
	return list
}

// memoryRecords remembers what it was told.
type memoryRecords struct {
	mu         sync.Mutex
	records    []mail.Record
	refusals   []mail.Record
	deliveries []mail.Delivery
}

// Observe implements Recorder.
func (r *memoryRecords) Observe(_ context.Context, rec mail.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
}

// Refusal implements Recorder.
func (r *memoryRecords) Refusal(rec mail.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, rec)
}

// Deliver implements Recorder.
func (r *memoryRecords) Deliver(_ string, d mail.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliveries = append(r.deliveries, d)
}

// newWorld runs a gateway for the domains that are named; each has a server
// inside of its own.
func newWorld(t *testing.T, domains ...string) *world {
	t.Helper()
	w := &world{
		t: t, hops: map[string]*insideServer{}, judge: accept,
		keeper: &memoryKeeper{kept: map[string]keptMail{}}, records: &memoryRecords{},
	}
	w.settings = &Settings{
		Hostname: "mx.example.net", Domains: map[string]Domain{}, Recipients: 100, Reply: 5 * time.Second,
		Filters: w, Judge: judgeFunc(func(r []mail.Result, a []mail.Address) []mail.Verdict { return w.judge(r, a) }),
	}
	for _, d := range domains {
		w.hops[d] = newInside(t)
		w.settings.Domains[d] = Domain{Route: relay.Route{Domain: d, Hosts: []string{w.hops[d].address}}, Verify: VerifyAny, Pass: true}
	}
	w.settings.Postmaster = []mail.Address{{Local: "postmaster", Domain: domains[0]}}
	log := slog.New(slog.DiscardHandler)
	book, err := recipients.Open(t.Context(), recipients.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w.spoolDir = filepath.Join(t.TempDir(), "spool")
	w.spool, err = spool.Open(spool.Config{
		Dir: w.spoolDir, MinFree: -1, Log: log,
		Retry: func(string) []time.Duration { return []time.Duration{20 * time.Millisecond} },
	})
	if err != nil {
		t.Fatal(err)
	}
	r := relay.New(relay.Config{Hostname: "mx.example.net", Log: log})
	w.g = New(Parts{
		Relay: r, Spool: w.spool, Keeper: w.keeper, Recorder: w.records, Recipients: book,
		Board: health.New(log), Log: log, TempDir: t.TempDir(),
	}, w.settings)
	server := smtpd.New(smtpd.Config{Hostname: "mx.example.net", Limits: smtpd.Limits{
		MessageSize: 1 << 20, Connections: 100, PerClient: 100, Command: time.Minute, Data: time.Minute, Transaction: time.Minute,
	}}, w.g.NewSession)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	go func() { _ = server.Serve(l) }()
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		w.g.Close(ctx)
		_ = r.Close()
	})
	t.Cleanup(w.stop)
	return w
}

// change sets what a domain does otherwise than the default.
func (w *world) change(domain string, f func(*Domain)) {
	d := w.settings.Domains[domain]
	f(&d)
	w.settings.Domains[domain] = d
}

// runSpool lets the spool deliver until the test ends.
func (w *world) runSpool() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = w.spool.Run(ctx, w.g) })
	w.t.Cleanup(func() { cancel(); done.Wait() })
}

// client is an SMTP client that sends lines and reads replies.
type client struct {
	t    *testing.T
	text *textproto.Conn
}

func (w *world) dial() *client {
	w.t.Helper()
	conn, err := textproto.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	c := &client{w.t, conn}
	c.reply()
	c.say("EHLO client.example.org")
	return c
}

func (c *client) reply() string {
	c.t.Helper()
	code, text, err := c.text.ReadResponse(0)
	if err != nil && code == 0 {
		c.t.Fatalf("no reply: %v", err)
	}
	return fmt.Sprintf("%d %s", code, text)
}

func (c *client) say(format string, args ...any) string {
	c.t.Helper()
	if err := c.text.PrintfLine(format, args...); err != nil {
		c.t.Fatal(err)
	}
	return c.reply()
}

const letter = "From: <a@sender.example>\r\nTo: <b@one.example>\r\nSubject: hello\r\nMessage-ID: <1@sender.example>\r\n" +
	"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n"

// send runs a whole transaction and returns the last reply.
func (w *world) send(from string, rcpts ...string) string {
	w.t.Helper()
	return w.dial().send(letter, from, rcpts...)
}

func (c *client) send(content, from string, rcpts ...string) string {
	c.t.Helper()
	if r := c.say("MAIL FROM:<%s>", from); r[0] != '2' {
		return r
	}
	for _, rcpt := range rcpts {
		if r := c.say("RCPT TO:<%s>", rcpt); r[0] != '2' {
			return r
		}
	}
	if r := c.say("DATA"); r[0] != '3' {
		return r
	}
	if _, err := io.WriteString(c.text.W, content+".\r\n"); err != nil {
		c.t.Fatal(err)
	}
	if err := c.text.W.Flush(); err != nil {
		c.t.Fatal(err)
	}
	return c.reply()
}

// want compares the beginning of a reply.
func (w *world) want(what, got, prefix string) {
	w.t.Helper()
	if !strings.HasPrefix(got, prefix) {
		w.t.Errorf("%s: %q, want %q", what, got, prefix)
	}
}

// eventually waits for something that happens off the path.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// insideServer is a server inside that does as it is told.
type insideServer struct {
	address string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	ehlo     []string               // lines of the EHLO reply, beside the name
	answers  map[string]string      // by verb, "RCPT <address>" first, "." for the final dot
	before   func(verb string) bool // called before the answer; false hangs up
	mail     []delivered
}

type delivered struct {
	from    string
	rcpts   []string
	content string
}

func newInside(t *testing.T) *insideServer {
	t.Helper()
	s := &insideServer{answers: map[string]string{}}
	s.start(t, "127.0.0.1:0")
	t.Cleanup(s.halt)
	return s
}

// start listens; halt ends it and every connection, as a crash would.
func (s *insideServer) start(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.listener, s.address = l, l.Addr().String()
	s.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
}

func (s *insideServer) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listener.Close()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// answer sets what a verb is answered; "" is the default again.
func (s *insideServer) answer(verb, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[verb] = reply
}

func (s *insideServer) hook(before func(verb string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *insideServer) received() []delivered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mail)
}

func (s *insideServer) reply(verb, standard string) (string, bool) {
	s.mu.Lock()
	before, answer := s.before, s.answers[verb]
	s.mu.Unlock()
	if before != nil && !before(verb) {
		return "", false
	}
	if answer != "" {
		return answer, true
	}
	return standard, true
}

func (s *insideServer) serve(conn net.Conn) {
	defer conn.Close()
	text := textproto.NewConn(conn)
	var m delivered
	say := func(verb, standard string) bool {
		answer, goOn := s.reply(verb, standard)
		return goOn && text.PrintfLine("%s", answer) == nil
	}
	if !say("greeting", "220 inside") {
		return
	}
	for {
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			s.mu.Lock()
			lines := append([]string{"inside"}, s.ehlo...)
			s.mu.Unlock()
			for _, l := range lines[:len(lines)-1] {
				_ = text.PrintfLine("250-%s", l)
			}
			err = text.PrintfLine("250 %s", lines[len(lines)-1])
		case "MAIL":
			m = delivered{from: path(line)}
			if !say("MAIL", "250 2.1.0 ok") {
				return
			}
		case "RCPT":
			rcpt := path(line)
			answer, goOn := s.reply("RCPT "+rcpt, "")
			if !goOn {
				return
			}
			if answer == "" {
				answer, goOn = s.reply("RCPT", "250 2.1.5 ok")
			}
			if !goOn {
				return
			}
			if answer[0] == '2' {
				m.rcpts = append(m.rcpts, rcpt)
			}
			err = text.PrintfLine("%s", answer)
		case "DATA":
			if !say("DATA", "354 go on") {
				return
			}
			if answer, _ := s.reply("DATA", "354"); answer[0] != '3' {
				continue
			}
			content, readErr := readContent(text)
			if readErr != nil {
				return
			}
			m.content = content
			answer, goOn := s.reply(".", "250 2.0.0 taken")
			if !goOn {
				return
			}
			if answer[0] == '2' {
				s.mu.Lock()
				s.mail = append(s.mail, m)
				s.mu.Unlock()
			}
			err = text.PrintfLine("%s", answer)
		case "QUIT":
			_ = text.PrintfLine("221 bye")
			return
		default:
			err = text.PrintfLine("250 2.0.0 ok")
		}
		if err != nil {
			return
		}
	}
}

func path(line string) string {
	_, after, _ := strings.Cut(line, "<")
	inside, _, _ := strings.Cut(after, ">")
	return inside
}

func readContent(text *textproto.Conn) (string, error) {
	var b strings.Builder
	for {
		line, err := text.R.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

var errDisk = errors.New("disk full")
