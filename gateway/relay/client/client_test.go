package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/gateway/mail"
)

// The dialogues are tested by the scripts of package relay; here stands what a
// script can't see.

func listen(t *testing.T, serve func(net.Conn)) Options {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	minute := Timeouts{Connect: time.Minute, Greeting: time.Minute, Command: time.Minute, Data: time.Minute, Block: time.Minute}
	return Options{Hostname: "gw.test", Timeouts: minute, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
}

const welcome = "220 one\r\n250 one\r\n"

// Content that may not leave ends the connection by a reset: a server that
// takes an end of data from an end of the connection sees neither.
func TestAbortResets(t *testing.T) {
	saw := make(chan error, 1)
	o := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, welcome)
		_, err := io.ReadAll(c)
		saw <- err
	})
	c, err := Dial(t.Context(), "tcp", "", o)
	if err != nil {
		t.Fatal(err)
	}
	var own *ContentError
	if err := c.SendContent(t.Context(), mail.Bytes("a\nb\r\n")); !errors.As(err, &own) || !errors.Is(err, ErrNotStrict) || c.Usable() {
		t.Error(err)
	}
	if err := <-saw; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server saw %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	o := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "554-5.7.1 not\r\n554 5.7.1 you\r\n")
		_, _ = io.ReadAll(c)
	})
	_, err := Dial(t.Context(), "tcp", "", o)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reply != (mail.Reply{Code: 554, Enhanced: "5.7.1", Text: "not you"}) {
		t.Error(err)
	}
	if !strings.Contains(err.Error(), "554 5.7.1 not you") {
		t.Error(err)
	}
}

// A context that ends after it was freed has no effect on what follows.
func TestBindFreed(t *testing.T) {
	o := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, welcome)
		buf := make([]byte, 100)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			_, _ = io.WriteString(c, "250 ok\r\n")
		}
	})
	c, err := Dial(t.Context(), "tcp", "", o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Receive(t.Context()) // the server answers EHLO twice
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		free := c.Bind(ctx)
		go cancel()
		free()
		if _, err := c.Ask(t.Context(), "NOOP"); err != nil {
			t.Fatal(err)
		}
	}
}

// An answer that timed out is read on; one that came to an end is not.
func TestAwait(t *testing.T) {
	more := make(chan struct{})
	o := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, welcome+"250-a")
		<-more
		_, _ = io.WriteString(c, "b\r\n250 c\r\n")
	})
	c, err := Dial(t.Context(), "tcp", "", o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if _, err := c.Await(time.Now()); !TimedOut(err) {
			t.Fatal(err)
		}
	}
	close(more)
	rep, err := c.Await(time.Now().Add(time.Minute))
	if err != nil || rep.Mail().Text != "ab c" {
		t.Errorf("%+v, %v", rep.Mail(), err)
	}
	if _, err := c.Await(time.Now().Add(time.Minute)); err == nil || TimedOut(err) || c.Usable() {
		t.Error(err)
	}
}
