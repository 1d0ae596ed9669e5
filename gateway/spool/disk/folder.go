package disk

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

// What the methods of a Folder return, wrapped.
var (
	ErrFull    = errors.New("the spool's disk is full")
	ErrDamaged = errors.New("damaged file in the spool")
	ErrVersion = errors.New("spool file of a newer version")
)

// Folder is a spool's folder: each method is one table of steps in docs/spool.md.
// Who calls it sees to it that no two calls change the same item at once. All
// exported fields must be set.
type Folder struct {
	Files  Files
	Dir    string
	Shards uint32 // folders among which the items are; must not change on a disk
	// Alarm hears what an admin has to see; err may be nil.
	Alarm func(text string, err error)
	// Fail is called when an fsync fails: no later one can be believed.
	Fail func(err error)

	seq atomic.Uint64 // makes names in tmp and corrupt unique
}

func (d *Folder) shard(id string) string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, id) // never returns an error (hash.Hash)
	return d.nth(h.Sum32() % d.Shards)
}

// nth is a shard by its number.
func (d *Folder) nth(n uint32) string {
	return filepath.Join(d.Dir, "items", fmt.Sprintf("%02x", n))
}

func (d *Folder) item(id string) string  { return filepath.Join(d.shard(id), id+itemSuffix) }
func (d *Folder) state(id string) string { return filepath.Join(d.shard(id), id+stateSuffix) }

// publish writes a file under a name of its own in tmp and gives it its name when
// it is on the disk. Where it returns an error before the rename, nothing is left.
func (d *Folder) publish(path string, write func(io.Writer) error) error {
	tmp := filepath.Join(d.Dir, "tmp", fmt.Sprintf("%s.%d", filepath.Base(path), d.seq.Add(1)))
	if err := d.fill(tmp, write); err != nil {
		d.discard(tmp)
		return err
	}
	if err := d.Files.Rename(tmp, path); err != nil {
		d.discard(tmp)
		return classify("rename", err)
	}
	return nil
}

