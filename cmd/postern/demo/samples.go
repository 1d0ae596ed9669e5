// Package demo is what stands outside and inside of the gateway when it shows
// itself at work: senders with a handful of messages, and a small mail server that
// knows a few users. Both speak plain SMTP (RFC 5321).
//
// The gateway between them, and what is said of it, is left to the command.
package demo

import (
	"archive/zip"
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"postern/gateway/mail"
)

// Domain is the company that the gateway takes mail for.
const Domain = "example.com"

// Users are whom the mail server inside knows, by the local part.
var Users = [...]string{"anna", "compta", "marc"}

// Sample is one thing that comes from outside, and what the gateway promises to
// do about it.
type Sample struct {
	Title    string // in a few words
	HELO     string
	From, To string
	Action   mail.Action // promised
	Reply    string      // promised: the code and the enhanced code
	Away     bool        // the server inside is away while it comes

	file string // below samples; "" is no content: it ends at RCPT
}

// Samples are sent in this order.
func Samples() []Sample {
	return []Sample{
		{
			Title: "A quotation with a PDF", file: "quotation.eml",
			HELO: "mail.atelier-nord.example", From: "helene.marchand@atelier-nord.example", To: "anna@example.com",
			Action: mail.Accept, Reply: "250 2.0.0",
		},
		{
			Title: "A newsletter, well made", file: "newsletter.eml",
			HELO: "out3.librairie-du-canal.example", From: "retour+8812@librairie-du-canal.example", To: "marc@example.com",
			Action: mail.Accept, Reply: "250 2.0.0",
		},
		{
			Title: "A mass mailing, badly forged", file: "mailing.eml",
			HELO: "srv419.grandes-affaires.example", From: "lot419@grandes-affaires.example", To: "marc@example.com",
			Action: mail.Tag, Reply: "250 2.0.0",
		},
		{
			Title: "A program in invoice.zip", file: "invoice.eml",
			HELO: "smtp.transports-ruiz.example", From: "facturation@transports-ruiz.example", To: "compta@example.com",
			Action: mail.Strip, Reply: "250 2.0.0",
		},
		{
			Title: "The test virus EICAR in base64", file: "virus.eml",
			HELO: "printer.imprimerie-lefort.example", From: "scanner@imprimerie-lefort.example", To: "anna@example.com",
			Action: mail.Quarantine, Reply: "250 2.0.0",
		},
		{
			Title: "The test spam GTUBE", file: "spam.eml",
			HELO: "mx7.clickmore.example", From: "offers@clickmore.example", To: "marc@example.com",
			Action: mail.Reject, Reply: "550 5.7.1",
		},
		{
			Title: "A name not known inside",
			HELO:  "mx7.clickmore.example", From: "offers@clickmore.example", To: "martin@example.com",
			Action: mail.Reject, Reply: "550 5.1.1",
		},
		{
			Title: "Relaying to somebody else",
			HELO:  "mx7.clickmore.example", From: "offers@clickmore.example", To: "victim@elsewhere.example",
			Action: mail.Reject, Reply: "550 5.7.1",
		},
		{
			Title: "A second mail smuggled in", file: "smuggled.eml",
			HELO: "news.harmless-news.example", From: "news@harmless-news.example", To: "marc@example.com",
			Action: mail.Reject, Reply: "550 5.6.0",
		},
		{
			Title: "A reply, with the inside away", file: "visit.eml", Away: true,
			HELO: "mta.northmill.example", From: "priya.raman@northmill.example", To: "anna@example.com",
			Action: mail.Accept, Reply: "250 2.0.0",
		},
	}
}

//go:embed samples/*.eml
var samples embed.FS

// Content is the message as it goes over the wire, nil where it ends at RCPT. The
// files have lines as files have them, and places for what must not stand in a
// file: {{lf}} is a bare LF, and the test strings and the program, which scanners
// would find in our own source, are made here.
func (s Sample) Content(now time.Time) ([]byte, error) {
	if s.file == "" {
		return nil, nil
	}
	text, err := samples.ReadFile("samples/" + s.file)
	if err != nil {
		return nil, err
	}
	archive, err := zipped("invoice.pdf.exe", program())
	if err != nil {
		return nil, fmt.Errorf("zip: %w", err)
	}
	return []byte(strings.NewReplacer(
		"\n", "\r\n", "{{lf}}", "\n",
		"{{date}}", now.Format(time.RFC1123Z),
		"{{zip}}", wrapped(archive),
		"{{eicar}}", wrapped(eicar()),
		"{{gtube}}", gtube(),
	).Replace(string(text))), nil
}

// eicar is the file that every virus scanner takes for a virus.
func eicar() []byte {
	name := strings.Join([]string{"EICAR", "STANDARD", "ANTIVIRUS", "TEST", "FILE"}, "-")
	return []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$` + name + "!$H+H*")
}

// gtube is the text that every spam filter takes for spam.
func gtube() string {
	return "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + strings.Join([]string{"GTUBE", "STANDARD", "ANTI", "UBE", "TEST", "EMAIL"}, "-") + "*C.34X"
}

// program is what a program for Windows begins with, and does nothing.
func program() []byte {
	b := make([]byte, 512)
	copy(b, "MZ\x90\x00\x03")
	b[0x3c] = 0x80 // where the newer header begins
	copy(b[0x80:], "PE\x00\x00\x4c\x01")
	return b
}

func zipped(name string, content []byte) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(content); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// wrapped is base64 in lines of 76, as RFC 2045, section 6.8 has it.
func wrapped(content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return b.String() + text
}
