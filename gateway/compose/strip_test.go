package compose

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"postern/gateway/mail"
)

// decoded is the body of a part as a person reads it.
func decoded(t testing.TB, p *mail.Part) string {
	t.Helper()
	b, err := io.ReadAll(p.Open())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// octetsOf is what the part i of m is made of.
func octetsOf(m *mail.Message, i int) string {
	all := m.Content.(mail.Bytes)
	return string(all[m.Parts[i].Span.Start:m.Parts[i].Span.End])
}

const nested = "From: a\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\npreamble\r\n" +
	"--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n" +
	"--inner\r\n\r\ntext\r\n--inner\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n\r\n--inner--\r\n" +
	"\r\n--outer\r\nContent-Type: application/zip; name=\"a.zip\"\r\nContent-Disposition: attachment; filename=\"a.zip\"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n" +
	"--outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: within\r\nContent-Type: multipart/mixed; boundary=deep\r\n\r\n" +
	"--deep\r\nContent-Type: application/pdf; name=b.pdf\r\n\r\n%PDF\r\n--deep--\r\n\r\n" +
	"--outer\r\nContent-Type: image/png; name=c.png\r\n\r\n\r\n--outer--\r\nepilogue\r\n"

// Whichever part goes, what is read again has the same parts, octet for octet,
// but the one.
func TestStripEachPart(t *testing.T) {
	m := newMessage(nested)
	for i := 1; i < len(m.Parts); i++ {
		t.Run(m.Parts[i].Path, func(t *testing.T) {
			v := mail.Verdict{Strip: []mail.Attachment{{Name: "it.exe", Type: "application/x-it", Reason: "for a reason", Part: i}}}
			out := newMessage(read(t, composer.Outgoing(m, v, "")))
			checkStripped(t, m, out, i)
		})
	}
}

// checkStripped compares the parts of m and out, where the part i was stripped.
func checkStripped(t *testing.T, m, out *mail.Message, i int) {
	t.Helper()
	within := func(p, i int) bool {
		for ; p >= 0; p = m.Parts[p].Parent {
			if p == i {
				return true
			}
		}
		return false
	}
	j := 0
	for p := range m.Parts {
		if p != i && within(p, i) {
			continue
		}
		if j == len(out.Parts) {
			t.Fatalf("part %s is missing in %s", m.Parts[p].Path, out.Content)
		}
		got := &out.Parts[j]
		switch {
		case p == i:
			text := decoded(t, got)
			if got.MediaType != "text/plain" || got.Disposition != "inline" || len(got.Names) > 0 {
				t.Errorf("the text is %s %s %v", got.MediaType, got.Disposition, got.Names)
			}
			for _, want := range []string{"it.exe", "application/x-it", "for a reason", m.ID, "retirée", "removed"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in %q", want, text)
				}
			}
		case within(i, p): // around it
			if got.MediaType != m.Parts[p].MediaType {
				t.Errorf("part %s became %s", m.Parts[p].Path, got.MediaType)
			}
		default:
			if octetsOf(out, j) != octetsOf(m, p) {
				t.Errorf("part %s became %q", m.Parts[p].Path, octetsOf(out, j))
			}
		}
		j++
	}
	if j != len(out.Parts) {
		t.Errorf("%d parts too many in %s", len(out.Parts)-j, out.Content)
	}
}

// What stands outside of the part is untouched.
func TestStripKeepsTheRest(t *testing.T) {
	for _, c := range []func(string) mail.Content{
		func(s string) mail.Content { return mail.Bytes(s) },
		func(s string) mail.Content { return onDisk(t, s) },
	} {
		m := newMessage(nested)
		m.Content = c(nested)
		for i := 1; i < len(m.Parts); i++ {
			v := mail.Verdict{Strip: []mail.Attachment{{Part: i}}}
			out := read(t, composer.Outgoing(m, v, ""))
			span := m.Parts[i].Span
			if !strings.Contains(out, "\r\n"+nested[:span.Start]+noticeFields) {
				t.Errorf("part %d: the start was changed: %q", i, out)
			}
			if !strings.HasSuffix(out, m.ID+nested[span.End:]) {
				t.Errorf("part %d: the end was changed: %q", i, out)
			}
		}
	}
}

