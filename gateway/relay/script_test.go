package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

// A script in testdata is one job, what has to become of it, and what each
// connection sees. Its head has lines "key: value":
//
//	hosts:    the route, in order          tls:      its policy
//	domain:   its domain                   from: to: the envelope
//	verify:   a recipient, instead of from and to
//	content:  a quoted string              utf8: 8bit: "yes"
//	answer: late: deadline:                durations
//	mx:       a domain, then preference and name of each exchanger
//	host:     a name and its addresses ("fail" is a temporary error)
//	self:     our own address
//	want:     recipient, status, reply, @next hop, and what the error holds
//	          behind "|"; one line an outcome, in order
//	then:     the same for late outcomes
//	took:     how long Deliver was under way
//	caps:     what is known of the route afterwards
//
// Then one section for each connection that is dialled, "-- host:port --", in
// order for each address. An address without one refuses connections. In it:
//
//	< text     the server says      > text    the client has to say
//	* data     the content, up to the final dot, as the job has it
//	* cut      the connection ends before a final dot
//	* dot      a final dot and nothing before it
//	* eof      the client closes    * close   the server does
//	* sleep D  the server is silent * raw Q   the server says a quoted string
//	* tls X    a handshake: X is the name of the certificate, or "fail"
//
// Behind the end only QUIT is expected. Time is not real.
type script struct {
	job      Job
	verify   bool
	deadline time.Duration
	resolver fakeResolver
	self     netip.AddrPort
	want     []string
	then     []string
	took     string
	caps     string
	sessions map[string][][]string // lines, by address
}

var hello = mail.Bytes("Subject: x\r\n\r\nhello\r\n")

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	authority := newAuthority(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := readScript(t, file)
			synctest.Test(t, func(t *testing.T) { s.play(t, authority) })
		})
	}
}

func readScript(t *testing.T, file string) *script {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{sessions: map[string][][]string{}, resolver: fakeResolver{}}
	s.job.Content = hello
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		name, isSection := strings.CutPrefix(line, "-- ")
		switch {
		case line == "" || line[0] == '#':
		case isSection:
			section = strings.TrimSuffix(name, " --")
			s.sessions[section] = append(s.sessions[section], nil)
		case section != "":
			all := s.sessions[section]
			all[len(all)-1] = append(all[len(all)-1], line)
		default:
			key, value, _ := strings.Cut(line, ":")
			s.head(t, key, strings.TrimSpace(value))
		}
	}
	return s
}

