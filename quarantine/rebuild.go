package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"postern/gateway/mail"
)

// found is what lies on the disk for one id.
type found struct {
	ends    map[string]bool
	changed time.Time // the newest of its files
}

func (s *Store) files(shard string) (map[string]found, error) {
	list, err := s.disk.list(shard)
	if err != nil {
		return nil, err
	}
	files := map[string]found{}
	for _, entry := range list {
		id, end, ok := splitName(entry.Name())
		if !ok || path.Dir(fileName(id, end)) != shard {
			continue // not ours
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		f := files[id]
		if f.ends == nil {
			f.ends = map[string]bool{}
		}
		f.ends[end] = true
		if info.ModTime().After(f.changed) {
			f.changed = info.ModTime()
		}
		files[id] = f
	}
	return files, nil
}

// Rebuild makes an entry of each original that has none, from the file beside it,
// and returns their number. An original whose sidecar is lost is kept as class
// policy, without recipients.
func (s *Store) Rebuild(ctx context.Context) (n int, err error) {
	for _, shard := range shards() {
		files, err := s.files(shard)
		if err != nil {
			return n, fmt.Errorf("rebuild the quarantine's index: %w", err)
		}
		var entries []Entry
		for id, f := range files {
			if !f.ends[originalEnd] || s.claimed(id) {
				continue
			}
			if has, err := s.index.has(ctx, id); err != nil || has {
				if err != nil {
					return n, fmt.Errorf("rebuild the quarantine's index: %w", err)
				}
				continue
			}
			e, err := s.reconstruct(id, f)
			if err != nil {
				return n, fmt.Errorf("rebuild the quarantine's index: %w", err)
			}
			entries = append(entries, e)
		}
		if err := s.adopt(ctx, entries); err != nil {
			return n, fmt.Errorf("rebuild the quarantine's index: %w", s.explain(err))
		}
		n += len(entries)
	}
	if n > 0 {
		s.Log.Warn("quarantine index rebuilt", "entries", n)
	}
	return n, s.index.setComplete(ctx, s.Now())
}

func (s *Store) adopt(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := s.index.insert(ctx, entries...); err != nil {
		return err
	}
	for _, e := range entries {
		s.free(-e.Size)
	}
	return nil
}

// reconstruct reads the sidecar, or makes of the original what can be made.
func (s *Store) reconstruct(id string, f found) (Entry, error) {
	e, err := s.readSidecar(id)
	if err == nil {
		return e, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.Log.Warn("quarantine sidecar unreadable", "id", id, "err", err)
	}
	message, _, _ := strings.Cut(id, ".")
	e = Entry{
		ID: id, Message: message, Time: f.changed, Recipients: []string{}, Symbols: []string{},
		Class: mail.ClassPolicy, Reason: "what was known of it is lost",
	}
	file, err := s.disk.open(fileName(id, originalEnd))
	if err != nil {
		return e, err
	}
	defer file.Close()
	sum := sha256.New()
	if e.Size, err = io.Copy(sum, file); err != nil {
		return e, err
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	header, _, _ := mail.Read(mail.NewFile(file, 0, e.Size), mail.DefaultLimits)
	e.Subject = cut(header.Get("Subject"), maxText)
	return e, nil
}

// sweep brings files and index together after a crash. A pair of files without a
// row is mail that somebody may have been promised (an older index was restored):
// it gets one. Anything else without a row was never taken, or was deleted. A row
// whose sidecar is gone gets that.
func (s *Store) sweep(ctx context.Context) error {
	missing := 0
	for _, shard := range shards() {
		files, err := s.files(shard)
		if err != nil {
			return err
		}
		for id, f := range files {
			lost, err := s.sweepOne(ctx, id, f)
			if err != nil {
				return err
			}
			if lost {
				missing++
			}
		}
	}
	if missing > 0 {
		s.Log.Error("quarantine originals missing", "count", missing)
	}
	return nil
}

// sweepOne looks at the files of one id. It asks first whether a Put is at them,
// and only then for the row: the other way round the Put might end in between.
func (s *Store) sweepOne(ctx context.Context, id string, f found) (missing bool, err error) {
	if s.claimed(id) || s.Now().Sub(f.changed) < orphanAge {
		return false, nil
	}
	has, err := s.index.has(ctx, id)
	switch {
	case err != nil:
		return false, err
	case has:
		return !f.ends[originalEnd], s.repair(ctx, id, f)
	case f.ends[originalEnd] && f.ends[sidecarEnd]:
		return false, s.takeIn(ctx, id)
	}
	return false, s.removeAll(id, f, originalEnd, sidecarEnd, originalEnd+newEnd, sidecarEnd+newEnd)
}

func (s *Store) takeIn(ctx context.Context, id string) error {
	e, err := s.readSidecar(id)
	if err != nil { // neither known nor forgotten: it stays for somebody to look at
		s.Log.Warn("quarantine sidecar unreadable", "id", id, "err", err)
		return nil
	}
	s.Log.Warn("quarantine entry without a row, taken in", "id", id)
	return s.adopt(ctx, []Entry{e})
}

func (s *Store) repair(ctx context.Context, id string, f found) error {
	if f.ends[originalEnd] && !f.ends[sidecarEnd] {
		e, err := s.index.get(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err == nil {
			err = s.writeSidecar(e)
		}
		return err
	}
	return s.removeAll(id, f, originalEnd+newEnd, sidecarEnd+newEnd)
}

func (s *Store) removeAll(id string, f found, ends ...string) error {
	for _, end := range ends {
		if !f.ends[end] {
			continue
		}
		if err := s.disk.remove(fileName(id, end)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
