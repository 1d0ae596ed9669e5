package screen

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a sender wrote can neither steer the terminal nor break the table.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	rows := Table{{"ID", "SUBJECT", "REASON"}, {"1", "a\tb\nc\x1b[2J", "x"}, {"22", "\u202eevil", "été"}}
	if err := rows.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"ID  SUBJECT    REASON\n" +
		"1   a?b?c?[2J  x\n" +
		"22  ?evil      été\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWriteJSON(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSON(&b, []map[string]string{{"a": "<x@y>&\x1b"}, {}}); err != nil {
		t.Fatal(err)
	}
	if want := "{\"a\":\"<x@y>&\\u001b\"}\n{}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if err := WriteJSON(&b, []any{func() {}}); err == nil {
		t.Error("a function became JSON")
	}
}

func TestTexts(t *testing.T) {
	at := time.Date(2026, 11, 22, 13, 4, 5, 0, time.Local)
	for _, c := range []struct{ got, want string }{
		{ShortTime(at), "11-22 13:04"},
		{LongTime(at.UTC()), "2026-11-22 13:04:05 " + at.Format("-0700")},
		{Sender(""), "<>"},
		{Sender("a@example.net"), "a@example.net"},
		{Brief(strings.Repeat("é", 40)), strings.Repeat("é", 40)},
		{Brief(strings.Repeat("é", 41)), strings.Repeat("é", 39) + "…"},
		{Octets(0), "0 B"},
		{Octets(9_999), "9999 B"},
		{Octets(10_000), "10 kB"},
		{Octets(9_999_999), "9999 kB"},
		{Octets(10_000_000), "10 MB"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
