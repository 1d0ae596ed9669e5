package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// The synthetic schema: version 1 keeps words, version 2 counts them.
var steps = fstest.MapFS{
	"0001_words.sql": {Data: []byte(`
		CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID;
		INSERT INTO words VALUES ('first');`)},
	"0002_count.sql": {Data: []byte(`
		ALTER TABLE words ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
		CREATE INDEX words_count ON words(count);`)},
}

func upTo(n int) fs.FS {
	some := fstest.MapFS{}
	for name, f := range steps {
		if name[3]-'0' <= byte(n) {
			some[name] = f
		}
	}
	return some
}

func open(t testing.TB, path string, o Options) *DB {
	t.Helper()
	d, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func insert(d *DB, word string) error {
	return d.Update(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO words(word) VALUES (?)", word)
		return err
	})
}

func count(t testing.TB, d *DB) (n int) {
	t.Helper()
	if err := d.Reader().QueryRow("SELECT count(*) FROM words").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func pragma(t testing.TB, db *sql.DB, name string) (value string) {
	t.Helper()
	if err := db.QueryRow("PRAGMA " + name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSettings(t *testing.T) {
	for durability, want := range map[Durability]string{Durable: "2", History: "1"} {
		d := open(t, filepath.Join(t.TempDir(), "a b?c%20#.db"), Options{Durability: durability, Migrations: steps})
		for name, want := range map[string]string{
			"journal_mode": "wal", "synchronous": want, "foreign_keys": "1", "busy_timeout": "5000", "user_version": "2",
		} {
			if got := pragma(t, d.Writer(), name); got != want {
				t.Errorf("durability %d: %s is %s, want %s", durability, name, got, want)
			}
		}
		if _, err := d.Reader().Exec("DELETE FROM words"); err == nil {
			t.Error("a reading connection could write")
		}
		info, err := os.Stat(d.Path())
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
	}
}

func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	d := open(t, path, Options{Migrations: upTo(1)})
	if err := insert(d, "second"); err != nil {
		t.Fatal(err)
	}
	d.Close()

	d = open(t, path, Options{Migrations: upTo(2)})
	var n int
	if err := d.Reader().QueryRow("SELECT sum(count) FROM words").Scan(&n); err != nil || n != 2 {
		t.Errorf("sum %d, %v", n, err)
	}
}

func TestVersionRefused(t *testing.T) {
	tests := []struct {
		name          string
		version       int
		known         int
		readOnly      bool
		want          string
		stillReadable bool
	}{
		{"newer", 2, 1, false, "%s is of version 2, this Postern knows 1: install the newer Postern or restore a backup", true},
		{"newer, to be read", 2, 1, true, "%s is of version 2, this Postern knows 1: install the newer Postern or restore a backup", true},
		{"older, to be read", 1, 2, true, "%s is of version 1, this Postern needs 2: it is migrated when postern serve starts", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			open(t, path, Options{Migrations: upTo(tt.version)}).Close()
			_, err := Open(t.Context(), path, Options{Migrations: upTo(tt.known), ReadOnly: tt.readOnly})
			var v *VersionError
			if !errors.As(err, &v) || v.Version != tt.version || v.Known != tt.known {
				t.Fatalf("got %v", err)
			}
			if want := fmt.Sprintf(tt.want, path); err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if d := open(t, path, Options{Migrations: upTo(tt.version)}); count(t, d) != 1 {
				t.Error("the refused database was changed")
			}
		})
	}
}

func TestMigrationFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	bad := fstest.MapFS{
		"0001_words.sql": steps["0001_words.sql"],
		"0002_bad.sql":   {Data: []byte("INSERT INTO words VALUES ('half'); INSERT INTO nowhere VALUES (1);")},
	}
	_, err := Open(t.Context(), path, Options{Migrations: bad})
	if err == nil || !strings.Contains(err.Error(), "0002_bad.sql") {
		t.Fatalf("got %v", err)
	}
	d := open(t, path, Options{Migrations: upTo(1)})
	if n := count(t, d); n != 1 {
		t.Errorf("%d words: half of a migration stayed", n)
	}
}

