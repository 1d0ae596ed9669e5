package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/gateway/mail"
)

// inside is an ordinary server: another's, over real sockets.
type inside struct {
	mu  sync.Mutex
	got []received
}

type received struct {
	from, text string
	to         []string
	size       int64
	utf8       bool
	body       smtp.BodyType
}

func (i *inside) NewSession(*smtp.Conn) (smtp.Session, error) { return &insideSession{inside: i}, nil }

type insideSession struct {
	inside *inside
	received
}

func (s *insideSession) Mail(from string, o *smtp.MailOptions) error {
	s.received = received{from: from, size: o.Size, utf8: o.UTF8, body: o.Body}
	return nil
}

func (s *insideSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "unknown") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *insideSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.text = string(text)
	s.inside.mu.Lock()
	defer s.inside.mu.Unlock()
	s.inside.got = append(s.inside.got, s.received)
	return nil
}

func (s *insideSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	err := s.Data(r)
	for _, to := range s.to {
		if strings.HasPrefix(to, "full") {
			status.SetStatus(to, &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "full"})
		} else {
			status.SetStatus(to, nil)
		}
	}
	return err
}

func (s *insideSession) Reset()        {}
func (s *insideSession) Logout() error { return nil }

func startInside(t *testing.T, network string, configure func(*smtp.Server)) (*inside, string) {
	t.Helper()
	i := &inside{}
	server := smtp.NewServer(i)
	server.Domain, server.EnableSMTPUTF8, server.MaxMessageBytes = "inside.test", true, 20<<20
	if configure != nil {
		configure(server)
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "lmtp.sock")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return i, l.Addr().String()
}

// Many messages at once, in clear and under TLS: each arrives once, and whole.
func TestInside(t *testing.T) {
	a := newAuthority(t)
	secure := func(s *smtp.Server) {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "localhost")}}
	}
	for name, policy := range map[string]TLSPolicy{"clear": TLSNone, "tls": TLSVerify} {
		t.Run(name, func(t *testing.T) {
			in, address := startInside(t, "tcp", secure)
			r := New(Config{Hostname: "gw.test", Connections: 4, RootCAs: a.pool, Resolver: fakeResolver{"host localhost": {"127.0.0.1"}}})
			defer r.Close()
			_, port, _ := net.SplitHostPort(address)
			route := Route{Hosts: []string{"localhost:" + port}, TLS: policy}
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() { sendTen(t, r, route, worker) })
			}
			all.Wait()
			if caps, known := r.Capabilities(route); !known || caps.Size != 20<<20 || !caps.SMTPUTF8 || !caps.Pipelining {
				t.Errorf("capabilities %t %+v", known, caps)
			}
			checkTen(t, in.got)
		})
	}
}

func sendTen(t *testing.T, r *Relay, route Route, worker int) {
	for i := range 10 {
		from := mail.Address{Local: fmt.Sprintf("s %d-%d", worker, i), Domain: "example.org"}
		out, _ := r.Deliver(t.Context(), Job{
			Route: route, ReversePath: from, Content: contentOf(from.String()), EightBit: true,
			Recipients: []mail.Address{{Local: "unknown", Domain: "inside.test"}, {Local: "ä", Domain: "inside.test"}},
		})
		if out[0].Status != Refused || out[0].Reply.Enhanced != "5.1.1" || out[1].Status != Taken {
			t.Errorf("outcomes %+v", out)
		}
	}
}

// contentOf is content of any length up to some blocks, with dots everywhere.
func contentOf(from string) mail.Bytes {
	random := rand.New(rand.NewPCG(1, uint64(len(from))+uint64(from[3])<<8+uint64(from[5])<<16))
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\n\r\n", from)
	n := random.IntN(2000)
	if random.IntN(8) == 0 {
		n = random.IntN(200_000)
	}
	for b.Len() < n {
		b.WriteString([]string{".", "..", "\r\n", "\r\n.", "a line of some length, as lines are\r\n", "ü"}[random.IntN(6)])
	}
	return append(b.Bytes(), "\r\n"...)
}

func checkTen(t *testing.T, got []received) {
	seen := map[string]bool{}
	for _, m := range got {
		want := contentOf(`"` + strings.Trim(strings.Split(m.from, "@")[0], `"`) + `"@example.org`)
		if m.text != string(want) || m.size != want.Size() {
			t.Errorf("%s: %d octets (said %d), want %d", m.from, len(m.text), m.size, want.Size())
		}
		if !slices.Equal(m.to, []string{"ä@inside.test"}) || !m.utf8 || m.body != smtp.Body8BitMIME || seen[m.from] {
			t.Errorf("%+v", m.to)
		}
		seen[m.from] = true
	}
	if len(seen) != 80 {
		t.Errorf("%d messages arrived, want 80", len(seen))
	}
}

func TestInsideLMTP(t *testing.T) {
	in, address := startInside(t, "unix", func(s *smtp.Server) { s.LMTP = true })
	r := New(Config{})
	defer r.Close()
	j := job("lmtp://" + address)
	j.Recipients = []mail.Address{{Local: "a", Domain: "inside.test"}, {Local: "full", Domain: "inside.test"}, {Local: "unknown", Domain: "inside.test"}}
	for range 2 {
		out, _ := r.Deliver(t.Context(), j)
		if out[0].Status != Taken || out[1].Status != Later || out[2].Status != Refused {
			t.Errorf("outcomes %+v", out)
		}
	}
	if len(in.got) != 2 || in.got[1].text != string(hello) {
		t.Errorf("%+v", in.got)
	}
}

