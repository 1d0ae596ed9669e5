package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"postern/gateway/mail"
)

const (
	itemSuffix  = ".mail"
	stateSuffix = ".state"
)

// disk is the spool's folder: each method is one row of steps in docs/spool.md.
// It knows nothing of time, routes or attempts. Who calls it sees to it that no
// two calls change the same item at once.
type disk struct {
	fs     fileSystem
	dir    string
	shards uint32
	seq    *atomic.Uint64 // makes names in tmp and corrupt unique
	alarm  func(text string, err error)
	fail   func(err error) // an fsync failed
}

func (d *disk) shard(id string) string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, id) // never returns an error (hash.Hash)
	return d.nth(h.Sum32() % d.shards)
}

// nth is a shard by its number.
func (d *disk) nth(n uint32) string {
	return filepath.Join(d.dir, "items", fmt.Sprintf("%02x", n))
}

func (d *disk) item(id string) string  { return filepath.Join(d.shard(id), id+itemSuffix) }
func (d *disk) state(id string) string { return filepath.Join(d.shard(id), id+stateSuffix) }

// publish writes a file under a name of its own in tmp and gives it its name when
// it is on the disk. Where it returns an error before the rename, nothing is left.
func (d *disk) publish(path string, write func(io.Writer) error) error {
	tmp := filepath.Join(d.dir, "tmp", fmt.Sprintf("%s.%d", filepath.Base(path), d.seq.Add(1)))
	if err := d.fill(tmp, write); err != nil {
		d.discard(tmp)
		return err
	}
	if err := d.fs.rename(tmp, path); err != nil {
		d.discard(tmp)
		return classify("rename", err)
	}
	return nil
}

// fill creates, writes and syncs one file.
func (d *disk) fill(path string, write func(io.Writer) error) error {
	f, err := d.fs.create(path)
	if err != nil {
		return classify("create", err)
	}
	if err := write(f); err != nil {
		_ = f.Close() // the file is going to be removed
		return classify("write", err)
	}
	if err := f.Sync(); err != nil {
		_ = f.Close() // what it says can't be believed any more
		return d.distrust("sync "+path, err)
	}
	return classify("close", f.Close())
}

// distrust remembers that an fsync failed. A full disk is no such failure: the
// file whose octets had no room is removed, and nothing else stood on this fsync.
func (d *disk) distrust(what string, err error) error {
	err = classify(what, err)
	if !errors.Is(err, ErrFull) {
		d.fail(err)
	}
	return err
}

