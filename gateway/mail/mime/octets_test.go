package mime

import (
	"bytes"
	"strings"
	"testing"
)

// TestKinds holds each octet against what the standards say of it.
func TestKinds(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range 256 {
		c := byte(i)
		for _, k := range []struct {
			kind Octets
			is   bool
		}{
			{NUL, c == 0},
			{EightBit, c > 127},
			{Control, c == 127 || c > 0 && c < 32 && !strings.ContainsRune("\t\r\n", rune(c))},
			{padding, c == '='},
			{blank, c < 128 && strings.ContainsRune(" \t\r\n", rune(c))},
			{notDigit, strings.IndexByte(alphabet, c) < 0},
			{junk, strings.IndexByte(alphabet+"= \t\r\n", c) < 0},
		} {
			if got := Scan([]byte{c})&k.kind != 0; got != k.is {
				t.Errorf("%q is of kind %#x: %v", c, k.kind, got)
			}
		}
	}
}

// TestScan puts one octet of a kind into each place of texts of many lengths.
func TestScan(t *testing.T) {
	for length := range 20 {
		text := bytes.Repeat([]byte{'a'}, length)
		if seen := Scan(text); seen != 0 {
			t.Errorf("%q: %#x", text, seen)
		}
		if at := (NUL | EightBit | Control).Index(text); at != -1 {
			t.Errorf("%q: at %d", text, at)
		}
		for at := range text {
			text[at] = 0
			if got := Scan(text); got != NUL|junk {
				t.Errorf("%q: %#x", text, got)
			}
			if got := NUL.Index(text); got != at {
				t.Errorf("%q: NUL at %d", text, got)
			}
			if got := EightBit.Index(text); got != -1 {
				t.Errorf("%q: 8 bit at %d", text, got)
			}
			text[at] = 'a'
		}
	}
	mixed := []byte("a\tb\r\n\x1b\x00\xff")
	if seen := Scan(mixed); seen != NUL|EightBit|Control|blank|junk {
		t.Errorf("%#x", seen)
	}
	for kind, want := range map[Octets]int{NUL: 6, EightBit: 7, Control: 5, NUL | Control: 5, padding: -1, blank: 1} {
		if got := kind.Index(mixed); got != want {
			t.Errorf("%#x is at %d", kind, got)
		}
	}
}
