package screen

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

func TestFold(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""},
		{"one", 10, "one"},
		{"one two three", 7, "one two|three"},
		{"one two three", 6, "one|two|three"},
		{"été été", 7, "été été"},
		{"longer-than-a-line x", 6, "longe…|x"},
		{"\x1b[31mred", 20, "?[31mred"},
	} {
		if got := strings.Join(Fold(Words(c.text), c.width), "|"); got != c.want {
			t.Errorf("%q at %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestCutAndPad(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{cut("abcd", 4), "abcd"},
		{cut("abcde", 4), "abc…"},
		{cut("éééé", 4), "éééé"},
		{cut("ab", 0), "…"},
		{Pad("é", 3), "é  "},
		{Pad("abc", 2), "abc"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// A table that is too wide takes the room from one column.
func TestRows(t *testing.T) {
	var b bytes.Buffer
	s := Screen{Out: &b, Width: 40}
	s.Rows(1, Table{{"TO", "SUBJECT", "STATUS"}, {"anna", strings.Repeat("long ", 20), "No"}, {"x\x1b", "short", "Yes, score=7"}})
	want := "" +
		"  TO    SUBJECT             STATUS\n" +
		"  anna  long long long lo…  No\n" +
		"  x?    short               Yes, score=7\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// Colour is for terminals; a file or a pipe gets none, and the wider lines.
func TestColour(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, s := range map[string]Screen{"pipe": New(w), "buffer": New(&bytes.Buffer{})} {
		if s.Colour || s.Width != Wide {
			t.Errorf("%s: %+v", name, s)
		}
	}
	var b bytes.Buffer
	Screen{Out: &b, Width: Narrow, Colour: true}.Verdict(mail.Reject, "550 5.7.1 no")
	if want := "\x1b[1;31mreject    \x1b[0m  550 5.7.1 no\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	for a := mail.Accept; a <= mail.Reject; a++ {
		if styles[a] == Plain {
			t.Errorf("%s has no colour", a)
		}
	}
}
