package demo

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"postern/gateway/mail"
)

// Inside is a mail server with a few users. It keeps what it gets in memory.
// Its methods may be called at once, but for Open and Close.
type Inside struct {
	server   *smtp.Server
	listener net.Listener
	address  string // of the first Open, and of all later ones
	served   chan struct{}

	mu  sync.Mutex
	got []Arrival
}

// Arrival is a message that arrived.
type Arrival struct {
	To      []string
	Content []byte
}

// Field is a field of its header, decoded; "" is none.
func (a Arrival) Field(name string) string {
	m := mail.Message{Content: mail.Bytes(a.Content)}
	m.Parse(mail.DefaultLimits)
	for _, f := range m.Header.All(name) {
		return f.Text()
	}
	return ""
}

// Open lets the gateway in: the first time at a free loopback port, and then at
// the same again.
func (i *Inside) Open() error {
	address := i.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("mail server inside: %w", err)
	}
	i.listener, i.address = l, l.Addr().String()
	i.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &box{inside: i}, nil }))
	i.server.Domain, i.server.EnableSMTPUTF8, i.server.MaxLineLength = "mail."+Domain, true, 1<<20
	i.server.ErrorLog = silence{}
	i.served = make(chan struct{})
	go func(server *smtp.Server, served chan struct{}) {
		defer close(served)
		_ = server.Serve(l) // until Close
	}(i.server, i.served)
	return nil
}

// Close makes the server go away, with all connections to it.
func (i *Inside) Close() {
	_ = i.listener.Close() // the server does not know it before its first turn
	_ = i.server.Close()
	<-i.served
}

// Address is "host:port".
func (i *Inside) Address() string { return i.address }

// Arrived is what has come so far, in order.
func (i *Inside) Arrived() []Arrival {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.got)
}

// silence is a log for nobody: connections that break are part of the show.
type silence struct{}

func (silence) Printf(string, ...any) {}
func (silence) Println(...any)        {}

// box is one session with the server inside.
type box struct {
	inside *Inside
	to     []string
}

// Mail implements smtp.Session.
func (b *box) Mail(string, *smtp.MailOptions) error { b.to = nil; return nil }

// Rcpt implements smtp.Session: only users get mail.
func (b *box) Rcpt(to string, _ *smtp.RcptOptions) error {
	local, domain, _ := strings.Cut(to, "@")
	if !slices.Contains(Users[:], strings.ToLower(local)) || !strings.EqualFold(domain, Domain) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
	}
	b.to = append(b.to, to)
	return nil
}

// Data implements smtp.Session.
func (b *box) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b.inside.mu.Lock()
	defer b.inside.mu.Unlock()
	b.inside.got = append(b.inside.got, Arrival{To: b.to, Content: content})
	return nil
}

// Reset implements smtp.Session.
func (b *box) Reset() { b.to = nil }

// Logout implements smtp.Session.
func (b *box) Logout() error { return nil }
