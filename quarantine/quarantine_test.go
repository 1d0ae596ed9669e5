package quarantine

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "none"), ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	w := openStore(t, Config{Dir: dir})
	put(t, w, Entry{Message: "a"}, content)
	r := openStore(t, Config{Dir: dir, ReadOnly: true})
	put(t, w, Entry{Message: "b", Time: time.Now().Add(time.Second)}, content)
	if got := list(t, r, Filter{}); got != "b a" || read(t, r, "b") != content {
		t.Errorf("got %q", got)
	}
	if _, err := r.Put(t.Context(), Entry{Message: "c"}, mail.Bytes(content)); err == nil {
		t.Error("written through a store that was opened to be read")
	}
	if err := r.Delete(t.Context(), "a"); err == nil || read(t, w, "a") != content {
		t.Errorf("deleted through a store that was opened to be read: %v", err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "quarantine")
	put(t, openStore(t, Config{Dir: dir}), Entry{Message: "a"}, content)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A link that leads out of the quarantine is not followed.
func TestLink(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Dir: dir})
	put(t, s, Entry{Message: "a"}, content)
	path := filepath.Join(dir, fileName("a", originalEnd))
	if err := errors.Join(os.Remove(path), os.Symlink(outside, path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(t.Context(), "a"); err == nil {
		t.Error("followed")
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	dir, restored := t.TempDir(), t.TempDir()
	s := openStore(t, Config{Dir: dir})
	put(t, s, Entry{Message: "a", Class: mail.ClassSpam, Recipients: []string{"b@example.com"}}, content)
	put(t, s, Entry{Message: "b", Time: time.Now().Add(time.Second)}, "")
	err := s.Export(t.Context(), func(name string, size int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		if int64(len(b)) != size {
			t.Errorf("%s: %d octets, want %d", name, len(b), size)
		}
		path := filepath.Join(restored, name)
		return errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	r := openStore(t, Config{Dir: restored})
	if got := list(t, r, Filter{}); got != "b a" || read(t, r, "a") != content {
		t.Errorf("got %q", got)
	}
	boom := errors.New("boom")
	if err := s.Export(t.Context(), func(string, int64, io.Reader) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Config{Dir: dir, Keep: 10 * day})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		put(t, s, Entry{Message: "old", Time: time.Now().Add(-10 * day)}, content)
		put(t, s, Entry{Message: "young", Time: time.Now().Add(-10*day + 30*time.Minute)}, content)
		go s.Run(t.Context())
		time.Sleep(expireFirst + time.Second)
		synctest.Wait()
		if got := list(t, s, Filter{}); got != "young" {
			t.Errorf("after the first pass: %q", got)
		}
		time.Sleep(expireEvery)
		synctest.Wait()
		if got := list(t, s, Filter{}); got != "" {
			t.Errorf("after the second pass: %q", got)
		}
	})
}

func TestClock(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var c clock
	for i, step := range []struct {
		wall    time.Duration // since start
		elapsed time.Duration
		ok      bool
	}{
		{time.Hour, time.Hour, true},
		{3 * time.Hour, 2 * time.Hour, true},                        // an hour ahead is allowed
		{3*time.Hour + 2*time.Hour + 1, 3 * time.Hour, false},       // more is not
		{6*time.Hour + 1, 4 * time.Hour, false},                     // and is held against it
		{28*time.Hour + 1, 26 * time.Hour, false},                   // for a day
		{29*time.Hour + 1, 27 * time.Hour, true},                    // then it is believed
		{1000 * day, 28 * time.Hour, false},                         // far ahead
		{29 * time.Hour, 29 * time.Hour, true},                      // and set right
		{30*time.Hour - 30*time.Minute, 30 * time.Hour, true},       // a little back
		{30*time.Hour - 30*time.Minute - day, 30 * time.Hour, true}, // far back: what is too young stays
	} {
		if i == 0 {
			c = clock{wall: start}
		}
		if jump, ok := c.look(start.Add(step.wall), step.elapsed); ok != step.ok {
			t.Errorf("step %d: trusted %v, jump %v", i, ok, jump)
		}
	}
}

func FuzzSplitName(f *testing.F) {
	for _, name := range []string{"a.eml", "a.2.json", "a.eml.new", "../a.eml", ".eml", "a.json.new", "A.eml"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id, end, ok := splitName(name)
		if ok && (id+end != name || !mail.ValidID(id)) {
			t.Errorf("%q: %q %q", name, id, end)
		}
	})
}
