package mail

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func symbols(oddities []Oddity) (names []string) {
	for _, o := range oddities {
		names = append(names, o.Symbol)
	}
	return names
}

const someHeader = "From: a@example.com\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"

// multipart is a message with n parts that hold text.
func multipart(n int) []byte {
	return []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", n) + "--b--\r\n")
}

// deep is a message with n multiparts, each within the one before.
func deep(n int) []byte {
	var b bytes.Buffer
	b.WriteString(someHeader)
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nx\r\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.Bytes()
}

// matryoshka is n messages, each attached to the one around it.
func matryoshka(n int) []byte {
	return []byte(someHeader + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) + "Subject: x\r\n\r\nx\r\n")
}

// TestLimits goes up to each limit, where nothing may be noted, and one beyond.
func TestLimits(t *testing.T) {
	fields := func(n int) []byte { return []byte(someHeader + strings.Repeat("X: y\r\n", n-2) + "\r\nbody\r\n") }
	octets := func(n int) []byte {
		return []byte(someHeader + "X: " + strings.Repeat("x", n-len(someHeader)-5) + "\r\n\r\nbody\r\n")
	}
	encoded := func(n int) []byte {
		return []byte(someHeader + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: x\r\n\r\n" + strings.Repeat("x", n-14))
	}
	boundary := func(n int) []byte {
		b := strings.Repeat("b", n)
		return []byte(someHeader + "Content-Type: multipart/mixed; boundary=" + b + "\r\n\r\n--" + b + "\r\n\r\nx\r\n--" + b + "--\r\n")
	}
	params := func(n int) []byte {
		return []byte(someHeader + "Content-Type: text/plain" + strings.Repeat("; a*1=b", n) + "\r\n\r\nx\r\n")
	}
	for _, c := range []struct {
		name   string
		limits Limits
		make   func(int) []byte
		most   int
		symbol string
		parts  [2]int // that are found at the limit, and beyond
	}{
		{"parts", Limits{Parts: 20}, multipart, 19, MIMEPartsLimit, [2]int{20, 20}},
		{"depth", Limits{Depth: 10}, deep, 10, MIMEDepthLimit, [2]int{11, 11}},
		{"messages", Limits{Depth: 10}, matryoshka, 10, MIMEDepthLimit, [2]int{11, 11}},
		{"fields", Limits{Fields: 50}, fields, 50, HeaderLimit, [2]int{1, 1}},
		{"octets", Limits{HeaderBytes: 5000}, octets, 5000, HeaderLimit, [2]int{1, 1}},
		{"decoded", Limits{}, encoded, maxDecoded, MIMEDecodeLimit, [2]int{2, 1}},
		{"boundary", Limits{}, boundary, maxBoundary, MIMEBoundaryLimit, [2]int{2, 1}},
		{"parameters", Limits{}, params, maxParams, MIMEParameterLimit, [2]int{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for beyond := range 2 {
				content := c.make(c.most + beyond)
				for _, in := range []Content{Bytes(content), stored{content}} {
					_, parts, oddities := Read(in, c.limits)
					if noted := slices.Contains(symbols(oddities), c.symbol); noted != (beyond == 1) {
						t.Errorf("%d beyond, %T: %s is %v: %v", beyond, in, c.symbol, noted, oddities)
					}
					if len(parts) != c.parts[beyond] {
						t.Errorf("%d beyond, %T: %d parts", beyond, in, len(parts))
					}
					checkTree(t, content, parts)
				}
			}
		})
	}
}

// TestHeaderTotal holds that many parts with large headers together stay within
// a multiple of one section's limit.
func TestHeaderTotal(t *testing.T) {
	part := "--b\r\nX-Large: " + strings.Repeat("x", 50<<10) + "\r\n\r\nx\r\n"
	content := []byte(someHeader + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, 900) + "--b--\r\n")
	_, parts, oddities := Read(stored{content}, DefaultLimits)
	var kept int64
	for i := range parts {
		for _, f := range parts[i].Header {
			kept += f.Span.Len()
		}
	}
	if len(parts) != 901 || kept > 8*DefaultLimits.HeaderBytes+512*int64(DefaultLimits.Parts) || !slices.Contains(symbols(oddities), HeaderLimit) {
		t.Errorf("%d parts, %d octets of header, %v", len(parts), kept, oddities)
	}
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
				start := time.Now()
				h, parts, oddities := Read(in, Limits{})
				for i := range parts {
					parts[i].Header.Get("Subject")
				}
				for _, f := range h[:min(len(h), 10)] {
					f.Text()
				}
				if d := time.Since(start); d > time.Second*raceFactor {
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
	start := time.Now()
	_, parts, oddities := Read(Bytes(multipart(50_000)), Limits{Parts: 100_000})
	if len(parts) != 50_001 || len(oddities) != 0 {
		t.Errorf("%d parts, %v", len(parts), oddities)
	}
	if d := time.Since(start); d > time.Second*raceFactor {
		t.Errorf("took %v", d)
	}
}

func TestOdditiesBounded(t *testing.T) {
	content := []byte(someHeader)
	for i := range 500 {
		content = fmt.Appendf(content, "no colon %d\r\n", i)
	}
	_, _, oddities := Read(Bytes(append(content, "\r\nx"...)), Limits{})
	if len(oddities) != maxSame {
		t.Errorf("%d oddities", len(oddities))
	}
	for _, o := range oddities {
		if o.Description() == "" || len(o.Evidence) > maxEvidence {
			t.Errorf("%+v", o)
		}
	}
}

func TestOdditySymbols(t *testing.T) {
	all := OdditySymbols()
	if len(all) != len(oddities) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Error("a symbol stands twice")
	}
	if (Oddity{Symbol: "NOTHING"}).Description() != "" {
		t.Error("a description of nothing")
	}
}
