// Package traffic is the mail of a measurement: messages, the sender, the sink
// that counts what arrives, and the bare hop, which is the least that can stand
// between the two. It speaks RFC 5321 with PIPELINING (RFC 2920) as senders and
// servers in use do, and as cheaply as it can: the servers measured share the
// machine with it. Which servers are measured, and what they cost, is for others.
package traffic

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Message is one that is sent, ready for the wire.
type Message struct {
	Stuffed  []byte // dot-stuffed, ending in CRLF, without the final dot
	Size     int    // octets before stuffing, as RFC 1870 counts
	EightBit bool   // it needs 8BITMIME (RFC 6152)
}

// maxReceived is how many Received fields a message may have to be sent: at 50
// mail servers take it for a loop, and two hops add theirs.
const maxReceived = 40

// NewMessage makes raw ready, or says that it is none to send: it has no header,
// or has been through too many hops.
func NewMessage(raw []byte) (Message, bool) {
	if mbox, rest, ok := bytes.Cut(raw, []byte("\n")); ok && bytes.HasPrefix(mbox, []byte("From ")) {
		raw = rest
	}
	if !startsWithField(raw) || countReceived(raw) > maxReceived {
		return Message{}, false
	}
	normal := normalise(raw)
	return Message{Stuffed: stuff(normal), Size: len(normal), EightBit: hasEightBit(normal)}, true
}

// startsWithField says whether the first line is a header field (RFC 5322,
// section 2.2).
func startsWithField(raw []byte) bool {
	for i, c := range raw {
		if c == ':' {
			return i > 0
		}
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return false
}

func countReceived(raw []byte) (n int) {
	for line := range bytes.Lines(raw) {
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if len(line) > 9 && bytes.EqualFold(line[:9], []byte("Received:")) {
			n++
		}
	}
	return n
}

// normalise ends every line in CRLF and drops NUL and bare CR: these are refused
// by any careful server, and no measure of its speed.
func normalise(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+len(raw)/32+2)
	for _, c := range raw {
		switch c {
		case 0, '\r':
		case '\n':
			out = append(out, '\r', '\n')
		default:
			out = append(out, c)
		}
	}
	if !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, '\r', '\n')
	}
	return out
}

// stuff doubles the dot that begins a line (RFC 5321, section 4.5.2).
func stuff(content []byte) []byte {
	if bytes.HasPrefix(content, []byte(".")) {
		content = append([]byte("."), content...)
	}
	return bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
}

func hasEightBit(content []byte) bool {
	for _, c := range content {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// ReadFolder reads at most want messages from the files below dir, chosen at
// random but in every run the same ones.
func ReadFolder(dir string, want int) ([]Message, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	dice().Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	var list []Message
	for _, path := range paths {
		if len(list) == want {
			break
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read messages: %w", err)
		}
		if m, ok := NewMessage(raw); ok {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("read messages: %s holds none", dir)
	}
	return list, nil
}

// dice throw the same numbers in every run.
func dice() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// MeanSize is in octets.
func MeanSize(list []Message) float64 {
	sum := 0
	for _, m := range list {
		sum += m.Size
	}
	return float64(sum) / float64(max(1, len(list)))
}

// RaiseMean replaces some of the messages by ones with an attachment, so that
// the mean size becomes the wanted one: archives of mail have mostly lost their
// attachments, and a company's mail has not.
func RaiseMean(list []Message, mean float64) {
	now := MeanSize(list)
	if now >= mean {
		return
	}
	r := dice()
	share := (mean - now) / (meanAttachment*encoded - now)
	need := (mean - now) * float64(len(list))
	step := max(1, int(1/min(1, share)))
	for i := 0; i < len(list) && need > 0; i += step {
		m := withAttachment(r, attachmentSize(r))
		need -= float64(m.Size - list[i].Size)
		list[i] = m
	}
}
