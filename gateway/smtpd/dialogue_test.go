package smtpd

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDialogues plays testdata/*.dialogue, each in clear and under TLS:
//
//	# a remark
//	set size 100          a limit of the server: size, bad, noops, refusals, normalise, notls
//	only clear            not under TLS ("only tls": not in clear)
//	connect               don't read the banner, and don't say EHLO
//	> EHLO x              send the line and CRLF
//	>> "raw \r\x00 bytes" send what Go's quotes hold
//	< 250 2.1.0           the last line of a reply begins so
//	<- SIZE 100           a line of the last reply before that holds this
//	<! CHUNKING           and none holds that
//	handshake             begin TLS
//	close                 the server closes
//	hangup                the client closes for writing
//	taken "content"       the messages taken so far are as many, the last is this
//	none                  no message was taken
//
// The banner has been read, and nothing been said, when a dialogue begins.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) < 20 {
		t.Fatal("dialogues are missing", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			each(t, func(t *testing.T, secure bool) { play(t, lines, secure) })
		})
	}
}

func play(t *testing.T, lines []string, secure bool) {
	t.Parallel()
	cfg := Config{TLS: testTLS()}
	connect := false
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "set":
			setLimit(t, &cfg, rest)
		case word == "connect":
			connect = true
		case line == "only clear" && secure, line == "only tls" && !secure:
			return
		}
	}
	p := &player{backend: &backend{}}
	_, addr := serve(t, cfg, p.backend)
	if connect {
		p.client = dial(t, addr)
	} else {
		p.client = greeted(t, addr, secure)
	}
	for n, line := range lines {
		p.t = t
		t.Logf("%d: %s", n+1, line)
		p.line(line)
	}
}

func setLimit(t *testing.T, c *Config, setting string) {
	name, value, _ := strings.Cut(setting, " ")
	n, _ := strconv.Atoi(value)
	switch name {
	case "size":
		c.Limits.MessageSize = int64(n)
	case "bad":
		c.Limits.BadCommands = n
	case "noops":
		c.Limits.Noops = n
	case "refusals":
		c.Limits.Refusals = n
	case "normalise":
		c.Limits.Normalise = true
	case "notls":
		c.TLS = nil
	default:
		t.Fatalf("unknown setting %q", setting)
	}
}

type player struct {
	*client
	backend *backend
	last    []string
	taken   int
}

func (p *player) line(line string) {
	p.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "", "#", "set", "only", "connect":
	case ">":
		p.send(rest + "\r\n")
	case ">>":
		p.send(p.unquote(rest))
	case "<":
		p.last = p.expect(rest)
	case "<-":
		if !strings.Contains(strings.Join(p.last, "\n"), rest) {
			p.t.Fatalf("no %q in %q", rest, p.last)
		}
	case "<!":
		if strings.Contains(strings.Join(p.last, "\n"), rest) {
			p.t.Fatalf("%q in %q", rest, p.last)
		}
	case "handshake":
		p.handshake()
	case "close":
		p.expectClose()
	case "hangup":
		p.hangUp()
	case "taken":
		p.taken++
		got := p.backend.deliveries()
		if len(got) != p.taken || got[len(got)-1].content != p.unquote(rest) {
			p.t.Fatalf("taken: %+v", got)
		}
	case "none":
		if got := p.backend.deliveries(); len(got) != 0 {
			p.t.Fatalf("taken: %+v", got)
		}
	default:
		p.t.Fatalf("unknown line %q", line)
	}
}

func (p *player) unquote(s string) string {
	p.t.Helper()
	raw, err := strconv.Unquote(s)
	if err != nil {
		p.t.Fatalf("%s: %v", s, err)
	}
	return raw
}

func (c *client) hangUp() {
	if t, ok := c.conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	_ = c.raw.(*net.TCPConn).CloseWrite()
}

// A client that talks before the banner is known by what lies on its socket.
func TestEarlyTalker(t *testing.T) {
	b := &backend{}
	s := New(Config{Hostname: "mx.test"}, b.session)
	s.Refused = b.refused
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, l.Addr().String())
	c.send("EHLO too.early\r\n")
	time.Sleep(time.Millisecond) // loopback: it is there before the server accepts
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	c.expect("554 5.5.0")
	c.expectClose()
	if b.open() != 0 || len(b.reasons) != 1 || b.reasons[0] != ReasonEarly {
		t.Error(b.open(), b.reasons)
	}
}

// Under TLS, what comes too early may lie in crypto/tls: in a record of its own,
// read from the socket together with the one before.
func TestEarlyRecord(t *testing.T) {
	for _, first := range []string{"EHLO x\r\n", "DATA\r\n"} {
		_, addr := serve(t, Config{TLS: testTLS()}, &backend{})
		c := greeted(t, addr, false)
		c.ask("EHLO x", "250")
		c.ask("STARTTLS", "220")
		held := &holding{Conn: c.raw}
		secure := tls.Client(held, insecure)
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		c.conn, c.r = secure, bufio.NewReader(secure)
		held.hold = true
		c.send(first)
		c.send("MAIL FROM:<a@b.test>\r\n")
		if _, err := c.raw.Write(held.held); err != nil {
			t.Fatal(err)
		}
		held.hold = false
		c.expect("554 5.5.0")
		c.expectClose()
	}
}

// holding keeps back what is written.
type holding struct {
	net.Conn
	hold bool
	held []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}
