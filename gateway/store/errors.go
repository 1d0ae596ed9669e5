package store

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// What Explain makes of the errors that somebody must act on.
var (
	ErrDamaged = errors.New("the database is damaged")
	ErrFull    = errors.New("the disk is full")
	ErrSync    = errors.New("the disk did not take a synced write")
	// ErrConflict is a row that a constraint of the tables forbids.
	ErrConflict = errors.New("the row conflicts with another")
)

// VersionError says that a database was written by another version of Postern.
type VersionError struct {
	Path    string
	Version int // of the file
	Known   int // the last that this Postern knows
}

// Error says what to do.
func (e *VersionError) Error() string {
	if e.Version > e.Known {
		return fmt.Sprintf("%s is of version %d, this Postern knows %d: install the newer Postern or restore a backup", e.Path, e.Version, e.Known)
	}
	return fmt.Sprintf("%s is of version %d, this Postern needs %d: it is migrated when postern serve starts", e.Path, e.Version, e.Known)
}

// SQLite's result codes (sqlite.org/rescode.html) that we tell apart.
const (
	codeCorrupt  = 11
	codeFull     = 13
	codeConflict = 19
	codeNotADB   = 26
	codeFsync    = 10 | 4<<8
	codeDirFsync = 10 | 5<<8
)

// Explain adds ErrDamaged, ErrFull, ErrConflict or ErrSync to an error that came from the
// database, with the file's name. Other errors, and nil, come back as they are.
func (d *DB) Explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) || errors.Is(err, ErrDamaged) {
		return err
	}
	switch {
	case e.Code()&0xff == codeCorrupt, e.Code()&0xff == codeNotADB:
		return d.damaged(err)
	case e.Code()&0xff == codeFull:
		return fmt.Errorf("%s: %w: %w", d.path, ErrFull, err)
	case e.Code()&0xff == codeConflict:
		return fmt.Errorf("%s: %w: %w", d.path, ErrConflict, err)
	case e.Code() == codeFsync, e.Code() == codeDirFsync:
		return fmt.Errorf("%s: %w: %w", d.path, ErrSync, err)
	}
	return fmt.Errorf("%s: %w", d.path, err)
}

func (d *DB) damaged(err error) error {
	repair := d.repair
	if repair == "" {
		repair = "restore it from a backup, or move it away and a new one is made"
	}
	return fmt.Errorf("%s: %w (%w): %s", d.path, ErrDamaged, err, repair)
}
