package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/health"
	"postern/gateway/mail"
)

var then = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// fakeOffice answers with what it is asked, so that a test sees what arrived.
type fakeOffice struct{ done []string }

func (f *fakeOffice) note(format string, args ...any) {
	f.done = append(f.done, fmt.Sprintf(format, args...))
}

func (f *fakeOffice) Queue(context.Context) ([]Queued, error) {
	return []Queued{{ID: "q1", Time: then, Recipients: []string{"a@example.com"}, Attempts: 2, LastReply: "451 <later>"}}, nil
}

func (f *fakeOffice) RetryQueued(_ context.Context, id string) error {
	f.note("retry %q", id)
	return nil
}

func (f *fakeOffice) DeleteQueued(_ context.Context, id string) error {
	f.note("delete %q", id)
	return fmt.Errorf("%s: %w", id, ErrNotFound)
}

func (f *fakeOffice) Kept(_ context.Context, q KeptQuery) ([]Kept, error) {
	f.note("kept %v", q)
	return []Kept{{ID: "k1", Time: then, Class: mail.ClassVirus, Symbols: []string{"EICAR"}}}, nil
}

func (f *fakeOffice) KeptOne(_ context.Context, id string) (Kept, error) {
	return Kept{}, fmt.Errorf("%s: %w", id, ErrNotFound)
}

func (f *fakeOffice) KeptContent(_ context.Context, id string, w io.Writer) error {
	if _, err := w.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
		return err
	}
	if id == "broken" {
		return errors.New("disk broke in the middle")
	}
	return nil
}

func (f *fakeOffice) ReleaseKept(_ context.Context, id string, how Release) ([]mail.Delivery, error) {
	if !how.Virus {
		return nil, fmt.Errorf("%s %w", id, ErrVirus)
	}
	return []mail.Delivery{{Recipient: how.To, Reply: "250 ok"}}, nil
}

func (f *fakeOffice) DeleteKept(_ context.Context, id string) error {
	f.note("delete kept %q", id)
	return nil
}

func (f *fakeOffice) Track(_ context.Context, query string) ([]mail.Record, error) {
	return []mail.Record{{ID: query, Action: mail.Quarantine}}, nil
}

func (f *fakeOffice) Health(context.Context) ([]health.Fact, error) {
	return []health.Fact{{Name: "clamav", OK: true, Since: then}}, nil
}

func (f *fakeOffice) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "tar")
	return err
}

// through serves an office and dials it.
func through(t *testing.T, o Office) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, o, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

// The office behind the socket is the office.
func TestThroughTheSocket(t *testing.T) {
	here := &fakeOffice{}
	there, _ := through(t, here)
	ctx := t.Context()
	same := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	queue, err := there.Queue(ctx)
	want, _ := here.Queue(ctx)
	same("Queue", queue, want)
	kept, err2 := there.Kept(ctx, KeptQuery{Recipient: "a@b", Since: then, Limit: 3})
	same("Kept", kept[0].ID, "k1")
	records, err3 := there.Track(ctx, "a b&c=d")
	same("Track", records[0].ID, "a b&c=d")
	same("Track", records[0].Action, mail.Quarantine)
	facts, err4 := there.Health(ctx)
	same("Health", facts[0].Name, "clamav")
	released, err5 := there.ReleaseKept(ctx, "k1", Release{To: "x@y", Virus: true})
	same("ReleaseKept", released, []mail.Delivery{{Recipient: "x@y", Reply: "250 ok"}})
	var content, backup bytes.Buffer
	err6 := errors.Join(there.KeptContent(ctx, "k1", &content), there.Backup(ctx, &backup))
	same("KeptContent", content.Len(), 100_000)
	same("Backup", backup.String(), "tar")
	err7 := errors.Join(there.RetryQueued(ctx, ""), there.RetryQueued(ctx, "q 1"), there.DeleteKept(ctx, "k/1"))
	if err := errors.Join(err, err2, err3, err4, err5, err6, err7); err != nil {
		t.Error(err)
	}
	same("what was done", here.done, []string{
		fmt.Sprintf("kept %v", KeptQuery{Recipient: "a@b", Since: then, Limit: 3}), `retry ""`, `retry "q 1"`, `delete kept "k/1"`,
	})
}

// Errors that commands tell apart keep their kind, and all keep their words.
func TestErrorsThroughTheSocket(t *testing.T) {
	there, _ := through(t, &fakeOffice{})
	ctx := t.Context()
	if _, err := there.KeptOne(ctx, "k9"); !errors.Is(err, ErrNotFound) || err.Error() != "k9: not found" {
		t.Errorf("KeptOne: %v", err)
	}
	if err := there.DeleteQueued(ctx, "q9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("DeleteQueued: %v", err)
	}
	if _, err := there.ReleaseKept(ctx, "k1", Release{}); !errors.Is(err, ErrVirus) {
		t.Errorf("ReleaseKept: %v", err)
	}
	// Half a content must not look like a whole one.
	if err := there.KeptContent(ctx, "broken", io.Discard); err == nil || err.Error() != "disk broke in the middle" {
		t.Errorf("KeptContent: %v", err)
	}
}

func TestSocketIsTheOwners(t *testing.T) {
	_, path := through(t, &fakeOffice{})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
}

// A socket that a dead process left is no hindrance, and nobody is behind it.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); err == nil {
		t.Error("Dial found somebody behind a stale socket")
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A path that a socket can't have is named as the fault that it is.
func TestPathOfTheSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "postern") // t.TempDir may be too long already
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for length, good := range map[int]bool{maxPath: true, maxPath + 1: false} {
		l, err := Listen(filepath.Join(dir, strings.Repeat("x", length-len(dir)-1)))
		if (err == nil) != good {
			t.Errorf("a path of %d octets: %v", length, err)
		}
		if err == nil {
			_ = l.Close()
		} else if !strings.Contains(err.Error(), "107") {
			t.Errorf("the limit is not said: %v", err)
		}
	}
}