func TestStripSeveral(t *testing.T) {
	m := newMessage(nested)
	zip, pdf := 0, 0
	for i, p := range m.Parts {
		switch p.MediaType {
		case "application/zip":
			zip = i
		case "application/pdf":
			pdf = i
		}
	}
	rfc822 := m.Parts[m.Parts[pdf].Parent].Parent
	v := mail.Verdict{Strip: []mail.Attachment{
		{Name: "run.exe", Path: "2/a.zip/run.exe", Part: zip},
		{Name: "b.pdf", Part: pdf},
		{Name: "it.scr", Path: "2/a.zip/it.scr", Part: zip},
		{Name: "mail.eml", Part: rfc822},
	}}
	out := newMessage(read(t, composer.Outgoing(m, v, "")))
	if n := len(out.Header.All("X-Postern-Stripped")); n != 4 {
		t.Errorf("%d fields", n)
	}
	var texts []string
	for i := range out.Parts {
		if text := decoded(t, &out.Parts[i]); strings.Contains(text, "[FR]") && out.Parts[i].MediaType == "text/plain" {
			texts = append(texts, text)
		}
	}
	if len(texts) != 2 {
		t.Fatalf("%d texts in %s", len(texts), out.Content)
	}
	for i, names := range [][]string{{"run.exe", "it.scr"}, {"b.pdf", "mail.eml"}} {
		for _, name := range names {
			if !strings.Contains(texts[i], "Fichier / File: "+name+"\r\n") {
				t.Errorf("%s is not in %q", name, texts[i])
			}
		}
	}
	if strings.Contains(read(t, out.Content), "%PDF") || strings.Contains(read(t, out.Content), "QUJD") {
		t.Error("a stripped part is still there")
	}
}

func TestRemovals(t *testing.T) {
	// 0 mixed: 1 text, 2 message/rfc822 in base64: 3 (detached): 4 and 5, where
	// 5 is again a message in base64: 6.
	parts := []mail.Part{
		{Parent: -1},
		{Parent: 0},
		{Parent: 0},
		{Parent: 2, Detached: true},
		{Parent: 3, Detached: true},
		{Parent: 3, Detached: true},
		{Parent: 5, Detached: true},
	}
	tests := []struct {
		strip []int
		parts []int
	}{
		{nil, nil},
		{[]int{1}, []int{1}},
		{[]int{2}, []int{2}},
		{[]int{3}, []int{2}},
		{[]int{6}, []int{2}},
		{[]int{6, 4, 1, 2}, []int{2, 1}},
		{[]int{1, 0}, []int{0}},
		{[]int{7}, []int{0}}, // nobody knows where: nothing goes through
		{[]int{-1, 1}, []int{0}},
	}
	for _, test := range tests {
		var strip []mail.Attachment
		for _, i := range test.strip {
			strip = append(strip, mail.Attachment{Part: i})
		}
		var got []int
		named := 0
		for _, r := range removals(parts, strip) {
			got = append(got, r.part)
			named += len(r.attachments)
		}
		if !reflect.DeepEqual(got, test.parts) || named != len(strip) {
			t.Errorf("%v: %v, %d named", test.strip, got, named)
		}
	}
}

// A message that is an attachment and nothing else.
func TestStripMessage(t *testing.T) {
	tests := []struct{ name, content, kept string }{
		{"usual", "From: a\r\nContent-Type: application/zip\r\nSubject: b\r\nContent-Transfer-Encoding: base64\r\ncontent-md5: x\r\n\r\nQUJD\r\n", "MIME-Version: 1.0\r\nFrom: a\r\nSubject: b\r\n"},
		{"with MIME-Version", "Mime-Version : 1.0\r\nContent-Type: application/zip\r\n\r\nQUJD\r\n", "Mime-Version : 1.0\r\n"},
		{"no header", "\r\nQUJD\r\n", "MIME-Version: 1.0\r\n"},
		{"no body", "From: a\r\n", "MIME-Version: 1.0\r\nFrom: a\r\n"},
		{"no empty line", "From: a\r\nContent-Type: application/zip", "MIME-Version: 1.0\r\nFrom: a\r\n"},
		{"nothing", "", "MIME-Version: 1.0\r\n"},
		{"folded", "Content-Type: application/zip;\r\n name=a.exe\r\nFrom: a\r\n\r\nQUJD", "MIME-Version: 1.0\r\nFrom: a\r\n"},
		{"bare LF", "From: a\n\nQUJD\n", "MIME-Version: 1.0\r\nFrom: a\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMessage(test.content)
			v := mail.Verdict{Strip: []mail.Attachment{{Name: "a.exe", Part: 0}}}
			out := newMessage(read(t, composer.Outgoing(m, v, "")))
			_, rest, _ := strings.Cut(read(t, out.Content), noticeFields)
			head, body, _ := strings.Cut(strings.ReplaceAll(rest, "\n\n", "\n\r\n"), "\n\r\n")
			if head+"\n" != test.kept || !strings.HasPrefix(body, "[FR]") || !strings.HasSuffix(body, m.ID+"\r\n") {
				t.Errorf("got %q", rest)
			}
			if len(out.Parts) != 1 || out.Parts[0].MediaType != "text/plain" || !strings.Contains(decoded(t, &out.Parts[0]), "File: a.exe") {
				t.Errorf("got %+v", out.Parts)
			}
		})
	}
}

