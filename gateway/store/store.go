// Package store opens the SQLite databases that lie in Postern's state: one
// connection that writes, a few that read, and migrations. It follows SQLite's
// own documentation of write-ahead logging; nothing here is about mail.
//
// What is kept, and in which tables, is the business of the package that hands
// in its migrations.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
)

// Durability says what a committed transaction survives. Both survive the death
// of the process at any instant.
type Durability int

// The choices.
const (
	Durable Durability = iota // a power cut too: each commit is synced to the disk
	History                   // a power cut may take the last transactions, never the database
)

// Options say how a database is opened.
type Options struct {
	Durability Durability
	// ReadOnly is for commands that look while another process may be writing.
	// The database must exist and be of the version that Migrations lead to.
	ReadOnly bool
	// Migrations holds 0001_name.sql, 0002_name.sql and so on in its root.
	Migrations fs.FS
	// Repair tells an admin what to do when the file is damaged; it ends the
	// error's text.
	Repair string
}

// DB is an open database. Its methods may be called by several goroutines.
type DB struct {
	path   string
	repair string
	writer *sql.DB // of one connection; nil when read-only
	reader *sql.DB
}

const (
	busyTimeout = 5 * time.Second // how long a lock of another process is waited for
	readers     = 4
)

// Open opens the database at path, creates it where there is none, and brings
// it to the last version. It fails with a *VersionError when the file was
// written by a newer Postern, and with ErrDamaged when it can't be read.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	steps, err := loadMigrations(o.Migrations)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &DB{path: path, repair: o.Repair}
	if err := d.open(ctx, o, steps); err != nil {
		return nil, errors.Join(d.Explain(err), d.Close())
	}
	return d, nil
}

func (d *DB) open(ctx context.Context, o Options, steps []migration) (err error) {
	if o.ReadOnly {
		if _, err := os.Stat(d.path); err != nil {
			return err
		}
	} else {
		created, err := create(d.path)
		if err != nil {
			return err
		}
		if d.writer, err = pool(d.path, o.Durability, true); err != nil {
			return err
		}
		if err := migrate(ctx, d, steps); err != nil {
			return err
		}
		if created {
			if err := SyncDir(filepath.Dir(d.path)); err != nil {
				return err
			}
		}
	}
	if d.reader, err = pool(d.path, o.Durability, false); err != nil {
		return err
	}
	return checkVersion(ctx, d.reader, d.path, len(steps))
}

// create makes the empty file, so that its mode, and that of the log beside it,
// is ours and not the umask's. It never opens a file that exists: closing it
// again would drop the locks that SQLite holds in this process.
func create(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// SyncDir makes the names in a folder survive a power cut.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func pool(path string, durability Durability, write bool) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn(path, durability, write))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	if write {
		db.SetMaxOpenConns(1)
		return db, nil
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(1)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

func dsn(path string, durability Durability, write bool) string {
	q := url.Values{}
	q.Set("_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()))
	q.Set("_dqs", "0")
	q.Set("_defensive", "1")
	q.Set("_error_rc", "1")
	if write {
		q.Set("_txlock", "immediate") // a transaction that starts to read can't be made to write under load
		q.Set("_journal_mode", "WAL")
		q.Set("_foreign_keys", "1")
		q.Set("_synchronous", "FULL")
		if durability == History {
			q.Set("_synchronous", "NORMAL")
			// Much is written, at random places of an index: a page is kept until
			// many of its rows have come, and copied out of the log rarely.
			q.Add("_pragma", "cache_size(-8192)")
			q.Add("_pragma", "wal_autocheckpoint(4000)")
		}
	} else {
		q.Set("mode", "ro")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Path is the file's name as it was given.
func (d *DB) Path() string { return d.path }

// Reader answers queries. It sees what was committed when a query began, and
// never waits for the writer.
func (d *DB) Reader() *sql.DB { return d.reader }

// Writer has one connection; whoever uses it waits for the one before. It is nil
// when the database was opened to be read.
func (d *DB) Writer() *sql.DB { return d.writer }

// Update runs f in one transaction, which is committed when f returns nil. It
// returns errors of f and of the database as Explain does.
func (d *DB) Update(ctx context.Context, f func(*sql.Tx) error) error {
	if d.writer == nil {
		return fmt.Errorf("write %s: opened to be read only", d.path)
	}
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return d.Explain(err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // what happened is err; a rollback fails only where it was done already
		return d.Explain(err)
	}
	return d.Explain(tx.Commit())
}

// Backup writes a copy of the database, as it is at this moment, to a new file
// at path, synced. Reading and writing go on meanwhile.
func (d *DB) Backup(ctx context.Context, path string) error {
	created, err := create(path)
	if err == nil && !created {
		err = fs.ErrExist
	}
	if err != nil {
		return fmt.Errorf("back up %s to %s: %w", d.path, path, err)
	}
	if err := d.copyTo(ctx, path); err != nil {
		return fmt.Errorf("back up %s: %w", d.path, errors.Join(d.Explain(err), os.Remove(path)))
	}
	return nil
}

func (d *DB) copyTo(ctx context.Context, path string) error {
	if _, err := d.reader.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), SyncDir(filepath.Dir(path)))
}

// Check reads the whole file and says whether its structure is sound; a fault is
// ErrDamaged. It takes about a second for each 200 MB.
func (d *DB) Check(ctx context.Context) error {
	var result string
	err := d.reader.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result)
	if err != nil {
		return d.Explain(err)
	}
	if result != "ok" {
		return d.damaged(errors.New(result))
	}
	return nil
}

// Close waits for queries that run, and closes. The log beside the file is
// written into it and removed by the last who closes.
func (d *DB) Close() error {
	var errs []error
	for _, p := range []*sql.DB{d.reader, d.writer} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}
