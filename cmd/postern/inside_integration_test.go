//go:build integration

package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// arrival is a message that the server inside took.
type arrival struct {
	from    string
	to      []string
	content []byte
	at      time.Time
	lmtp    bool // RFC 2033: an answer to the final dot for each recipient
}

// inside is a mail server inside that keeps all it gets and can misbehave. Its
// hooks may be changed with set, and run on the connections' goroutines.
type inside struct {
	address string
	t       *testing.T

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool // false: closed by stop
	mail     []arrival
	dots     int // contents that came whole
	dot      func(arrival) string
	rcpt     func(address string) string
	offers   string // extensions, one a line
}

// newInside starts a server that takes everything.
func newInside(t *testing.T) *inside {
	t.Helper()
	in := &inside{t: t, address: freeAddress(), conns: map[net.Conn]bool{}, offers: "PIPELINING\n8BITMIME\nSMTPUTF8\nSIZE 100000000"}
	in.start()
	t.Cleanup(in.stop)
	return in
}

// set changes how the server answers: to a recipient, and to the final dot. nil
// is 250.
func (in *inside) set(rcpt func(string) string, dot func(arrival) string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rcpt, in.dot = rcpt, dot
}

// start listens, again after a stop.
func (in *inside) start() {
	l, err := net.Listen("tcp", in.address)
	// A process that is just being started has a copy of the old listener for a
	// moment.
	for until := time.Now().Add(patience); err != nil && time.Now().Before(until); l, err = net.Listen("tcp", in.address) {
		pause()
	}
	if err != nil {
		in.t.Error(err)
		return
	}
	in.mu.Lock()
	in.listener = l
	in.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in.mu.Lock()
			open := in.listener == l
			if open {
				in.conns[c] = true
			}
			in.mu.Unlock()
			if !open {
				_ = c.Close()
				return
			}
			go in.serve(c)
		}
	}()
}

// stop hangs up on everybody and listens no longer, as a server that is switched
// off.
func (in *inside) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.listener == nil {
		return
	}
	_ = in.listener.Close()
	in.listener = nil
	for c := range in.conns {
		_ = c.Close()
		in.conns[c] = false
	}
}

func (in *inside) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		in.mu.Lock()
		delete(in.conns, c)
		in.mu.Unlock()
	}()
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	r := textproto.NewReader(bufio.NewReader(c))
	var a arrival
	fmt.Fprintf(c, "220 inside.example.com ESMTP\r\n")
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		reply := in.command(&a, line)
		if strings.EqualFold(line, "DATA") && len(a.to) > 0 {
			fmt.Fprintf(c, "354 go on\r\n")
			if a.content, err = readContent(r.R); err != nil {
				return
			}
			if !in.take(c, a) {
				return
			}
			a = arrival{lmtp: a.lmtp}
			continue
		}
		if _, err := fmt.Fprintf(c, "%s\r\n", reply); err != nil || strings.HasPrefix(reply, "221") {
			return
		}
	}
}

// command answers all but DATA.
func (in *inside) command(a *arrival, line string) string {
	verb, argument, _ := strings.Cut(line, ":")
	address, _, _ := strings.Cut(strings.TrimPrefix(argument, "<"), ">")
	switch verb = strings.ToUpper(verb); {
	case strings.HasPrefix(verb, "EHLO"), strings.HasPrefix(verb, "LHLO"):
		a.lmtp = verb[0] == 'L'
		return strings.ReplaceAll("250-"+strings.ReplaceAll(in.offers, "\n", "\r\n250-"), "250-SIZE", "250 SIZE")
	case verb == "MAIL FROM":
		*a = arrival{from: address, lmtp: a.lmtp}
	case verb == "RCPT TO":
		in.mu.Lock()
		ask := in.rcpt
		in.mu.Unlock()
		if ask != nil {
			if reply := ask(address); reply != "" {
				return reply
			}
		}
		a.to = append(a.to, address)
	case verb == "RSET":
		*a = arrival{lmtp: a.lmtp}
	case verb == "QUIT":
		return "221 2.0.0 bye"
	case verb == "DATA":
		return "554 5.5.1 no valid recipients"
	}
	return "250 2.0.0 OK"
}

// readContent reads to the final dot, and unstuffs. Unlike net/textproto it
// changes nothing else.
func readContent(r *bufio.Reader) ([]byte, error) {
	var content []byte
	for bol := true; ; {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		if bol && string(line) == ".\r\n" {
			return content, nil
		}
		if bol && line[0] == '.' {
			line = line[1:]
		}
		content = append(content, line...)
		bol = bytes.HasSuffix(content, []byte("\r\n"))
	}
}

// take answers the final dot, and says whether it could. A message is there
// exactly where its sender hears so: neither is done once the server stopped.
func (in *inside) take(c net.Conn, a arrival) bool {
	in.mu.Lock()
	in.dots++
	answer := in.dot
	in.mu.Unlock()
	reply := ""
	if answer != nil {
		reply = answer(a) // may take its time
	}
	if reply == "" {
		reply = "250 2.0.0 taken"
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.conns[c] {
		return false
	}
	if reply[0] == '2' {
		a.at = time.Now()
		in.mail = append(in.mail, a)
	}
	answers := 1
	if a.lmtp {
		answers = len(a.to)
	}
	_, err := fmt.Fprint(c, strings.Repeat(reply+"\r\n", answers))
	return err == nil
}

// all are the messages that arrived so far.
func (in *inside) all() []arrival {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]arrival(nil), in.mail...)
}

// attempts is how many contents came whole, taken or not.
func (in *inside) attempts() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.dots
}

// quiet says that nobody is connected.
func (in *inside) quiet() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.conns) == 0
}

// clear forgets what arrived.
func (in *inside) clear() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mail, in.dots = nil, 0
}

// only waits for the one message there is to be, and returns it.
func (in *inside) only(t *testing.T) arrival {
	t.Helper()
	eventually(t, "a message arrives inside", func() bool { return len(in.all()) > 0 })
	list := in.all()
	if len(list) != 1 {
		t.Fatalf("%d messages inside, want 1", len(list))
	}
	return list[0]
}

// none says that nothing arrived.
func (in *inside) none(t *testing.T) {
	t.Helper()
	if list := in.all(); len(list) > 0 {
		t.Errorf("%d messages inside, want none; the first:\n%.1000s", len(list), list[0].content)
	}
}

var field = regexp.MustCompile(`^([!-9;-~]+):`)

// added returns the fields that stand in front of original in got. Anything else
// that was changed fails the test.
func added(t *testing.T, got, original []byte) map[string][]string {
	t.Helper()
	if !bytes.HasSuffix(got, original) {
		t.Fatalf("what arrived (%d octets) does not end in what was sent (%d octets):\n%.2000q\nsent:\n%.2000q\ntheir ends: %q, %q",
			len(got), len(original), got, original, got[max(0, len(got)-200):], original[max(0, len(original)-200):])
	}
	fields := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(got[:len(got)-len(original)])) {
		switch found := field.FindStringSubmatch(line); {
		case !strings.HasSuffix(line, "\r\n"):
			t.Errorf("added line without its end: %q", line)
		case found != nil:
			name = found[1]
			fields[name] = append(fields[name], strings.TrimSpace(line[len(found[0]):]))
		case name != "" && (line[0] == ' ' || line[0] == '\t'):
			values := fields[name]
			values[len(values)-1] += " " + strings.TrimSpace(line)
		default:
			t.Errorf("added line that is no field: %q", line)
		}
	}
	return fields
}
