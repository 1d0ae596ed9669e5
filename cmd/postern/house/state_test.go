package house

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/gateway/control"
	"postern/gateway/mail"
	"postern/quarantine"
)

var testTime = time.Now().Add(-time.Hour)

func TestStateIsLocked(t *testing.T) {
	dir := t.TempDir()
	first, err := openState(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the wait for the lock ends at once
	if _, err := openState(ctx, dir); !errors.Is(err, errRunning) {
		t.Errorf("a second one: %v, want %v", err, errRunning)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openState(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestStateOfANewerPostern(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openState(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("openState: %v", err)
	}
}

// testConfig is a configuration with a state of its own.
func testConfig(t *testing.T) *config.Config {
	c := config.Default()
	c.Hostname, c.State = "mx.example.com", filepath.Join(t.TempDir(), "state")
	c.Domains = map[string]config.Domain{"example.com": {DeliverTo: []string{"127.0.0.1:1"}}}
	return c
}

func openTestHouse(t *testing.T, c *config.Config) *House {
	t.Helper()
	h, err := Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What is backed up while the house is in use is there after a restore.
func TestBackupAndRestore(t *testing.T) {
	c := testConfig(t)
	h := openTestHouse(t, c)
	content := mail.Bytes("Subject: kept\r\n\r\nSecret.\r\n")
	id, err := h.quarantine.Put(t.Context(), quarantine.Entry{
		Message: mail.NewID(testTime), Time: testTime, Sender: "a@b.example", Recipients: []string{"c@example.com"},
		Size: content.Size(), Class: mail.ClassSpam, Subject: "kept",
	}, content)
	if err != nil {
		t.Fatal(err)
	}
	h.records.Observe(t.Context(), mail.Record{ID: "r1", Time: testTime, Sender: "a@b.example", Recipients: []string{"c@example.com"}})
	if err := h.gateway.Tell(t.Context(), "subject", "text"); err != nil {
		t.Fatal(err)
	}
	// An original that is just being put has no sidecar yet, and is no entry.
	for _, name := range []string{"quarantine/00/half.eml", "quarantine/00/half.json.new"} {
		if err := os.WriteFile(h.state.path(name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	if err := backup(t.Context(), h, &archive); err != nil {
		t.Fatal(err)
	}
	waiting := h.spool.Len()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	if err := Restore(t.Context(), c.State, bytes.NewReader(archive.Bytes()), false); err == nil {
		t.Error("restored over a state without being told to")
	}
	elsewhere := testConfig(t)
	for cut := 0; cut < archive.Len()-1024-2*512; cut += 512 + archive.Len()/512/20*512 { // between two files, too
		if err := Restore(t.Context(), elsewhere.State, bytes.NewReader(archive.Bytes()[:cut]), false); err == nil {
			t.Errorf("%d of %d octets of a backup were restored", cut, archive.Len())
		}
	}
	if err := Restore(t.Context(), elsewhere.State, bytes.NewReader([]byte("no backup")), false); err == nil {
		t.Error("anything was restored")
	}
	if _, err := os.Stat(elsewhere.State); err == nil {
		t.Error("a failed restore left a state")
	}
	if err := Restore(t.Context(), elsewhere.State, bytes.NewReader(archive.Bytes()), false); err != nil {
		t.Fatal(err)
	}
	there := openTestHouse(t, elsewhere)
	defer there.Close()
	var raw bytes.Buffer
	if err := (office{there}).KeptContent(t.Context(), id, &raw); err != nil || raw.String() != string(content) {
		t.Errorf("the original: %q, %v", raw.String(), err)
	}
	records, err := office{there}.Track(t.Context(), "c@example.com")
	if err != nil || len(records) != 1 {
		t.Errorf("records: %v, %v", records, err)
	}
	if kept, err := (office{there}).Kept(t.Context(), control.KeptQuery{}); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if there.spool.Len() != waiting || waiting != 1 {
		t.Errorf("%d wait, want %d", there.spool.Len(), waiting)
	}
}

// What a crash left half done does not keep Postern from starting, and goes.
func TestStateAfterACrash(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "tmp", "backup-1", "records.db")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("large"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openState(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if list, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(list) != 0 {
		t.Errorf("left in tmp: %v, %v", list, err)
	}
	for _, name := range []string{"", "VERSION", "lock", "tmp", "tls"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestWriteFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	for _, text := range []string{"one", "two"} {
		if err := writeFile(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); string(got) != text || err != nil {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	if err := writeFile(filepath.Join(file, "y"), nil); err == nil {
		t.Error("written into a file")
	}
	if list, _ := os.ReadDir(filepath.Dir(file)); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}