// Content in a file goes out in blocks, and many recipients in groups.
func TestInsideLarge(t *testing.T) {
	text := bytes.Repeat([]byte(".\r\n..\r\nsome text\r\n"), 20_000)
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in, address := startInside(t, "tcp", nil)
	r := New(Config{})
	defer r.Close()
	j := job(address)
	j.Content = mail.NewFile(file, 0, int64(len(text)))
	j.Recipients = nil
	for i := range 2*maxGroup + 5 {
		j.Recipients = append(j.Recipients, mail.Address{Local: fmt.Sprint("a", i), Domain: "inside.test"})
	}
	out, _ := r.Deliver(t.Context(), j)
	for _, o := range out {
		if o.Status != Taken {
			t.Fatalf("outcome %+v", o)
		}
	}
	if len(in.got) != 1 || in.got[0].text != string(text) || len(in.got[0].to) != len(j.Recipients) {
		t.Errorf("%d messages arrived, or not as they were sent", len(in.got))
	}
}

func TestInsideVerify(t *testing.T) {
	in, address := startInside(t, "tcp", nil)
	r := New(Config{})
	defer r.Close()
	route := Route{Hosts: []string{address}}
	for local, want := range map[string]Status{"a": Taken, "unknown": Refused} {
		if o := r.Verify(t.Context(), route, mail.Address{Local: local, Domain: "inside.test"}); o.Status != want {
			t.Errorf("%s: %+v", local, o)
		}
	}
	if out, _ := r.Deliver(t.Context(), job(address)); out[0].Status != Taken {
		t.Errorf("%+v", out[0])
	}
	if len(in.got) != 1 {
		t.Errorf("%d messages arrived", len(in.got))
	}
}

// cutter is a connection that breaks once the content begins, behind which the
// server has said something.
type cutter struct {
	net.Conn
	said string
	cut  bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("Subject")) {
		c.cut = true
		return 0, errors.New("broken pipe")
	}
	return c.Conn.Write(b)
}

func (c *cutter) Read(b []byte) (int, error) {
	if c.cut {
		n := copy(b, c.said)
		c.said = ""
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// A server that had enough of the content before its end may say why.
func TestRefusedWithinContent(t *testing.T) {
	tests := []struct {
		said string
		want Status
		code int
	}{
		{"552 5.3.4 too big\r\n", Refused, 552},
		{"451 4.3.0 not now\r\n", Later, 451},
		{"421 4.3.0 closing\r\n", Down, 451},
		{"250 2.0.0 taken\r\n", Down, 451}, // without a final dot nothing is taken
		{"", Down, 451},
	}
	_, address := startInside(t, "tcp", nil)
	for _, test := range tests {
		r := New(Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return &cutter{Conn: c, said: test.said}, err
		}})
		out, _ := r.Deliver(t.Context(), job(address))
		if out[0].Status != test.want || out[0].Reply.Code != test.code {
			t.Errorf("%q: %+v, want %s", test.said, out[0], test.want)
		}
		r.Close()
	}
}

// What can't be sent ends the delivery, with all hosts.
func TestUnsendable(t *testing.T) {
	in, address := startInside(t, "tcp", nil)
	r := New(Config{})
	defer r.Close()
	tests := []struct {
		name   string
		change func(*Job)
		want   Status
		reply  string
	}{
		{"no content", func(j *Job) { j.Content = nil }, Later, "451 4.3.0"},
		{"short content", func(j *Job) { j.Content = lying{mail.Bytes("a\r\n")} }, Later, "451 4.3.0"},
		{"line end in the recipient", func(j *Job) { j.Recipients[0].Domain = "x\r\nRSET" }, Refused, "553 5.1.3"},
		{"bracket in the recipient", func(j *Job) { j.Recipients[0].Domain = "x> SIZE=1" }, Refused, "553 5.1.3"},
		{"line end in the sender", func(j *Job) { j.ReversePath.Local = "x\r\nRSET" }, Refused, "553 5.1.3"},
	}
	for _, test := range tests {
		j := job(address, address)
		test.change(&j)
		if out, late := r.Deliver(t.Context(), j); out[0].Status != test.want || !strings.HasPrefix(out[0].Reply.String(), test.reply) || late != nil {
			t.Errorf("%s: %+v", test.name, out[0])
		}
	}
	if len(in.got) > 0 {
		t.Errorf("%+v arrived", in.got)
	}
	if out, late := r.Deliver(t.Context(), Job{Route: Route{Hosts: []string{address}}, Content: hello}); len(out) != 0 || late != nil {
		t.Errorf("a job without recipients: %+v", out)
	}
}

// A server that is restarted between two messages costs none of them.
func TestInsideRestarted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	r := New(Config{Timeouts: Timeouts{Greeting: 5 * time.Second}})
	defer r.Close()
	for range 3 {
		server := smtp.NewServer(&inside{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(l)
		}()
		if out, _ := r.Deliver(t.Context(), job(address)); out[0].Status != Taken {
			t.Errorf("%+v", out[0])
		}
		server.Close()
		<-done
		if l, err = net.Listen("tcp", address); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if out, _ := r.Deliver(t.Context(), job(address)); out[0].Status != Down {
		t.Errorf("%+v", out[0])
	}
}

// lying is content that is shorter than it says.
type lying struct{ mail.Bytes }

func (lying) Size() int64 { return 4 }
