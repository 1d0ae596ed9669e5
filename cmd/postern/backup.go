package main

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
)

type backupCommand struct {
	File string `arg:"" help:"The file to write; - is standard output."`
}

// Help is shown by --help.
func (backupCommand) Help() string {
	return `Writes the quarantine with its originals, the spool, the records, the recipients that are
known, and the TLS key into one tar file, while the gateway runs. The configuration is not
in it. The file holds other people's mail: keep it safe.

Example:
  postern backup /srv/backup/postern-$(date +%F).tar`
}

// Run writes the backup beside its name first, so that half a backup never
// looks like one.
func (q backupCommand) Run(ctx context.Context, c *commands, t terminal) error {
	o, closing, err := openOffice(ctx, c, t)
	if err != nil {
		return err
	}
	defer closing()
	if q.File == "-" {
		return o.Backup(ctx, t.out)
	}
	partial := q.File + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = o.Backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, q.File)
}

// backup writes the state as a tar stream. The databases come first, as
// snapshots: a file that comes after its row was written is only a file too
// many, and a row without its file would be a loss.
func backup(ctx context.Context, h *house, w io.Writer) error {
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
	for _, name := range []string{"VERSION", "tls", "spool", "quarantine"} {
		if err := addTree(ctx, archive, h.state.dir, name); err != nil {
			return err
		}
	}
	return archive.Close()
}

// addTree adds what lies below name but the databases, which came as snapshots.
func addTree(ctx context.Context, archive *tar.Writer, dir, name string) error {
	return filepath.WalkDir(filepath.Join(dir, name), func(file string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // delivered or expired meanwhile
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !d.Type().IsRegular() || strings.Contains(filepath.Base(file), ".db"):
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
	header := &tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.CopyN(archive, f, info.Size())
	return err
}

type restoreCommand struct {
	File  string `arg:"" help:"The file that backup wrote; - is standard input."`
	Force bool   `help:"Although there is a state already: it is moved aside."`
}

// Help is shown by --help.
func (restoreCommand) Help() string {
	return `Puts back what "postern backup" wrote, into the state folder of the configuration. Nothing
may run meanwhile. A state that is there already stays untouched unless --force is given;
it is then moved aside, not deleted.

Example:
  postern restore /srv/backup/postern-2026-11-22.tar`
}

// Run restores into a new folder, which takes the state's place when it is
// whole.
func (q restoreCommand) Run(ctx context.Context, c *commands, t terminal) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	in := t.in
	if q.File != "-" {
		f, err := os.Open(q.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return restore(ctx, cfg.State, in, q.Force)
}

func restore(ctx context.Context, dir string, in io.Reader, force bool) error {
	if hasState(dir) {
		if !force {
			return hintError{fmt.Errorf("there is a state in %s already", dir), "--force moves it aside and restores"}
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
	return os.Rename(fresh, dir)
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
