package spool

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"postern/gateway/mail"
)

// A pipe in the place of an item's file is set aside, or stays with an alarm; it
// never holds the start.
func TestPipeInTheSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(Config{Dir: dir, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	it := Item{ID: "whole", Message: "whole", Recipients: []mail.Address{{Local: "a", Domain: "b.example"}}, Route: "b.example", Content: mail.Bytes("x\r\n")}
	if err := s.Put(t.Context(), it); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "items", "*", "whole.mail"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	alarms := 0
	again, err := Open(Config{Dir: dir, MinFree: -1, Alarm: func(string) { alarms++ }})
	if err != nil {
		t.Fatal(err)
	}
	if again.Len() != 0 || alarms == 0 {
		t.Errorf("%d items, %d alarms", again.Len(), alarms)
	}
}
