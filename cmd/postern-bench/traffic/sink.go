package traffic

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Domain is the one whose mail is measured. Its users are those whose names
// begin with "user": a server that takes any name would be taken for a catch-all
// by what verifies recipients.
const Domain = "bench.example"

// headSize is how much of a content is searched for the token.
const headSize = 16 << 10

// silence is how long the sink and the sender wait for the other side.
const silence = 10 * time.Minute

// Sink is the server inside: it takes everything for its users as fast as it
// can, throws it away, and counts.
type Sink struct {
	listener net.Listener
	current  atomic.Pointer[Ledger]
	strays   atomic.Int64
}

// Listen opens a sink on a free port of the loopback.
func Listen() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{listener: l}
	go s.serve()
	return s, nil
}

// Address is where it listens.
func (s *Sink) Address() string { return s.listener.Addr().String() }

func (s *Sink) serve() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: some will be free soon
			continue
		}
		go s.session(c)
	}
}

// session speaks RFC 5321 with one client, whatever it pipelines (RFC 2920):
// replies are sent when no further command is at hand.
func (s *Sink) session(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	out := []byte("220 sink.example ESMTP\r\n")
	head := make([]byte, 0, headSize)
	for {
		if len(out) > 0 && r.Buffered() == 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		_ = c.SetReadDeadline(time.Now().Add(silence)) // fails only on a closed connection
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		out = append(out, answer(line)...)
		switch verb(line) {
		case "DATA":
			if _, err := c.Write(out); err != nil {
				return
			}
			if head, err = readContent(r, head[:0]); err != nil {
				return
			}
			s.take(head)
			out = append(out[:0], "250 2.0.0 taken\r\n"...)
		case "QUIT":
			_, _ = c.Write(out) // the client may be gone by now
			return
		}
	}
}

// verb is the first four letters of a command.
func verb(line []byte) string {
	return strings.ToUpper(string(line[:min(4, len(line))]))
}

// answer is the reply to one command.
func answer(line []byte) string {
	switch verb(line) {
	case "EHLO":
		return "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n"
	case "HELO":
		return "250 sink.example\r\n"
	case "MAIL", "RSET", "NOOP":
		return "250 2.0.0 ok\r\n"
	case "RCPT":
		if !knownRecipient(line) {
			return "550 5.1.1 no such user\r\n"
		}
		return "250 2.1.5 ok\r\n"
	case "DATA":
		return "354 go on\r\n"
	case "QUIT":
		return "221 2.0.0 bye\r\n"
	}
	return "502 5.5.1 unknown command\r\n"
}

func knownRecipient(line []byte) bool {
	_, path, _ := bytes.Cut(bytes.ToLower(line), []byte("<"))
	return bytes.HasPrefix(path, []byte("user")) || bytes.HasPrefix(path, []byte("postmaster"))
}

// readContent reads to the final dot, throws the content away but for its first
// headSize octets, and leaves the reader behind the dot.
func readContent(r *bufio.Reader, head []byte) ([]byte, error) {
	end := []byte("\r\n.\r\n")
	if b, err := r.Peek(3); err == nil && bytes.Equal(b, end[2:]) {
		_, err = r.Discard(3)
		return head, err
	}
	for {
		if _, err := r.Peek(len(end)); err != nil { // waits for at least one octet that is new
			return head, io.ErrUnexpectedEOF
		}
		b, _ := r.Peek(r.Buffered())
		at := bytes.Index(b, end)
		n := len(b) - len(end) + 1 // what is left may be the beginning of the end
		if at >= 0 {
			n = at + len(end)
		}
		head = append(head, b[:min(n, cap(head)-len(head))]...)
		if _, err := r.Discard(n); err != nil || at >= 0 {
			return head, err
		}
	}
}

// take counts one message.
func (s *Sink) take(head []byte) {
	round, index, ok := findToken(head)
	l := s.current.Load()
	if !ok || l == nil || l.round != round {
		s.strays.Add(1)
		return
	}
	l.arrive(index)
}

// Count lets the messages of a round be counted, and no others.
func (s *Sink) Count(l *Ledger) { s.current.Store(l) }

// Strays is how many messages came without a token, or of a round that was over.
func (s *Sink) Strays() int64 { return s.strays.Load() }

// Close lets no further client in.
func (s *Sink) Close() error { return s.listener.Close() }
