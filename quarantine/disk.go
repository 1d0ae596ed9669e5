package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"postern/gateway/mail"
	"postern/gateway/store"
)

// disk is the folder of the files; tests put one in its place that fails. Names
// are relative to it.
type disk interface {
	create(name string) (file, error)
	open(name string) (*os.File, error)
	rename(from, to string) error
	remove(name string) error
	list(dir string) ([]fs.DirEntry, error)
	syncDir(dir string) error
	close() error
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

// errSync is an fsync that failed. The pages it was about count as clean from
// then on, so a second one that succeeds would prove nothing.
var errSync = errors.New("fsync failed")

// rootDisk is a real folder. Nothing outside of it can be named.
type rootDisk struct {
	root *os.Root
	dir  string
}

// openDisk opens the folder, and makes the 256 in it so that no Put has to.
func openDisk(dir string, write bool) (*rootDisk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &rootDisk{root, dir}
	if !write {
		return d, nil
	}
	made := 0
	for _, shard := range shards() {
		err := root.Mkdir(shard, 0o700)
		if err == nil {
			made++
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(err, root.Close())
		}
	}
	if made > 0 {
		if err := store.SyncDir(dir); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return d, nil
}

func (d *rootDisk) create(name string) (file, error) {
	return d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
func (d *rootDisk) open(name string) (*os.File, error) { return d.root.Open(name) }
func (d *rootDisk) rename(from, to string) error       { return d.root.Rename(from, to) }
func (d *rootDisk) remove(name string) error           { return d.root.Remove(name) }
func (d *rootDisk) close() error                       { return d.root.Close() }

func (d *rootDisk) list(dir string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

func (d *rootDisk) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// The files of an entry. What is being written bears one more ending.
const (
	originalEnd = ".eml"
	sidecarEnd  = ".json"
	newEnd      = ".new"
)

// shards are the names of the folders.
func shards() []string {
	list := make([]string, 256)
	for i := range list {
		list[i] = fmt.Sprintf("%02x", i)
	}
	return list
}

// fileName is where a file of the entry lies. The id's own beginning is its time
// and would put all of a day into one folder.
func fileName(id, end string) string {
	sum := sha256.Sum256([]byte(id))
	return path.Join(hex.EncodeToString(sum[:1]), id+end)
}

// writeFiles writes the original and its sidecar, synced under their own names,
// and fills in the entry's size and checksum.
func (s *Store) writeFiles(ctx context.Context, e *Entry, c mail.Content) error {
	original, err := s.disk.create(fileName(e.ID, originalEnd+newEnd))
	if err != nil {
		return err
	}
	if err := copyContent(ctx, original, e, c); err != nil {
		return errors.Join(err, original.Close())
	}
	sidecar, err := s.createSidecar(*e)
	if err != nil {
		return errors.Join(err, original.Close())
	}
	// Both at once: the file system then needs one journal commit, not two.
	synced := make(chan error, 1)
	go func() { synced <- finish(original) }()
	if err := errors.Join(finish(sidecar), <-synced); err != nil {
		return err
	}
	// The sidecar last: an original without one was never taken.
	for _, end := range []string{originalEnd, sidecarEnd} {
		if err := s.disk.rename(fileName(e.ID, end+newEnd), fileName(e.ID, end)); err != nil {
			return err
		}
	}
	return s.syncShard(e.ID)
}

func copyContent(ctx context.Context, w io.Writer, e *Entry, c mail.Content) error {
	sum := sha256.New()
	n, err := c.WriteTo(io.MultiWriter(&contextWriter{ctx, w}, sum))
	if err != nil {
		return err
	}
	if n != c.Size() {
		return fmt.Errorf("%d of %d octets: %w", n, c.Size(), io.ErrUnexpectedEOF)
	}
	e.Size, e.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
	return nil
}

type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w *contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// finish syncs and closes.
func finish(f file) error {
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errSync, err), f.Close())
	}
	return f.Close()
}

// createSidecar writes the sidecar under its temporary name, not yet synced.
func (s *Store) createSidecar(e Entry) (file, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	f, err := s.disk.create(fileName(e.ID, sidecarEnd+newEnd))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeSidecar replaces the sidecar of an entry that is already there.
func (s *Store) writeSidecar(e Entry) error {
	name := fileName(e.ID, sidecarEnd)
	_ = s.disk.remove(name + newEnd) // left by a crash
	f, err := s.createSidecar(e)
	if err != nil {
		return err
	}
	if err := finish(f); err != nil {
		return err
	}
	if err := s.disk.rename(name+newEnd, name); err != nil {
		return err
	}
	return s.syncShard(e.ID)
}

func (s *Store) syncShard(id string) error {
	if err := s.disk.syncDir(path.Dir(fileName(id, ""))); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

func (s *Store) readSidecar(id string) (e Entry, err error) {
	f, err := s.disk.open(fileName(id, sidecarEnd))
	if err != nil {
		return e, err
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&e); err != nil {
		return e, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if e.ID != id {
		return e, fmt.Errorf("read %s: it is about %q", f.Name(), e.ID)
	}
	return e, nil
}

// discard removes the files of an entry that was not taken, as far as that works;
// the sweep finds what is left.
func (s *Store) discard(id string) {
	for _, end := range []string{sidecarEnd, sidecarEnd + newEnd, originalEnd, originalEnd + newEnd} {
		_ = s.disk.remove(fileName(id, end))
	}
}

// Open opens the original of an entry. It has been read and compared with its
// checksum: an error is ErrDamaged and names the file. The caller closes it.
func (s *Store) Open(ctx context.Context, id string) (mail.Content, io.Closer, error) {
	e, err := s.Get(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	name := fileName(id, originalEnd)
	f, err := s.disk.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open original of %s: %w", id, err)
	}
	if err := verify(ctx, f, e); err != nil {
		return nil, nil, fmt.Errorf("open original of %s: %s/%s: %w", id, s.Dir, name, errors.Join(err, f.Close()))
	}
	return mail.NewFile(f, 0, e.Size), f, nil
}

func verify(ctx context.Context, f *os.File, e Entry) error {
	sum := sha256.New()
	n, err := io.Copy(&contextWriter{ctx, sum}, struct{ io.Reader }{f})
	switch {
	case err != nil:
		return err
	case n != e.Size:
		return fmt.Errorf("%w: %d octets, want %d", ErrDamaged, n, e.Size)
	case hex.EncodeToString(sum.Sum(nil)) != e.SHA256:
		return fmt.Errorf("%w: its SHA-256 is not %s", ErrDamaged, e.SHA256)
	}
	return nil
}

// splitName takes a file's name apart; ok is false for one that is not ours.
func splitName(name string) (id, end string, ok bool) {
	for _, end := range []string{originalEnd, sidecarEnd, originalEnd + newEnd, sidecarEnd + newEnd} {
		if id, ok := strings.CutSuffix(name, end); ok && mail.ValidID(id) {
			return id, end, true
		}
	}
	return "", "", false
}
