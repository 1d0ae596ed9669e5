package quarantine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/gateway/mail"
)

// faulty is a disk on which the operation number at fails, counted from 1. After
// a crash all that follow fail too.
type faulty struct {
	disk
	mu    sync.Mutex
	count int
	at    int
	err   error
	crash bool
	only  string // the operation that fails; "" is any
}

func (d *faulty) op(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.only != "" && d.only != name {
		return nil
	}
	d.count++
	if d.at > 0 && (d.count == d.at || d.crash && d.count > d.at) {
		return &fs.PathError{Op: name, Err: d.err}
	}
	return nil
}

func (d *faulty) create(name string) (file, error) {
	if err := d.op("create"); err != nil {
		return nil, err
	}
	f, err := d.disk.create(name)
	return &faultyFile{f, d}, err
}

func (d *faulty) rename(from, to string) error {
	if err := d.op("rename"); err != nil {
		return err
	}
	return d.disk.rename(from, to)
}

func (d *faulty) remove(name string) error {
	if err := d.op("remove"); err != nil {
		return err
	}
	return d.disk.remove(name)
}

func (d *faulty) syncDir(dir string) error {
	if err := d.op("syncdir"); err != nil {
		return err
	}
	return d.disk.syncDir(dir)
}

type faultyFile struct {
	file
	d *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.d.op("write"); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.d.op("sync"); err != nil {
		return err
	}
	return f.file.Sync()
}

var errCrash = errors.New("crashed")

func openFaulty(t *testing.T, c Config, d *faulty) *Store {
	t.Helper()
	s, err := open(t.Context(), c, func(real disk) disk { d.disk = real; return d })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// originals are the files that lie in the quarantine but the index.
func originals(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), indexName) {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// later is a clock by which whatever lies there is left over.
func later() time.Time { return time.Now().Add(2 * orphanAge) }

const content = "Subject: x\r\n\r\ntext\r\n"

// A crash at any step of Put: what was promised is there, whole; what was not is
// there whole or not at all.
func TestCrashInPut(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		dir := t.TempDir()
		d := &faulty{at: at, err: errCrash, crash: true}
		s := openFaulty(t, Config{Dir: dir}, d)
		id, err := s.Put(t.Context(), Entry{Message: "m", Recipients: []string{"b@example.com"}}, mail.Bytes(content))
		s.Close()
		s = openStore(t, Config{Dir: dir, Now: later})
		if _, err := s.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
		files := originals(t, dir)
		switch kept := list(t, s, Filter{}); {
		case err == nil && (kept != id || read(t, s, id) != content):
			t.Errorf("step %d: promised and lost", at)
		case kept != "" && (read(t, s, "m") != content || len(files) != 2):
			t.Errorf("step %d: half there: %v", at, files)
		case kept == "" && len(files) != 0:
			t.Errorf("step %d: left over: %v", at, files)
		}
		if err == nil {
			if at < 8 {
				t.Errorf("only %d steps: the test has lost sight of some", at-1)
			}
			return
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
	}
}

// A crash at any step of Delete leaves the entry as it was, or nothing.
func TestCrashInDelete(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		dir := t.TempDir()
		put(t, openStore(t, Config{Dir: dir}), Entry{Message: "m"}, content)
		s := openFaulty(t, Config{Dir: dir}, &faulty{at: at, err: errCrash, crash: true})
		err := s.Delete(t.Context(), "m")
		s.Close()
		s = openStore(t, Config{Dir: dir, Now: later})
		files := originals(t, dir)
		if kept := list(t, s, Filter{}); kept == "m" && (read(t, s, "m") != content || len(files) != 2) || kept == "" && len(files) != 0 {
			t.Errorf("step %d: listed %q, files %v", at, kept, files)
		}
		if err == nil {
			break
		}
	}
}

// Each operation fails once, as on a full disk: Put says so, leaves nothing, and
// the next one works.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "write", "rename"} {
		for at := 1; at <= 2; at++ {
			dir := t.TempDir()
			s := openFaulty(t, Config{Dir: dir}, &faulty{only: op, at: at, err: syscall.ENOSPC})
			if _, err := s.Put(t.Context(), Entry{Message: "m"}, mail.Bytes(content)); !errors.Is(err, ErrFull) {
				t.Errorf("%s %d: %v", op, at, err)
			}
			if files := originals(t, dir); len(files) != 0 {
				t.Errorf("%s %d: left over: %v", op, at, files)
			}
			if id := put(t, s, Entry{Message: "m"}, content); id != "m" || s.bytes != int64(len(content)) {
				t.Errorf("%s %d: %s, %d octets", op, at, id, s.bytes)
			}
		}
	}
}

func TestIndexFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	if _, err := s.index.db.Writer().Exec("PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	e := Entry{Message: "m", Recipients: make([]string, 10_000)}
	if _, err := s.Put(t.Context(), e, mail.Bytes(content)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if files := originals(t, dir); len(files) != 0 || s.bytes != 0 {
		t.Errorf("left over: %v, %d octets", files, s.bytes)
	}
}

// After an fsync that failed nothing is believed until the store is opened anew.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"sync", "syncdir"} {
		dir := t.TempDir()
		told := &alerts{}
		s := openFaulty(t, Config{Dir: dir, Alert: told.add}, &faulty{only: op, at: 1, err: syscall.EIO})
		for range 2 {
			if _, err := s.Put(t.Context(), Entry{Message: "m"}, mail.Bytes(content)); !errors.Is(err, ErrFailed) {
				t.Errorf("%s: %v", op, err)
			}
		}
		if files := originals(t, dir); len(files) != 0 || told.String() != "quarantine.failed" {
			t.Errorf("%s: left over: %v, alerts %q", op, files, told)
		}
		s.Close()
		put(t, openStore(t, Config{Dir: dir}), Entry{Message: "m"}, content)
	}
}