func (d *disk) syncDir(dir string) error {
	if err := d.fs.syncDir(dir); err != nil {
		d.fail(err)
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// discard removes a file that nobody was told of.
func (d *disk) discard(path string) {
	if err := d.fs.remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.alarm("unfinished file stays in the spool: "+path, err)
	}
}

// put commits an item.
func (d *disk) put(ctx context.Context, env *envelope, c mail.Content) error {
	err := d.publish(d.item(env.ID), func(w io.Writer) error {
		if err := writeItem(w, env, c); err != nil {
			return err
		}
		return ctx.Err() // the last moment at which it costs nothing to turn back
	})
	if err != nil {
		return err
	}
	if err := d.syncDir(d.shard(env.ID)); err != nil {
		d.discard(d.item(env.ID))
		return err
	}
	return nil
}

// update records progress. Unless durable, a power cut may bring the old state
// back, whole.
func (d *disk) update(id string, p *progress, durable bool) error {
	frame, err := encodeFrame(kindState, p)
	if err != nil {
		return err
	}
	err = d.publish(d.state(id), func(w io.Writer) error {
		_, err := w.Write(frame)
		return err
	})
	if err != nil || !durable {
		return err
	}
	return d.syncDir(d.shard(id))
}

// remove ends an item; one that is not there is no error. The item goes before
// its state, because without its state it would start over.
func (d *disk) remove(id string) error {
	if err := d.fs.remove(d.item(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	if err := d.syncDir(d.shard(id)); err != nil {
		return err
	}
	d.discard(d.state(id))
	return nil
}

// setAside moves a damaged item out of the way of the others.
func (d *disk) setAside(id string) error {
	mark := fmt.Sprintf(".%s.%d", time.Now().UTC().Format("20060102T150405"), d.seq.Add(1))
	corrupt := filepath.Join(d.dir, "corrupt")
	if err := d.fs.rename(d.item(id), filepath.Join(corrupt, id+itemSuffix+mark)); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	err := d.fs.rename(d.state(id), filepath.Join(corrupt, id+stateSuffix+mark))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.syncDir(corrupt), d.syncDir(d.shard(id)))
}

// record is what the files of one item say.
type record struct {
	envelope
	now   progress
	start int64  // where the content begins
	sum   string // SHA-256 of the content, as the file says
}

// load reads an item's envelope and its state.
func (d *disk) load(id string) (*record, error) {
	r := new(record)
	f, err := d.fs.open(d.item(id))
	if err != nil {
		return nil, err
	}
	r.start, r.sum, err = readEnvelope(f, &r.envelope)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if r.ID != id {
		return nil, fmt.Errorf("%w: is item %q", ErrDamaged, r.ID)
	}
	r.now = r.Start
	p, err := d.loadState(id)
	switch {
	case err != nil:
		return nil, err
	case p != nil && p.Nonce == r.Nonce:
		r.now = *p
	case p != nil:
		d.discard(d.state(id)) // of an earlier item with this ID
	}
	return r, nil
}

// loadState reads an item's state; nil where it has none.
func (d *disk) loadState(id string) (*progress, error) {
	f, err := d.fs.open(d.state(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(progress)
	_, err = decodeFrame(f, kindState, p)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return p, nil
}

// verify reads the whole content once, so that no damaged one is sent.
func (d *disk) verify(r *record) error {
	f, err := d.fs.open(d.item(r.ID))
	if err != nil {
		return err
	}
	return errors.Join(verifyContent(f, r.start, r.Size, r.sum), f.Close())
}

// prepare makes the folders and empties tmp.
func (d *disk) prepare() error {
	dirs := []string{d.dir, filepath.Join(d.dir, "tmp"), filepath.Join(d.dir, "corrupt"), filepath.Join(d.dir, "items")}
	for n := range d.shards {
		dirs = append(dirs, d.nth(n))
	}
	for _, dir := range dirs {
		if err := d.fs.mkdir(dir); err != nil {
			return fmt.Errorf("make spool folder: %w", err)
		}
	}
	names, err := d.fs.list(filepath.Join(d.dir, "tmp"))
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	for _, name := range names {
		d.discard(filepath.Join(d.dir, "tmp", name))
	}
	for _, dir := range []string{filepath.Dir(d.dir), d.dir, filepath.Join(d.dir, "items")} {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// scan calls found, from several goroutines at once, for each item that waits.
func (d *disk) scan(found func(*record)) error {
	var g errgroup.Group
	g.SetLimit(8) // a cold disk answers several questions at once sooner
	for n := range d.shards {
		g.Go(func() error { return d.scanShard(d.nth(n), found) })
	}
	return g.Wait()
}

func (d *disk) scanShard(dir string, found func(*record)) error {
	names, err := d.fs.list(dir)
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	items := make(map[string]bool)
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, itemSuffix); ok && mail.ValidID(id) {
			items[id] = true
		}
	}
	for _, name := range names {
		id, isState := strings.CutSuffix(name, stateSuffix)
		switch {
		case isState && mail.ValidID(id) && !items[id]:
			d.discard(filepath.Join(dir, name))
		case !items[id] && !items[strings.TrimSuffix(name, itemSuffix)]:
			d.alarm("unknown file in the spool: "+filepath.Join(dir, name), nil)
		}
	}
	for id := range items {
		if err := d.examine(id, found); err != nil {
			return err
		}
	}
	return d.syncDir(dir)
}

// examine says what an item's files mean, as the table in docs/spool.md has it.
func (d *disk) examine(id string, found func(*record)) error {
	r, err := d.load(id)
	switch {
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("item %s: %w", id, err)
	case errors.Is(err, ErrDamaged), errors.Is(err, unix.EIO):
		d.alarm("damaged item set aside: "+id, err)
		if err := d.setAside(id); err != nil {
			d.alarm("damaged item stays where it is, and waits there: "+id, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("item %s: %w", id, err)
	case len(r.now.Recipients) == 0:
		if err := d.remove(id); err != nil {
			d.alarm("finished item can't be removed: "+id, err)
		}
		return nil
	}
	found(r)
	return nil
}

// readTick reads when the spool was last in use; false where that is not known.
func (d *disk) readTick() (t tick, ok bool) {
	f, err := d.fs.open(filepath.Join(d.dir, "clock"))
	if err == nil {
		_, err = decodeFrame(f, kindClock, &t)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.alarm("the spool's clock can't be read", err)
	}
	return t, err == nil
}

func (d *disk) writeTick(t tick) error {
	frame, err := encodeFrame(kindClock, t)
	if err != nil {
		return err
	}
	return d.publish(filepath.Join(d.dir, "clock"), func(w io.Writer) error {
		_, err := w.Write(frame)
		return err
	})
}

// classify makes a full disk known by its name.
func classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s: %w: %w", what, ErrFull, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
