package traffic

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

const (
	meanText       = 6_400   // octets of a message without attachment
	meanAttachment = 200_000 // octets of an attachment
	maxAttachment  = 8 * meanAttachment
	encoded        = 78.0 / 57 // how much base64 in lines makes of an octet
)

// Generate makes n messages of text, with sizes as archives of mail have them:
// most are small, a few are large.
func Generate(n int) []Message {
	r := dice()
	list := make([]Message, n)
	for i := range list {
		list[i], _ = NewMessage(textMessage(r, logNormal(r, meanText, 0.9)))
	}
	return list
}

// logNormal throws a size whose mean is the given one.
func logNormal(r *rand.Rand, mean, sigma float64) int {
	return int(mean * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2))
}

func attachmentSize(r *rand.Rand) int {
	return min(maxAttachment, max(10_000, logNormal(r, meanAttachment, 0.8)))
}

func textMessage(r *rand.Rand, size int) []byte {
	var b bytes.Buffer
	writeHeader(&b, r)
	b.WriteString("Content-Type: text/plain; charset=utf-8\n\n")
	writeText(&b, r, size)
	return b.Bytes()
}

// withAttachment is a message with some text and a PDF of the given size.
func withAttachment(r *rand.Rand, size int) Message {
	var b bytes.Buffer
	b.Grow(int(float64(size)*encoded) + 4096)
	writeHeader(&b, r)
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=_part\"\n\n--=_part\nContent-Type: text/plain\n\n")
	writeText(&b, r, 1500)
	b.WriteString("--=_part\nContent-Type: application/pdf; name=\"report.pdf\"\n" +
		"Content-Disposition: attachment; filename=\"report.pdf\"\nContent-Transfer-Encoding: base64\n\n")
	writeBase64(&b, r, size)
	b.WriteString("--=_part--\n")
	m, _ := NewMessage(b.Bytes())
	return m
}

func writeHeader(b *bytes.Buffer, r *rand.Rand) {
	fmt.Fprintf(b, "Received: from out.sender.example (out.sender.example [192.0.2.25])\n\tby hop.sender.example with ESMTPS; Mon, 02 Mar 2026 09:00:00 +0000\n")
	fmt.Fprintf(b, "From: Ann <ann@sender.example>\nTo: Bob <bob@%s>\n", Domain)
	fmt.Fprintf(b, "Subject: Minutes of meeting %d\nDate: Mon, 02 Mar 2026 09:00:00 +0000\n", r.IntN(10_000))
	fmt.Fprintf(b, "Message-ID: <%x@sender.example>\nMIME-Version: 1.0\n", r.Uint64())
}

// words are what generated text is made of.
var words = []string{
	"the", "and", "order", "meeting", "of", "please", "delivery", "week", "to", "invoice", "in", "contract",
	"Tuesday", "with", "regards", "https://www.example.org/path?id=17", "report", "we", "customer", "for",
}

func writeText(b *bytes.Buffer, r *rand.Rand, size int) {
	for end, column := b.Len()+size, 0; b.Len() < end; {
		w := words[r.IntN(len(words))]
		b.WriteString(w)
		if column += len(w) + 1; column > 70 {
			b.WriteByte('\n')
			column = 0
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteByte('\n')
}

// writeBase64 writes a PDF's first bytes and then noise: nothing that a filter
// could take a short cut with.
func writeBase64(b *bytes.Buffer, r *rand.Rand, size int) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.Uint64())
	noise := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(noise) // never fails
	copy(noise, "%PDF-1.7\n")
	text := base64.StdEncoding.EncodeToString(noise)
	for len(text) > 0 {
		n := min(76, len(text))
		b.WriteString(text[:n])
		b.WriteByte('\n')
		text = text[n:]
	}
}

// Large is a message with one attachment, of at most size octets and few less.
func Large(size int) Message {
	var b bytes.Buffer
	b.Grow(size)
	r := dice()
	writeHeader(&b, r)
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=_part\"\n\n--=_part\nContent-Type: application/pdf; name=\"plan.pdf\"\n" +
		"Content-Disposition: attachment; filename=\"plan.pdf\"\nContent-Transfer-Encoding: base64\n\n")
	const room, line, bare = 200, 78, 57 // for the end; of a line with CRLF; of what is in it
	lines := (size - b.Len() - bytes.Count(b.Bytes(), []byte("\n")) - room) / line
	writeBase64(&b, r, lines*bare)
	b.WriteString("--=_part--\n")
	m, _ := NewMessage(b.Bytes())
	return m
}
