//go:build !race

// The race detector changes what time and memory these take, and there is
// nothing concurrent in them.

package mail

import (
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processorTime is what the process has used: other than the clock's, it stays
// the same on a machine that is busy.
func processorTime(t testing.TB) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano())
}

// hostile are contents that make careless readers slow or large.
func hostile() map[string][]byte {
	boundaries := deep(31)
	return map[string][]byte{
		"50000 parts":       multipart(50_000),
		"2000 levels":       deep(2000),
		"2000 messages":     matryoshka(2000),
		"4 MB header":       []byte(someHeader + strings.Repeat("X-Filler: some octets that fill the line up to its end\r\n", 70_000) + "\r\nx\r\n"),
		"4 MB field":        []byte(someHeader + "Subject: " + strings.Repeat("=?utf-8?Q?", 400_000) + "\r\n\r\nx\r\n"),
		"4 MB folded":       []byte(someHeader + "Subject: x" + strings.Repeat("\r\n x", 1<<20) + "\r\n\r\nx\r\n"),
		"4 MB without end":  []byte(strings.Repeat("x\r\n", 4<<20/3)),
		"4 MB one line":     []byte(strings.Repeat("x", 4<<20)),
		"comments":          []byte(someHeader + "Content-Type: text/plain" + strings.Repeat("(", 200_000) + "\r\n\r\nx\r\n"),
		"comments unclosed": []byte(someHeader + "Content-Type: text/plain" + strings.Repeat("; (", 80_000) + "\r\n\r\nx\r\n"),
		"parameters":        []byte(someHeader + "Content-Type: text/plain" + strings.Repeat("; a=b", 50_000) + "\r\n\r\nx\r\n"),
		"quotes":            []byte(someHeader + "Content-Type: text/plain" + strings.Repeat(`; a="`, 50_000) + "\r\n\r\nx\r\n"),
		"dashes":            append(boundaries[:len(boundaries)-100:len(boundaries)-100], strings.Repeat("--\r\n", 2<<20)...),
		"nearly boundaries": append(boundaries[:len(boundaries)-100:len(boundaries)-100], strings.Repeat("--b9x\r\n", 1<<20)...),
		"encoded messages":  []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat("YTogYgo=", 5000)+"\r\n", 500)),
		"base64 junk":       []byte(someHeader + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("=*\r\n", 2<<20)),
		"spaces in base64":  []byte(someHeader + "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(" ", 8<<20)),
	}
}

// TestHostile holds that the reader's time and memory stay bounded.
func TestHostile(t *testing.T) {
	for name, content := range hostile() {
		t.Run(name, func(t *testing.T) {
			for _, in := range []Content{Bytes(content), stored{content}} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := processorTime(t)
				h, parts, oddities := Read(in, Limits{})
				for i := range parts {
					parts[i].Header.Get("Subject")
				}
				for _, f := range h[:min(len(h), 10)] {
					f.Text()
				}
				if d := processorTime(t) - start; d > time.Second {
					t.Errorf("%T took %v", in, d)
				}
				runtime.ReadMemStats(&after)
				if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
					t.Errorf("%T allocated %d octets", in, n)
				}
				if len(parts) > DefaultLimits.Parts || len(oddities) > maxOddities {
					t.Errorf("%T: %d parts, %d oddities", in, len(parts), len(oddities))
				}
			}
		})
	}
}

// TestManyParts holds that an admin who raises the limit gets all parts, in
// linear time.
func TestManyParts(t *testing.T) {
	start := processorTime(t)
	_, parts, oddities := Read(Bytes(multipart(50_000)), Limits{Parts: 100_000})
	if len(parts) != 50_001 || len(oddities) != 0 {
		t.Errorf("%d parts, %v", len(parts), oddities)
	}
	if d := processorTime(t) - start; d > time.Second {
		t.Errorf("took %v", d)
	}
}

func BenchmarkHostile(b *testing.B) {
	for name, content := range hostile() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				Read(Bytes(content), DefaultLimits)
			}
		})
	}
}
