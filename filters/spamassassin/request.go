package spamassassin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"postern/filters/engine"
	"postern/gateway/mail"
)

var userName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,255}$`)

// request is what spamd is shown of one message.
type request struct {
	user    string
	trace   string
	content mail.Content
	head    int64 // octets of the content that are shown
	reverse bool  // the trace says truly whether the client has a name
}

// request makes the request for m.
func (f *Filter) request(ctx context.Context, m *mail.Message) *request {
	q := &request{
		user:    f.config.User,
		content: m.Content,
		head:    min(m.Content.Size(), f.config.MaxSize),
	}
	client := m.Client.Addr.Addr().Unmap()
	if !client.IsValid() {
		// It did not come from a client: a file. It has its trace already.
		q.reverse = true
		return q
	}
	name := ""
	if f.config.Reverse != nil {
		var err error
		name, err = f.config.Reverse(ctx, client)
		q.reverse = err == nil
	}
	q.trace = f.trace(m, name)
	return q
}

// trace is the trace information (RFC 5321, section 4.4) of the border, which
// the message does not bear yet: spamd's rules on the client read it from there.
//
// QUIRK: the client's name must never be taken from HELO, though that looks
// natural. SpamAssassin trusts the name in this place, and welcomes famous
// senders by it.
func (f *Filter) trace(m *mail.Message, name string) string {
	if name == "" {
		name = "unknown"
	}
	received := m.Received
	if received.IsZero() {
		received = time.Now()
	}
	return fmt.Sprintf("X-Envelope-From: <%s>\r\nReceived: from %s (%s [%s])\r\n\tby %s (Postern) with %s id %s;\r\n\t%s\r\n",
		clean(m.Envelope.ReversePath.String(), " "),
		word(m.Client.HELO), word(name), literal(m.Client.Addr.Addr()),
		word(f.config.Hostname), m.Client.Protocol(false), word(m.ID),
		received.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
}

// literal is the client's address as it stands between brackets (RFC 5321,
// section 4.1.3).
func literal(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return "IPv6:" + a.String()
	}
	return a.String()
}

// maxWord bounds what strangers chose within the trace, in octets.
const maxWord = 255

// word is s as one word of a Received field: what a client said must not become
// another part of it.
func word(s string) string {
	if s = clean(s, " ()<>;\"\\"); s == "" {
		return "unknown"
	}
	return s
}

// clean bounds s, and replaces control characters and those of not.
func clean(s, not string) string {
	s = s[:min(len(s), maxWord)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(not, r) {
			return '?'
		}
		return r
	}, s)
}

// ask sends the request and reads the answer.
func (q *request) ask(c net.Conn) (answer, error) {
	sent := q.send(c)
	if errors.Is(sent, engine.ErrContent) {
		return answer{}, sent
	}
	// spamd may refuse before it has read all: its word says more than the
	// failed write.
	response, err := readResponse(c)
	switch {
	case err != nil && sent != nil:
		return answer{}, fmt.Errorf("spamd: send: %w", sent)
	case err != nil:
		return answer{}, fmt.Errorf("spamd: %w", err)
	}
	a, err := parse(response)
	if err == nil && sent != nil && a.refused == nil {
		return answer{}, fmt.Errorf("spamd: answer before it had all: %w", sent)
	}
	return a, err
}

// send writes the request and closes the connection for writing, which tells
// spamd that no more comes.
func (q *request) send(c net.Conn) error {
	w := bufio.NewWriterSize(c, 64<<10)
	fmt.Fprintf(w, "REPORT SPAMC/1.5\r\nContent-length: %d\r\n", int64(len(q.trace))+q.head)
	if q.user != "" {
		fmt.Fprintf(w, "User: %s\r\n", q.user)
	}
	fmt.Fprintf(w, "\r\n%s", q.trace)
	from := &source{r: io.NewSectionReader(q.content, 0, q.head)}
	n, err := io.Copy(w, from)
	switch {
	case from.err != nil:
		return fmt.Errorf("%w: %w", engine.ErrContent, from.err)
	case err == nil && n != q.head:
		return fmt.Errorf("%w: %w", engine.ErrContent, io.ErrUnexpectedEOF)
	case err != nil:
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// source remembers whether it was reading that failed.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// ping is the probe.
func ping(c net.Conn) error {
	if _, err := io.WriteString(c, "PING SPAMC/1.5\r\n\r\n"); err != nil {
		return fmt.Errorf("spamd: PING: %w", err)
	}
	line, err := bufio.NewReaderSize(io.LimitReader(c, maxLine), maxLine).ReadString('\n')
	if err != nil {
		return fmt.Errorf("spamd: PING: %w", err)
	}
	code, text, ok := status(strings.TrimRight(line, "\r\n"))
	if !ok || code != 0 || text != "PONG" {
		return fmt.Errorf("spamd: PING: %w: %q", errResponse, line)
	}
	return nil
}