// fill creates, writes and syncs one file.
func (d *Folder) fill(path string, write func(io.Writer) error) error {
	f, err := d.Files.Create(path)
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
func (d *Folder) distrust(what string, err error) error {
	err = classify(what, err)
	if !errors.Is(err, ErrFull) {
		d.Fail(err)
	}
	return err
}

func (d *Folder) syncDir(dir string) error {
	if err := d.Files.SyncDir(dir); err != nil {
		d.Fail(err)
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// discard removes a file that nobody was told of.
func (d *Folder) discard(path string) {
	if err := d.Files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Alarm("unfinished file stays in the spool: "+path, err)
	}
}

// Put commits an item.
func (d *Folder) Put(ctx context.Context, env *Envelope, c mail.Content) error {
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

// Update records progress. Unless durable, a power cut may bring the old state
// back, whole.
func (d *Folder) Update(id string, p *Progress, durable bool) error {
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

// Remove ends an item; one that is not there is no error. The item goes before
// its state, because without its state it would start over.
func (d *Folder) Remove(id string) error {
	if err := d.Files.Remove(d.item(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	if err := d.syncDir(d.shard(id)); err != nil {
		return err
	}
	d.discard(d.state(id))
	return nil
}

// SetAside moves a damaged item out of the way of the others.
func (d *Folder) SetAside(id string) error {
	mark := fmt.Sprintf(".%s.%d", time.Now().UTC().Format("20060102T150405"), d.seq.Add(1))
	corrupt := filepath.Join(d.Dir, "corrupt")
	if err := d.Files.Rename(d.item(id), filepath.Join(corrupt, id+itemSuffix+mark)); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	err := d.Files.Rename(d.state(id), filepath.Join(corrupt, id+stateSuffix+mark))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.syncDir(corrupt), d.syncDir(d.shard(id)))
}

// Record is what the files of one item say.
type Record struct {
	Envelope
	Now   Progress
	start int64  // where the content begins
	Sum   string // SHA-256 of the content, as the file says
}

// Load reads an item's envelope and its state.
func (d *Folder) Load(id string) (*Record, error) {
	r := new(Record)
	f, err := d.Files.Open(d.item(id))
	if err != nil {
		return nil, err
	}
	r.start, r.Sum, err = readEnvelope(f, &r.Envelope)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if r.ID != id {
		return nil, fmt.Errorf("%w: is item %q", ErrDamaged, r.ID)
	}
	r.Now = r.Start
	p, err := d.loadState(id)
	switch {
	case err != nil:
		return nil, err
	case p != nil && p.Nonce == r.Nonce:
		r.Now = *p
	case p != nil:
		d.discard(d.state(id)) // of an earlier item with this ID
	}
	return r, nil
}

// loadState reads an item's state; nil where it has none.
func (d *Folder) loadState(id string) (*Progress, error) {
	f, err := d.Files.Open(d.state(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(Progress)
	_, err = decodeFrame(f, kindState, p)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return p, nil
}

// Verify reads the whole content once, so that no damaged one is sent.
func (d *Folder) Verify(r *Record) error {
	f, err := d.Files.Open(d.item(r.ID))
	if err != nil {
		return err
	}
	return errors.Join(verifyContent(f, r.start, r.Size, r.Sum), f.Close())
}

// Content is the item's content, read from disk as it is asked for.
func (d *Folder) Content(r *Record) mail.Content {
	return &stored{files: d.Files, path: d.item(r.ID), start: r.start, size: r.Size}
}

// Prepare makes the folders and empties tmp.
func (d *Folder) Prepare() error {
	dirs := []string{d.Dir, filepath.Join(d.Dir, "tmp"), filepath.Join(d.Dir, "corrupt"), filepath.Join(d.Dir, "items")}
	for n := range d.Shards {
		dirs = append(dirs, d.nth(n))
	}
	for _, dir := range dirs {
		if err := d.Files.Mkdir(dir); err != nil {
			return fmt.Errorf("make spool folder: %w", err)
		}
	}
	names, err := d.Files.List(filepath.Join(d.Dir, "tmp"))
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	for _, name := range names {
		d.discard(filepath.Join(d.Dir, "tmp", name))
	}
	for _, dir := range []string{filepath.Dir(d.Dir), d.Dir, filepath.Join(d.Dir, "items")} {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Scan calls found, from several goroutines at once, for each item that waits.
func (d *Folder) Scan(found func(*Record)) error {
	var g errgroup.Group
	g.SetLimit(8) // a cold disk answers several questions at once sooner
	for n := range d.Shards {
		g.Go(func() error { return d.scanShard(d.nth(n), found) })
	}
	return g.Wait()
}

func (d *Folder) scanShard(dir string, found func(*Record)) error {
	names, err := d.Files.List(dir)
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	// An item in another shard is nobody's: under its ID another file is opened,
	// or none. It stays, and keeps the others from nothing.
	items := make(map[string]bool) // by ID: true where it lies in its shard
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, itemSuffix); ok && mail.ValidID(id) {
			items[id] = d.shard(id) == dir
		}
	}
	for _, name := range names {
		id, isState := strings.CutSuffix(name, stateSuffix)
		_, known := items[id]
		switch {
		case isState && mail.ValidID(id) && !known:
			d.discard(filepath.Join(dir, name))
		case !items[id] && !items[strings.TrimSuffix(name, itemSuffix)]:
			d.Alarm("unknown file in the spool: "+filepath.Join(dir, name), nil)
		}
	}
	for id, ours := range items {
		if !ours {
			continue
		}
		if err := d.examine(id, found); err != nil {
			return err
		}
	}
	return d.syncDir(dir)
}

// examine says what an item's files mean, as the table in docs/spool.md has it.
func (d *Folder) examine(id string, found func(*Record)) error {
	r, err := d.Load(id)
	switch {
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("item %s: %w", id, err)
	case errors.Is(err, ErrDamaged), errors.Is(err, unix.EIO):
		d.Alarm("damaged item set aside: "+id, err)
		if err := d.SetAside(id); err != nil {
			d.Alarm("damaged item stays where it is, and waits there: "+id, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("item %s: %w", id, err)
	case len(r.Now.Recipients) == 0:
		if err := d.Remove(id); err != nil {
			d.Alarm("finished item can't be removed: "+id, err)
		}
		return nil
	}
	found(r)
	return nil
}

// ReadTick reads when the spool was last in use; false where that is not known.
func (d *Folder) ReadTick() (t Tick, ok bool) {
	f, err := d.Files.Open(filepath.Join(d.Dir, "clock"))
	if err == nil {
		_, err = decodeFrame(f, kindClock, &t)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Alarm("the spool's clock can't be read", err)
	}
	return t, err == nil
}

func (d *Folder) WriteTick(t Tick) error {
	frame, err := encodeFrame(kindClock, t)
	if err != nil {
		return err
	}
	return d.publish(filepath.Join(d.Dir, "clock"), func(w io.Writer) error {
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
