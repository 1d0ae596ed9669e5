package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// migration leads from the version before it to its own. Its place in the list
// is its version, so a file that was released is never edited or taken out.
type migration struct {
	name string
	text string
}

// loadMigrations reads the files in order, and refuses a gap or a number that
// stands twice: the version would then mean two things.
func loadMigrations(fsys fs.FS) ([]migration, error) {
	if fsys == nil {
		return nil, nil
	}
	names, err := fs.Glob(fsys, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	steps := make([]migration, len(names))
	for i, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s: want number %d", name, i+1)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		steps[i] = migration{name, string(text)}
	}
	return steps, nil
}

// migrate brings the database to the last version, each step in a transaction
// of its own: a crash leaves one version or the other.
func migrate(ctx context.Context, d *DB, steps []migration) error {
	for {
		done, err := migrateOne(ctx, d, steps)
		if done || err != nil {
			return err
		}
	}
}

// migrateOne asks for the version inside of the transaction, since another
// process may be doing the same.
func migrateOne(ctx context.Context, d *DB, steps []migration) (done bool, err error) {
	version, err := readVersion(ctx, d.writer)
	if err != nil || version == len(steps) {
		return true, err
	}
	err = d.Update(ctx, func(tx *sql.Tx) error {
		version, err := readVersion(ctx, tx)
		if err != nil {
			return err
		}
		if version >= len(steps) {
			return versionFault(d.path, version, len(steps))
		}
		if _, err := tx.ExecContext(ctx, steps[version].text); err != nil {
			return fmt.Errorf("migration %s: %w", steps[version].name, err)
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1))
		return err
	})
	return false, err
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readVersion(ctx context.Context, q queryer) (version int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

func checkVersion(ctx context.Context, q queryer, path string, known int) error {
	version, err := readVersion(ctx, q)
	if err != nil {
		return err
	}
	return versionFault(path, version, known)
}

func versionFault(path string, version, known int) error {
	if version == known {
		return nil
	}
	return &VersionError{Path: path, Version: version, Known: known}
}
