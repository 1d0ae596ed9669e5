package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Export calls f with each file of each entry, for a backup, while the quarantine
// runs. Names are relative to Dir. The index is not among them: put back into an
// empty folder, the files are all that Open needs. What is deleted meanwhile may
// be missing.
func (s *Store) Export(ctx context.Context, f func(name string, size int64, r io.Reader) error) error {
	for _, shard := range shards() {
		files, err := s.files(shard)
		if err != nil {
			return fmt.Errorf("export the quarantine: %w", err)
		}
		for id, found := range files {
			if !found.ends[originalEnd] || !found.ends[sidecarEnd] || s.claimed(id) {
				continue
			}
			for _, end := range []string{originalEnd, sidecarEnd} {
				if err := s.exportFile(ctx, fileName(id, end), f); err != nil {
					return fmt.Errorf("export the quarantine: %w", err)
				}
			}
		}
	}
	return nil
}

func (s *Store) exportFile(ctx context.Context, name string, f func(string, int64, io.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := s.disk.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return f(name, info.Size(), file)
}