func (s *script) head(t *testing.T, key, value string) {
	t.Helper()
	var err error
	words := strings.Fields(value)
	switch key {
	case "hosts":
		s.job.Route.Hosts = words
	case "tls":
		err = s.job.Route.TLS.UnmarshalText([]byte(value))
	case "domain":
		s.job.Route.Domain = value
	case "from":
		s.job.ReversePath, err = mail.ParseAddress(value)
	case "to", "verify":
		s.verify = key == "verify"
		for _, w := range words {
			a, parseErr := mail.ParseAddress(w)
			err = errors.Join(err, parseErr)
			s.job.Recipients = append(s.job.Recipients, a)
		}
	case "content":
		var text string
		text, err = strconv.Unquote(value)
		s.job.Content = mail.Bytes(text)
	case "utf8":
		s.job.SMTPUTF8 = value == "yes"
	case "8bit":
		s.job.EightBit = value == "yes"
	case "answer":
		s.job.Answer, err = time.ParseDuration(value)
	case "late":
		s.job.Late, err = time.ParseDuration(value)
	case "deadline":
		s.deadline, err = time.ParseDuration(value)
	case "mx", "host":
		s.resolver[key+" "+words[0]] = words[1:]
	case "self":
		s.self, err = netip.ParseAddrPort(value)
	case "want":
		s.want = append(s.want, value)
	case "then":
		s.then = append(s.then, value)
	case "took":
		s.took = value
	case "caps":
		s.caps = value
	default:
		err = fmt.Errorf("unknown key %q", key)
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
}

func (s *script) play(t *testing.T, a *authority) {
	n := &network{t: t, sessions: s.sessions, authority: a, content: s.job.Content}
	config := Config{Hostname: "gw.test", Resolver: s.resolver, Dial: n.dial, RootCAs: a.pool}
	if s.self.IsValid() {
		config.IsSelf = func(a netip.AddrPort) bool { return a == s.self }
	}
	r := New(config)
	ctx, cancel := context.Background(), func() {}
	if s.deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.deadline)
	}
	start := time.Now()
	var outcomes []Outcome
	var late <-chan []Outcome
	if s.verify {
		outcomes = []Outcome{r.Verify(ctx, s.job.Route, s.job.Recipients[0])}
	} else {
		outcomes, late = r.Deliver(ctx, s.job)
	}
	cancel()
	took := time.Since(start)
	compare(t, "outcome", s.want, outcomes)
	if s.took != "" && took.String() != s.took {
		t.Errorf("took %s, want %s", took, s.took)
	}
	if late != nil {
		compare(t, "late outcome", s.then, <-late)
		if _, open := <-late; open {
			t.Error("late yielded more than one slice")
		}
	} else if len(s.then) > 0 {
		t.Error("nothing was late")
	}
	if s.caps != "" {
		caps, known := r.Capabilities(s.job.Route)
		if got := fmt.Sprintf("%t %+v", known, caps); got != s.caps {
			t.Errorf("capabilities %s, want %s", got, s.caps)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	n.finish()
}

func compare(t *testing.T, what string, want []string, got []Outcome) {
	t.Helper()
	var lines []string
	for i, o := range got {
		line := strings.TrimRight(fmt.Sprintf("%s %s %s", o.Recipient, o.Status, o.Reply), " ") + " @" + o.NextHop
		if o.TooBig {
			line += " too-big"
		}
		if i < len(want) {
			_, holds, has := strings.Cut(want[i], " | ")
			switch {
			case has && o.Err != nil && strings.Contains(o.Err.Error(), holds):
				line += " | " + holds
			case o.Err != nil && (has || o.Reply.Code == 0):
				line += " | " + o.Err.Error()
			}
		}
		if o.Time.IsZero() || o.Status == 0 {
			t.Errorf("%s %d is not set: %+v", what, i, o)
		}
		lines = append(lines, line)
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("%ss (-want +got):\n%s", what, diff)
	}
}

// newNetwork has sessions with one host, "one:25", as scripts have them.
func newNetwork(t *testing.T, sessions ...string) *network {
	n := &network{t: t, content: hello, sessions: map[string][][]string{}}
	for _, s := range sessions {
		n.sessions["one:25"] = append(n.sessions["one:25"], strings.Split(strings.TrimSpace(s), "\n"))
	}
	return n
}

// network plays the servers of a script.
type network struct {
	t         *testing.T
	authority *authority
	content   mail.Content
	servers   sync.WaitGroup

	mu       sync.Mutex
	sessions map[string][][]string
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	left := n.sessions[address]
	if len(left) > 0 {
		n.sessions[address] = left[1:]
	}
	n.mu.Unlock()
	switch {
	case len(left) == 0:
		return nil, errors.New("connection refused")
	case slices.Equal(left[0], []string{"* swallow"}):
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	n.servers.Go(func() {
		defer theirs.Close()
		s := &server{network: n, Conn: theirs, in: bufio.NewReader(theirs)}
		for _, line := range left[0] {
			if err := s.step(line); err != nil {
				n.t.Errorf("%s: at %q: %v", address, line, err)
				return
			}
		}
		s.end(address)
	})
	return ours, nil
}

// finish waits for the servers, and sees that all were asked.
func (n *network) finish() {
	n.servers.Wait()
	for address, left := range n.sessions {
		if len(left) > 0 {
			n.t.Errorf("%s: %d sessions were not opened", address, len(left))
		}
	}
}

type server struct {
	*network
	net.Conn
	in     *bufio.Reader
	closed bool
}

func (s *server) step(line string) error {
	kind, arg, _ := strings.Cut(line, " ")
	switch kind {
	case "<":
		_, err := io.WriteString(s.Conn, arg+"\r\n")
		return err
	case ">":
		got, err := s.in.ReadString('\n')
		if got != arg+"\r\n" {
			return fmt.Errorf("client said %q (%v)", got, err)
		}
		return nil
	case "*":
		return s.act(arg)
	}
	return errors.New("not a step")
}

func (s *server) act(arg string) error {
	verb, arg, _ := strings.Cut(arg, " ")
	switch verb {
	case "data":
		return s.data()
	case "dot":
		got, err := s.in.ReadString('\n')
		if got != ".\r\n" {
			return fmt.Errorf("client said %q (%v)", got, err)
		}
		return nil
	case "cut":
		got, err := io.ReadAll(s.in)
		if strings.Contains("\r\n"+string(got), "\r\n.\r\n") {
			return fmt.Errorf("whole content %q (%v)", got, err)
		}
		s.closed = true
		return nil
	case "eof":
		s.closed = true
		if got, _ := io.ReadAll(s.in); len(got) > 0 && string(got) != "QUIT\r\n" {
			return fmt.Errorf("client said %q", got)
		}
		return nil
	case "close":
		s.closed = true
		return s.Close()
	case "sleep":
		d, err := time.ParseDuration(arg)
		time.Sleep(d)
		return err
	case "raw":
		text, err := strconv.Unquote(arg)
		if err == nil {
			_, err = io.WriteString(s.Conn, text)
		}
		return err
	case "tls":
		return s.tls(arg)
	}
	return errors.New("no such act")
}

// data reads the content and compares it with the job's.
func (s *server) data() error {
	var got strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, "\r\n") {
			return fmt.Errorf("content ends in %q: %w", line, err)
		}
		if line == ".\r\n" {
			break
		}
		got.WriteString(strings.TrimPrefix(line, "."))
	}
	want, err := io.ReadAll(mail.NewReader(s.content))
	if err == nil && len(want) > 0 && want[len(want)-1] != '\n' {
		want = append(want, "\r\n"...)
	}
	if got.String() != string(want) {
		return fmt.Errorf("content %q, want %q (%w)", got.String(), want, err)
	}
	return nil
}

