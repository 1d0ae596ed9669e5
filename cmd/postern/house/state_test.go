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
	half := archive.Bytes()[:archive.Len()/2]
	if err := Restore(t.Context(), elsewhere.State, bytes.NewReader(half), false); err == nil {
		t.Error("half a backup was restored")
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
	if there.spool.Len() != waiting || waiting != 1 {
		t.Errorf("%d wait, want %d", there.spool.Len(), waiting)
	}
}
