package relay

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// sink is the least that an inside server can do.
func sink(b testing.TB) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go swallow(c)
		}
	}()
	return l.Addr().String()
}

func swallow(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	out := bufio.NewWriter(c)
	say := func(s string) { _, _ = out.WriteString(s) }
	say("220 sink\r\n")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("EHLO")):
			say("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			say("354 go on\r\n")
			_ = out.Flush()
			for line, err = in.ReadSlice('\n'); err == nil && string(line) != ".\r\n"; line, err = in.ReadSlice('\n') {
			}
			say("250 2.0.0 Ok: queued as 4XYZ\r\n")
		case bytes.HasPrefix(line, []byte("QUIT")):
			return
		default:
			say("250 2.1.0 Ok\r\n")
		}
	}
}

func benchmarkDeliver(b *testing.B, parallelism int) {
	r := New(Config{Connections: parallelism * 2})
	defer r.Close()
	text := mail.Bytes("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", 34_000/76))
	job := Job{
		Route: Route{Hosts: []string{sink(b)}}, ReversePath: mail.Address{Local: "s", Domain: "example.org"},
		Recipients: []mail.Address{{Local: "a", Domain: "inside.test"}}, Content: text,
	}
	b.SetParallelism(parallelism)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for pb.Next() {
			if out, _ := r.Deliver(ctx, job); out[0].Status != Taken {
				b.Errorf("outcome %+v", out[0])
				return
			}
		}
	})
}

// The hop as it is: 34 KB, the mean of real mail.
func BenchmarkDeliver1(b *testing.B)  { benchmarkDeliver(b, 1) }
func BenchmarkDeliver16(b *testing.B) { benchmarkDeliver(b, 16) }
