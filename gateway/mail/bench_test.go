package mail

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func octets(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// typical is a message as they come: 3 KB of header, two texts, an attachment.
func typical(attached int) []byte {
	var b bytes.Buffer
	for range 5 {
		b.WriteString("Received: from mx.example.net (mx.example.net [192.0.2.1])\r\n\tby mail.example.com with ESMTPS id 4XyZ\r\n\tfor <someone@example.com>; Mon, 1 Jan 2024 00:00:00 +0000 (UTC)\r\n")
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=sel;\r\n\th=from:to:subject; bh=" + strings.Repeat("A", 44) + ";\r\n")
	for range 5 {
		b.WriteString("\t " + strings.Repeat("b", 70) + "\r\n")
	}
	for range 15 {
		b.WriteString("X-Mailer-Something: a value as they stand in headers of all mail\r\n")
	}
	b.WriteString("From: Some One <a@example.net>\r\nTo: b@example.com\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <x@example.net>\r\nMIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: multipart/mixed; boundary=\"----=_Part_1\"\r\n\r\n------=_Part_1\r\nContent-Type: multipart/alternative; boundary=\"----=_Part_2\"\r\n\r\n")
	b.WriteString("------=_Part_2\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("Some text with an equals sign =3D in it, as it is written in mail=\r\n", 40))
	b.WriteString("\r\n------=_Part_2\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("<p style=3D\"color: red\">Some text as it is written in mail</p>\r\n", 60))
	b.WriteString("\r\n------=_Part_2--\r\n\r\n------=_Part_1\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n\r\n")
	b.WriteString(lined(base64.StdEncoding.EncodeToString(octets(attached))))
	b.WriteString("\r\n------=_Part_1--\r\n")
	return b.Bytes()
}

func BenchmarkRead(b *testing.B) {
	content := typical(7000)
	if _, parts, oddities := Read(Bytes(content), DefaultLimits); len(parts) != 5 || len(oddities) != 0 {
		b.Fatal(len(parts), oddities)
	}
	for name, in := range map[string]Content{"memory": Bytes(content), "file": stored{content}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				Read(in, DefaultLimits)
			}
		})
	}
}

func BenchmarkReadLarge(b *testing.B) {
	content := typical(36 << 20)
	name := filepath.Join(b.TempDir(), "large")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		Read(NewFile(f, 0, int64(len(content))), DefaultLimits)
	}
}

func BenchmarkDecode(b *testing.B) {
	data := octets(34 << 10)
	bodies := map[string]string{
		"base64":           lined(base64.StdEncoding.EncodeToString(data)),
		"quoted-printable": strings.Repeat("Some text with an equals sign =3D in it, as it is written in mail=\r\n", 500),
	}
	for encoding, body := range bodies {
		for name, in := range map[string]Content{"memory": Bytes(body), "file": stored{Bytes(body)}} {
			b.Run(encoding+"/"+name, func(b *testing.B) {
				p := Part{Encoding: encoding, Body: Span{0, int64(len(body))}, content: in}
				buf := make([]byte, 32<<10)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, p.Open(), buf)
				}
			})
		}
	}
}

func BenchmarkText(b *testing.B) {
	f := Field{Raw: []byte("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?B?IGF1cyBNw7xuY2hlbg==?=\r\n")}
	b.ReportAllocs()
	for b.Loop() {
		f.Text()
	}
}
