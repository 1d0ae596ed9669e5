// Package disk is the spool's folder: what its files say, and the steps in which
// they change, so that a crash after any of them leaves each item as it was or as it
// is to be. docs/spool.md is its specification. It knows nothing of routes, of
// attempts and of what time it is.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Files is all that the spool asks of a disk, so that a test can fail, or
// cut the power, at each single step.
type Files interface {
	// Mkdir makes a folder; one that exists is no error.
	Mkdir(dir string) error
	// Create makes a file that must not exist yet.
	Create(path string) (WriteFile, error)
	Open(path string) (ReadFile, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir returns when the names in dir are on the disk.
	SyncDir(dir string) error
	List(dir string) ([]string, error)
	// Free is the number of octets that may still be written.
	Free(dir string) (int64, error)
}

// WriteFile is a file that is written once, from its first octet.
type WriteFile interface {
	io.WriteCloser
	Sync() error
}

// ReadFile is a file to read anywhere.
type ReadFile interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// Machine is the machine's file system. What it makes only its owner may read:
// it is other people's mail.
type Machine struct{}

func (Machine) Mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (Machine) Create(path string) (WriteFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (Machine) Open(path string) (ReadFile, error) {
	// A pipe that somebody put there must not hold the start: to read from it is
	// an error then.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (Machine) Rename(from, to string) error { return os.Rename(from, to) }

func (Machine) Remove(path string) error { return os.Remove(path) }

func (Machine) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (Machine) List(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (Machine) Free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