type brokenContent struct{ mail.Bytes }

func (brokenContent) WriteTo(w io.Writer) (int64, error) {
	n, _ := io.WriteString(w, "half")
	return int64(n), io.ErrUnexpectedEOF
}

type shortContent struct{ mail.Bytes }

func (shortContent) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, "short")
	return int64(n), err
}

func TestContentFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	for _, c := range []mail.Content{brokenContent{mail.Bytes(content)}, shortContent{mail.Bytes(content)}} {
		if _, err := s.Put(t.Context(), Entry{Message: "m"}, c); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%T: %v", c, err)
		}
	}
	if files := originals(t, dir); len(files) != 0 {
		t.Errorf("left over: %v", files)
	}
}

func TestDamagedOriginal(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"a bit": func(path string) error {
			return os.WriteFile(path, []byte(strings.Replace(content, "x", "y", 1)), 0o600)
		},
		"cut":     func(path string) error { return os.Truncate(path, 3) },
		"longer":  func(path string) error { return os.WriteFile(path, []byte(content+"."), 0o600) },
		"missing": os.Remove,
	} {
		dir := t.TempDir()
		s := openStore(t, Config{Dir: dir})
		put(t, s, Entry{Message: "m"}, content)
		put(t, s, Entry{Message: "other"}, content)
		if err := harm(filepath.Join(dir, fileName("m", originalEnd))); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Open(t.Context(), "m")
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fileName("m", originalEnd)) {
			t.Errorf("%s: %v", name, err)
		}
		if read(t, s, "other") != content {
			t.Errorf("%s: another is affected", name)
		}
		if err := s.Delete(t.Context(), "m"); err != nil {
			t.Errorf("%s: can't be deleted: %v", name, err)
		}
	}
}

func fill(t *testing.T, s *Store) {
	t.Helper()
	put(t, s, Entry{Message: "a", Time: time.Now().Add(-time.Hour), Recipients: []string{"b@example.com"}, Class: mail.ClassSpam}, content)
	put(t, s, Entry{Message: "b", Class: mail.ClassVirus}, content)
	if err := s.MarkReleased(t.Context(), "a", Release{To: "b@example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestIndexLost(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"garbage": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage\n", 1000)), 0o600) },
		"damaged inside": func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil {
				copy(b[4096:], strings.Repeat("\xaa", len(b)-4096))
				err = os.WriteFile(path, b, 0o600)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, openStore(t, Config{Dir: dir}))
			if err := harm(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, Config{Dir: dir})
			if got := list(t, s, Filter{}); got != "b a" {
				t.Errorf("got %q", got)
			}
			e, err := s.Get(t.Context(), "a")
			if err != nil || len(e.Released) != 1 || e.Class != mail.ClassSpam || read(t, s, "a") != content {
				t.Errorf("%+v, %v", e, err)
			}
			if s.bytes != int64(2*len(content)) {
				t.Errorf("%d octets", s.bytes)
			}
		})
	}
}

// A rebuild that was cut off is begun anew.
func TestRebuildCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, openStore(t, Config{Dir: dir}))
	if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	x, err := openIndex(ctx, filepath.Join(dir, indexName), false)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	x.close()
	if got := list(t, openStore(t, Config{Dir: dir}), Filter{}); got != "b a" {
		t.Errorf("got %q", got)
	}
}

func TestRebuildWithoutSidecar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, openStore(t, Config{Dir: dir}))
	for _, name := range []string{indexName, fileName("a", sidecarEnd)} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, fileName("b", sidecarEnd)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Dir: dir})
	for _, id := range []string{"a", "b"} {
		e, err := s.Get(t.Context(), id)
		if err != nil || e.Class != mail.ClassPolicy || read(t, s, id) != content {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, openStore(t, Config{Dir: dir}))
	write := func(id, end string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, fileName(id, end)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("left", originalEnd)
	write("half", originalEnd+newEnd)
	write("sidecar", sidecarEnd)
	write("a", sidecarEnd+newEnd)
	write("unreadable", originalEnd)
	write("unreadable", sidecarEnd)
	if err := os.Remove(filepath.Join(dir, fileName("a", sidecarEnd))); err != nil { // Delete was cut off
		t.Fatal(err)
	}
	stranger := filepath.Join(dir, "00", "README")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	s := openStore(t, Config{Dir: dir})
	if got := len(originals(t, dir)); got != 3+1+5+1 {
		t.Errorf("%d files: young ones were touched", got)
	}
	s.inFlight["left"] = struct{}{}
	s.Now = later
	if _, err := s.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileName("left", originalEnd), "00/README", fileName("unreadable", originalEnd), fileName("a", sidecarEnd)} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	s.unclaim("left")
	if _, err := s.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(originals(t, dir)); got != 4+2+1 {
		t.Errorf("%d files: %v", got, originals(t, dir))
	}
	if got := list(t, s, Filter{}); got != "b a" {
		t.Errorf("listed %q", got)
	}
}

// An older index was restored: the files know better.
func TestOlderIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	put(t, s, Entry{Message: "a"}, content)
	put(t, s, Entry{Message: "b"}, content)
	if _, err := s.index.db.Writer().Exec("DELETE FROM entries WHERE id = 'b'"); err != nil {
		t.Fatal(err)
	}
	if id := put(t, s, Entry{Message: "b"}, "another"); id != "b.2" {
		t.Errorf("the new one became %q", id)
	}
	s.Close()
	s = openStore(t, Config{Dir: dir, Now: later})
	if _, err := s.Get(t.Context(), "b"); err != nil || read(t, s, "b") != content || read(t, s, "b.2") != "another" {
		t.Errorf("lost: %v", err)
	}
}