func TestMigrationNames(t *testing.T) {
	for _, name := range []string{"0002_gap.sql", "1x_word.sql", "word.sql", "0000_zero.sql"} {
		_, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), Options{Migrations: fstest.MapFS{name: {}}})
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Several processes may start at once after an upgrade.
func TestMigrateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			d, err := Open(context.Background(), path, Options{Migrations: steps})
			if err != nil {
				t.Error(err)
				return
			}
			d.Close()
		})
	}
	wg.Wait()
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if _, err := Open(t.Context(), path, Options{Migrations: steps, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	open(t, path, Options{Migrations: steps}).Close()

	// Nobody has it open.
	r := open(t, path, Options{Migrations: steps, ReadOnly: true})
	if n := count(t, r); n != 1 {
		t.Errorf("%d words", n)
	}
	if err := insert(r, "no"); err == nil {
		t.Error("written through a database that was opened to be read")
	}
	// Somebody writes.
	w := open(t, path, Options{Migrations: steps})
	if err := insert(w, "new"); err != nil {
		t.Fatal(err)
	}
	if n := count(t, r); n != 2 {
		t.Errorf("%d words while another writes", n)
	}
}

func TestUpdateRollsBack(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "x.db"), Options{Migrations: steps})
	boom := errors.New("boom")
	err := d.Update(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM words"); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) || count(t, d) != 1 {
		t.Errorf("%v, %d words", err, count(t, d))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Update(ctx, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := insert(d, "after"); err != nil {
		t.Errorf("the writer is lost: %v", err)
	}
}

func TestReadersWhileWriting(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "x.db"), Options{Durability: History, Migrations: steps})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 * readers {
		wg.Go(func() {
			for last := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				var n int
				if err := d.Reader().QueryRow("SELECT count(*) FROM words").Scan(&n); err != nil || n < last {
					t.Errorf("%d words after %d, %v", n, last, err)
					return
				}
				last = n
			}
		})
	}
	for i := range 200 {
		if err := insert(d, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	d := open(t, filepath.Join(dir, "x.db"), Options{Migrations: steps})
	if err := insert(d, "kept"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy of it's.db")
	if err := d.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := insert(d, "later"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := d.Backup(t.Context(), copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an older backup was written over: %v", err)
	}
	c := open(t, copied, Options{Migrations: steps})
	if n := count(t, c); n != 2 {
		t.Errorf("%d words in the copy", n)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBackupFails(t *testing.T) {
	dir := t.TempDir()
	d := open(t, filepath.Join(dir, "x.db"), Options{Migrations: steps})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(dir, "copy.db")
	if err := d.Backup(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a backup was left: %v", err)
	}
}

func TestDamagedAtOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true} {
		_, err := Open(t.Context(), path, Options{Migrations: steps, ReadOnly: readOnly, Repair: "move it away"})
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("got %v", err)
		}
		for _, part := range []string{path, "move it away"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
	}
}

func TestDamagedInside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	d := open(t, path, Options{Migrations: steps})
	for i := range 1000 {
		if err := insert(d, fmt.Sprintf("%0200d", i)); err != nil {
			t.Fatal(err)
		}
		if i == 100 { // one synced commit is like the next; the others need not take their time
			if _, err := d.Writer().Exec("PRAGMA synchronous = OFF"); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8192; i < len(b)-4096; i++ {
		b[i] = 0xaa
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, path, Options{Migrations: steps})
	if err := d.Check(t.Context()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Errorf("check: %v", err)
	}
	_, err = d.Reader().Exec("SELECT sum(length(word)) FROM words")
	if err = d.Explain(err); !errors.Is(err, ErrDamaged) {
		t.Errorf("query: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "x.db"), Options{Migrations: steps})
	if _, err := d.Writer().Exec("PRAGMA max_page_count = 1"); err != nil { // the least there can be
		t.Fatal(err)
	}
	if err := insert(d, strings.Repeat("x", 1<<20)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if err := insert(d, "fits"); err != nil {
		t.Errorf("after a full disk: %v", err)
	}
}

func TestConflict(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "x.db"), Options{Migrations: steps})
	if err := insert(d, "first"); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
}

func TestExplain(t *testing.T) {
	d := &DB{path: "state/x.db"}
	if err := d.Explain(nil); err != nil {
		t.Error(err)
	}
	if err := d.Explain(fs.ErrClosed); err != fs.ErrClosed {
		t.Errorf("a stranger's error was changed: %v", err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for name, durability := range map[string]Durability{"durable": Durable, "history": History} {
		b.Run(name, func(b *testing.B) {
			d := open(b, filepath.Join(b.TempDir(), "x.db"), Options{Durability: durability, Migrations: steps})
			for i := range b.N {
				if err := insert(d, fmt.Sprint("word", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
