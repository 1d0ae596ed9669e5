package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem is all that the spool asks of a disk, so that a test can fail, or
// cut the power, at each single step.
type fileSystem interface {
	// mkdir makes a folder; one that exists is no error.
	mkdir(dir string) error
	// create makes a file that must not exist yet.
	create(path string) (writeFile, error)
	open(path string) (readFile, error)
	rename(from, to string) error
	remove(path string) error
	// syncDir returns when the names in dir are on the disk.
	syncDir(dir string) error
	list(dir string) ([]string, error)
	// free is the number of octets that may still be written.
	free(dir string) (int64, error)
}

// writeFile is a file that is written once, from its first octet.
type writeFile interface {
	io.WriteCloser
	Sync() error
}

// readFile is a file to read anywhere.
type readFile interface {
	io.ReaderAt
	io.Closer
	size() (int64, error)
}

// osFiles is the machine's file system. What it makes only its owner may read:
// it is other people's mail.
type osFiles struct{}

func (osFiles) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (osFiles) create(path string) (writeFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (osFiles) open(path string) (readFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) remove(path string) error { return os.Remove(path) }

func (osFiles) syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (osFiles) list(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (osFiles) free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