func (s *server) tls(name string) error {
	if name == "fail" {
		_, _ = s.in.ReadByte() // of the client's hello
		_, err := io.WriteString(s.Conn, "220 what is TLS?\r\n")
		s.closed = true
		return errors.Join(err, s.Close())
	}
	// A ticket would be written while the client writes EHLO, and a pipe has no room.
	c := tls.Server(s.Conn, &tls.Config{Certificates: []tls.Certificate{s.authority.issue(s.t, name)}, SessionTicketsDisabled: true})
	if err := c.Handshake(); err != nil {
		s.closed = true
		return s.Close() // the client may not like the certificate; the script says what comes of it
	}
	s.Conn, s.in = c, bufio.NewReader(c)
	return nil
}

func (s *server) end(address string) {
	if s.closed {
		return
	}
	line, err := s.in.ReadString('\n')
	switch {
	case line == "QUIT\r\n":
		_, _ = io.WriteString(s.Conn, "221 2.0.0 bye\r\n")
	case line != "":
		s.t.Errorf("%s: client said %q behind the script (%v)", address, line, err)
	}
}

type fakeResolver map[string][]string

func (f fakeResolver) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	words, err := f.find("mx", name)
	var mxs []*net.MX
	for i := 0; i+1 < len(words); i += 2 {
		pref, _ := strconv.Atoi(words[i])
		mxs = append(mxs, &net.MX{Host: words[i+1], Pref: uint16(pref)})
	}
	return mxs, err
}

func (f fakeResolver) LookupHost(_ context.Context, name string) ([]string, error) {
	words, err := f.find("host", name)
	if err != nil && len(f) == 0 { // scripts that are not about names
		return []string{name}, nil
	}
	return words, err
}

func (f fakeResolver) find(kind, name string) ([]string, error) {
	words, ok := f[kind+" "+name]
	switch {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case slices.Equal(words, []string{"fail"}):
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	}
	return words, nil
}

// authority issues certificates that hold in a bubble's time, too.
type authority struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.root = certificate("root")
	a.root.IsCA, a.root.BasicConstraintsValid = true, true
	der, err := x509.CreateCertificate(rand.Reader, a.root, a.root, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.root)
	return a
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, certificate(name), a.root, &a.key.PublicKey, a.key)
	if err != nil {
		t.Error(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}
