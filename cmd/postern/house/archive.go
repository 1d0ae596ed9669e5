package house

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// backup writes the state as a tar stream. The databases come first, as
// snapshots: a file that comes after its row was written is only a file too
// many, and a row without its file would be a loss. VERSION comes last: a tar
// that was cut between two files looks whole, but has none.
func backup(ctx context.Context, h *House, w io.Writer) error {
	snapshots, err := os.MkdirTemp(h.state.path("tmp"), "backup-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(snapshots)
	if err := h.records.Flush(ctx); err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for name, snapshot := range map[string]func(context.Context, string) error{
		"records.db": h.records.Backup, "recipients.db": h.table.Backup,
	} {
		file := filepath.Join(snapshots, path.Base(name))
		if err := snapshot(ctx, file); err != nil {
			return fmt.Errorf("back up %s: %w", name, err)
		}
		if err := addFile(archive, file, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"tls", "spool/clock", "spool/items", "spool/corrupt"} {
		if err := addTree(ctx, archive, h.state.dir, name); err != nil {
			return err
		}
	}
	err = h.quarantine.Export(ctx, func(name string, size int64, r io.Reader) error {
		return add(archive, &tar.Header{Name: path.Join("quarantine", name), Size: size, ModTime: time.Now()}, r)
	})
	if err != nil {
		return err
	}
	return errors.Join(addTree(ctx, archive, h.state.dir, "VERSION"), archive.Close())
}

// addTree adds the files that name is, or that lie below it. They come by their
// names, so that each item of the spool comes before its state.
func addTree(ctx context.Context, archive *tar.Writer, dir, name string) error {
	return filepath.WalkDir(filepath.Join(dir, name), func(file string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // delivered or expired meanwhile
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !d.Type().IsRegular():
			return nil
		}
		relative, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return addFile(archive, file, filepath.ToSlash(relative))
	})
}

func addFile(archive *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return add(archive, &tar.Header{Name: name, Size: info.Size(), ModTime: info.ModTime()}, f)
}

func add(archive *tar.Writer, h *tar.Header, in io.Reader) error {
	h.Mode, h.Format = 0o600, tar.FormatPAX
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.CopyN(archive, in, h.Size)
	return err
}

// Restore puts what backup wrote into a new folder, which takes the place of dir
// when it is whole. A state that is there already is moved aside with force, and
// an error without.
func Restore(ctx context.Context, dir string, in io.Reader, force bool) error {
	if hasState(dir) {
		if !force {
			return Hint{fmt.Errorf("there is a state in %s already", dir), "--force moves it aside and restores"}
		}
		s, err := openState(ctx, dir) // nobody else may be using it
		if err != nil {
			return err
		}
		defer s.Close()
	}
	fresh := strings.TrimRight(dir, "/") + ".restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := unpack(ctx, fresh, in); err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), os.RemoveAll(fresh))
	}
	if _, err := os.Stat(dir); err == nil {
		aside := strings.TrimRight(dir, "/") + ".before-restore-" + time.Now().Format("20060102-150405")
		if err := os.Rename(dir, aside); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, dir); err != nil {
		return err
	}
	unix.Sync() // the names, too: who is told that it is restored may throw the backup away
	return nil
}

// hasState says whether there is anything in dir that a restore would replace.
func hasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "VERSION"))
	return err == nil
}

// errNoBackup says that a file is not what backup writes.
var errNoBackup = errors.New("this is no backup of Postern's, or only a part of one")

// unpack writes the archive below dir and nowhere else.
func unpack(ctx context.Context, dir string, in io.Reader) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(in)
	versioned := false
	for {
		header, err := archive.Next()
		switch {
		case err == io.EOF && versioned:
			return nil
		case err == io.EOF || errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF):
			return errNoBackup
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case header.Typeflag != tar.TypeReg:
			return errNoBackup
		}
		if err := unpackFile(root, header.Name, archive); err != nil {
			return err
		}
		versioned = versioned || header.Name == "VERSION"
	}
}

func unpackFile(root *os.Root, name string, in io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
