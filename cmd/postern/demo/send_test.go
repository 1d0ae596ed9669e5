package demo

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

func textprotoConn(t *testing.T, conn net.Conn) *textproto.Conn {
	t.Helper()
	c := textproto.NewConn(conn)
	if _, _, err := c.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	return c
}

// certificate is one that nobody trusts.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// border is a server that answers by a script: by the verb, "." is the final
// dot; what is not in it is a 250. It returns what was said to it.
func border(t *testing.T, script map[string]string) (address string, said func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heard := make(chan string, 1)
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	go func() {
		var b strings.Builder
		defer func() { heard <- b.String() }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		say := func(verb, usual string) {
			if s, has := script[verb]; has {
				usual = s
			}
			_, _ = conn.Write([]byte(usual + "\r\n"))
		}
		say("", "220 border")
		inData := false
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			b.WriteString(line)
			verb := strings.Fields(line + " -")[0]
			switch {
			case inData && strings.HasSuffix(b.String(), "\r\n.\r\n"):
				inData = false
				say(".", "250 2.0.0 OK")
			case inData:
			case verb == "DATA":
				inData = true
				say("DATA", "354 go on")
			case verb == "STARTTLS":
				say(verb, "220 ready")
				if script[verb] == "" {
					conn = tls.Server(conn, config)
					r = bufio.NewReader(conn)
				}
			default:
				say(verb, "250 2.1.0 OK")
			}
		}
	}()
	return l.Addr().String(), func() string { return <-heard }
}

func TestSend(t *testing.T) {
	s := Sample{HELO: "a.example", From: "a@a.example", To: "b@example.com"}
	for name, c := range map[string]struct {
		script      map[string]string
		reply, last string
	}{
		"taken":        {nil, "250 2.0.0 OK", "\r\n.\r\n"},
		"final dot":    {map[string]string{".": "550 5.7.1 no"}, "550 5.7.1 no", "\r\n.\r\n"},
		"recipient":    {map[string]string{"RCPT": "550 5.1.1 who"}, "550 5.1.1 who", "RCPT TO:<b@example.com>\r\n"},
		"sender":       {map[string]string{"MAIL": "451 4.3.0 later"}, "451 4.3.0 later", "MAIL FROM:<a@a.example>\r\n"},
		"several line": {map[string]string{".": "250-2.0.0 one\r\n250 2.0.0 two"}, "250 2.0.0 one\n2.0.0 two", "\r\n.\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			address, said := border(t, c.script)
			reply, err := Send(t.Context(), address, s, []byte("Subject: x\r\n\r\n.dot\r\n"))
			if err != nil || reply != c.reply {
				t.Errorf("%q %v, want %q", reply, err, c.reply)
			}
			heard := strings.TrimSuffix(said(), "QUIT\r\n")
			if !strings.HasSuffix(heard, c.last) || !strings.HasPrefix(heard, "EHLO a.example\r\nSTARTTLS\r\nEHLO a.example\r\n") {
				t.Errorf("said %q", heard)
			}
		})
	}
}

// Without a reply there is nothing to show: that is an error.
func TestSendErrors(t *testing.T) {
	for name, script := range map[string]map[string]string{
		"turned away":   {"": "421 4.3.2 full"},
		"EHLO refused":  {"EHLO": "550 5.0.0 no"},
		"no STARTTLS":   {"STARTTLS": "454 4.7.0 no"},
		"no reply":      {".": "what"},
		"nonsense MAIL": {"MAIL": "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := border(t, script)
			if reply, err := Send(t.Context(), address, Sample{HELO: "a"}, nil); err == nil {
				t.Errorf("no error: %q", reply)
			}
		})
	}
	if _, err := Send(t.Context(), "127.0.0.1:1", Sample{}, nil); err == nil {
		t.Error("no error where nobody listens")
	}
}

// The end of the context ends a session whose server is silent.
func TestSendCancelled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Send(ctx, l.Addr().String(), Sample{}, nil); err == nil {
		t.Error("no error")
	}
}
