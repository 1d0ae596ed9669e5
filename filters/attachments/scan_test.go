package attachments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"postern/filters/filtertest"
	"postern/gateway/mail"
)

// failing is content on a disk that fails behind an offset.
type failing struct {
	mail.Bytes
	good int64
}

var errDisk = errors.New("input/output error")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.good && off+int64(len(p)) <= f.Size() {
		return 0, errDisk
	}
	return f.Bytes.ReadAt(p, off)
}

func (f failing) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{mail.NewReader(f)})
}

// switchable is content that may begin to fail once it was parsed.
type switchable struct{ content mail.Content }

func (s *switchable) Size() int64                             { return s.content.Size() }
func (s *switchable) ReadAt(p []byte, off int64) (int, error) { return s.content.ReadAt(p, off) }
func (s *switchable) WriteTo(w io.Writer) (int64, error)      { return s.content.WriteTo(w) }

// A part that can't be read is an error, never a clean part.
func TestUnreadable(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	whole := mail.Bytes(attached("a.bin", strings.Repeat("x", 200_000)))
	for _, good := range []int64{0, 100_000} {
		c := &switchable{whole}
		m := filtertest.Message("")
		m.Content = c
		m.Header, m.Parts, m.Oddity = mail.Read(c, mail.DefaultLimits)
		c.content = failing{whole, good}
		if results, err := f.Check(context.Background(), m, nil); !errors.Is(err, errDisk) {
			t.Errorf("%d octets can be read: %s, %v", good, describe(results), err)
		}
	}
}

func TestCancelled(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Check(ctx, filtertest.Message(attached("a.exe", "x")), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Of messages in messages only the outermost is hashed, or the work would grow
// with the square of their number; all are named.
func TestTower(t *testing.T) {
	eml := "Subject: innermost\r\n\r\nHello.\r\n"
	for i := range 5 {
		eml = fmt.Sprintf("Subject: %d\r\nContent-Type: message/rfc822; name=\"%d.eml\"\r\n\r\n%s", i, i, eml)
	}
	results := check(t, Config{}, eml)
	if len(results) != 5 {
		t.Fatalf("got %s", describe(results))
	}
	for i, r := range results {
		if hashed := r.Attachment.SHA256 != ""; hashed != (i == 0) || r.Attachment.Size == 0 {
			t.Errorf("%d: %+v", i, r.Attachment)
		}
	}
}

// The digest and size are those of the decoded octets, whatever the encoding.
func TestDigest(t *testing.T) {
	const digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	for _, body := range []string{
		"Content-Transfer-Encoding: base64\n\naGVsbG8=\n",
		"Content-Transfer-Encoding: quoted-printable\n\nhel=\nlo",
		"Content-Transfer-Encoding: 8bit\n\nhello",
		"\nhello",
	} {
		a := check(t, Config{}, "Content-Type: application/x; name=a\n"+body)[0].Attachment
		if a.SHA256 != digest || a.Size != 5 {
			t.Errorf("%q: %d octets, %s", body, a.Size, a.SHA256)
		}
	}
}