func TestStripWithoutParts(t *testing.T) {
	m := newMessage("From: a\r\nContent-Type: application/zip\r\n\r\nQUJD\r\n")
	m.Parts = nil
	out := read(t, composer.Outgoing(m, mail.Verdict{Strip: []mail.Attachment{{Part: 3}}}, ""))
	if strings.Contains(out, "QUJD") || strings.Contains(out, "application/zip\r\n\r\n") {
		t.Errorf("got %q", out)
	}
}

// A part that is empty, or not closed, has no line break behind it.
func TestStripBringsItsLineBreak(t *testing.T) {
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	for _, body := range []string{"--b\r\n--b\r\nContent-Type: text/html\r\n\r\nx\r\n--b--\r\n", "--b\r\nContent-Type: image/png\r\n\r\nx"} {
		m := newMessage(head + body)
		v := mail.Verdict{Strip: []mail.Attachment{{Name: "it.exe", Type: "application/x-it", Reason: "for a reason", Part: 1}}}
		out := newMessage(read(t, composer.Outgoing(m, v, "")))
		checkStripped(t, m, out, 1)
	}
}

func TestTextIsBounded(t *testing.T) {
	for n, want := range map[int]int{maxNamed: maxNamed, maxNamed + 1: maxNamed} {
		text := string(stripText(make([]mail.Attachment, n), "id"))
		if got := strings.Count(text, "unnamed"); got != want || strings.Contains(text, "  ...") != (n > want) {
			t.Errorf("%d of %d", got, n)
		}
	}
}

// Trees made at random, one part of each stripped at random.
func TestStripRandomTrees(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		m := newMessage("From: a\r\n" + randomTree(random, 0, new(int)))
		if len(m.Parts) < 2 {
			continue
		}
		i := 1 + random.IntN(len(m.Parts)-1)
		v := mail.Verdict{Strip: []mail.Attachment{{Name: "it.exe", Type: "application/x-it", Reason: "for a reason", Part: i}}}
		checkStripped(t, m, newMessage(read(t, composer.Outgoing(m, v, ""))), i)
		if t.Failed() {
			t.Fatalf("part %d of %q", i, m.Content)
		}
	}
}

// randomTree is an entity: header and body.
func randomTree(random *rand.Rand, depth int, count *int) string {
	*count++
	if depth == 3 || depth > 0 && random.IntN(2) == 0 {
		bodies := []string{"text", "text\r\n", "\r\n\r\n", "--\r\n-- \r\n", strings.Repeat("line\r\n", 5)}
		return "Content-Type: application/octet-stream\r\n\r\n" + bodies[random.IntN(len(bodies))]
	}
	name := fmt.Sprintf("b%d", *count)
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n", name)
	for range 1 + random.IntN(3) {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", name, randomTree(random, depth+1, count))
	}
	fmt.Fprintf(&b, "--%s--\r\n", name)
	return b.String()
}

// A part within a message that was itself encoded can't be replaced alone: its
// octets are not in the content.
func TestStripWithinEncodedMessage(t *testing.T) {
	inner := "Subject: within\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n" +
		"--i\r\n\r\ntext\r\n--i\r\nContent-Type: application/zip; name=a.zip\r\n\r\nPK\r\n--i--\r\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(inner))
	m := newMessage("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\ntext\r\n" +
		"--o\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + "\r\n--o--\r\n")
	for i := 2; i < len(m.Parts); i++ {
		v := mail.Verdict{Strip: []mail.Attachment{{Name: "it.exe", Type: "application/x-it", Reason: "for a reason", Part: i}}}
		out := read(t, composer.Outgoing(m, v, ""))
		if strings.Contains(out, encoded) || !strings.Contains(out, "\r\n--o\r\n\r\ntext\r\n--o\r\n"+noticeFields) ||
			!strings.HasSuffix(out, m.ID+"\r\n--o--\r\n") {
			t.Errorf("part %s: %q", m.Parts[i].Path, out)
		}
	}
}
