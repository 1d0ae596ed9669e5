package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"postern/gateway/spool/disk"
)

// errCrash is what every step says once the machine has stopped.
var errCrash = errors.New("crashed")

// memFS is a file system in memory that knows what a power cut would leave of it,
// and that can fail or stop at any step.
//
// Its model is the worst that a journaling file system may do: octets that were not
// synced, and names in folders that were not synced, may be lost, kept, or kept in
// part, in any combination; but a rename is one thing.
type memFS struct {
	mu      sync.Mutex
	root    *node
	pending []change // of names, not synced
	steps   int      // that changed something, so far
	crashAt int      // the step before which the machine stops; 0 is never
	fault   func(op, path string) error
	room    int64 // free octets; 0 is plenty
	log     []string
}

type node struct {
	names  map[string]*node // nil in a file
	kept   map[string]*node // the names that a power cut leaves
	data   []byte
	synced []byte // what a power cut leaves; nil: nothing
}

// change is one operation on names.
type change []edit

type edit struct {
	dir  *node
	name string
	to   *node // nil: the name goes
}

func newDir() *node { return &node{names: map[string]*node{}, kept: map[string]*node{}} }

func newMemFS() *memFS { return &memFS{root: newDir()} }

func (m *memFS) walk(p string) (*node, error) {
	n := m.root
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n = n.names[part]; n == nil {
			return nil, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
	}
	return n, nil
}

// before is called, with m.mu held, ahead of each operation.
func (m *memFS) before(op, p string, changes bool) error {
	if changes {
		if m.crashAt > 0 && m.steps+1 >= m.crashAt {
			m.steps = max(m.steps, m.crashAt)
			return errCrash
		}
		m.steps++
		m.log = append(m.log, op+" "+p)
	} else if m.crashAt > 0 && m.steps >= m.crashAt {
		return errCrash
	}
	if m.fault != nil {
		return m.fault(op, p)
	}
	return nil
}

func (m *memFS) edit(c change) {
	for _, e := range c {
		if e.to == nil {
			delete(e.dir.names, e.name)
		} else {
			e.dir.names[e.name] = e.to
		}
	}
	m.pending = append(m.pending, c)
}

func (c change) keep() {
	for _, e := range c {
		if e.to == nil {
			delete(e.dir.kept, e.name)
		} else {
			e.dir.kept[e.name] = e.to
		}
	}
}

func (m *memFS) Mkdir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, err := m.walk(dir); err == nil && n.names != nil {
		return nil
	}
	if err := m.before("mkdir", dir, true); err != nil {
		return err
	}
	parent, err := m.walk(path.Dir(dir))
	if err != nil {
		return err
	}
	m.edit(change{{parent, path.Base(dir), newDir()}})
	return nil
}

func (m *memFS) Create(p string) (disk.WriteFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("create", p, true); err != nil {
		return nil, err
	}
	parent, err := m.walk(path.Dir(p))
	if err != nil {
		return nil, err
	}
	if parent.names[path.Base(p)] != nil {
		return nil, fs.ErrExist
	}
	n := new(node)
	m.edit(change{{parent, path.Base(p), n}})
	return &memWriter{fs: m, node: n, path: p}, nil
}

func (m *memFS) Open(p string) (disk.ReadFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("open", p, false); err != nil {
		return nil, err
	}
	n, err := m.walk(p)
	if err != nil {
		return nil, err
	}
	return &memReader{fs: m, path: p, data: n.data}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.walk(from)
	if err != nil {
		return err
	}
	if err := m.before("rename", to, true); err != nil {
		return err
	}
	source, _ := m.walk(path.Dir(from))
	target, err := m.walk(path.Dir(to))
	if err != nil {
		return err
	}
	m.edit(change{{source, path.Base(from), nil}, {target, path.Base(to), n}})
	return nil
}

func (m *memFS) Remove(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.walk(p); err != nil {
		return err
	}
	if err := m.before("remove", p, true); err != nil {
		return err
	}
	parent, _ := m.walk(path.Dir(p))
	m.edit(change{{parent, path.Base(p), nil}})
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("syncdir", dir, true); err != nil {
		return err
	}
	d, err := m.walk(dir)
	if err != nil {
		return err
	}
	m.pending = slices.DeleteFunc(m.pending, func(c change) bool {
		mine := slices.ContainsFunc(c, func(e edit) bool { return e.dir == d })
		if mine {
			c.keep()
		}
		return mine
	})
	return nil
}

func (m *memFS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("list", dir, false); err != nil {
		return nil, err
	}
	d, err := m.walk(dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (m *memFS) Free(dir string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("free", dir, false); err != nil {
		return 0, err
	}
	if m.room == 0 {
		return 1 << 40, nil
	}
	return m.room, nil
}

type memWriter struct {
	fs   *memFS
	node *node
	path string
}

// Write leaves half of p where it fails.
func (w *memWriter) Write(p []byte) (int, error) {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	n := len(p)
	err := w.fs.before("write", w.path, true)
	if err != nil {
		n /= 2
	}
	w.node.data = append(w.node.data[:len(w.node.data):len(w.node.data)], p[:n]...)
	return n, err
}

func (w *memWriter) Sync() error {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	if err := w.fs.before("sync", w.path, true); err != nil {
		return err
	}
	w.node.synced = append([]byte{}, w.node.data...)
	return nil
}

func (w *memWriter) Close() error {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	return w.fs.before("close", w.path, false)
}

type memReader struct {
	fs   *memFS
	path string
	data []byte
}

func (r *memReader) ReadAt(p []byte, off int64) (int, error) {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	if err := r.fs.before("read", r.path, false); err != nil {
		return 0, err
	}
	if off >= int64(len(r.data)) {
		return 0, io.EOF
	}
	n := copy(p, r.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *memReader) Close() error         { return nil }
func (r *memReader) Size() (int64, error) { return int64(len(r.data)), nil }

// killed is the file system after the end of the process.
func (m *memFS) killed() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memFS{root: m.root.copy(func(n *node) map[string]*node { return n.names }, func(n *node) []byte { return n.data })}
}

// What a power cut does to that which was not synced.
const (
	loseAll = iota
	loseData
	loseSome
	losses
)

// cut is the file system after the end of the machine.
func (m *memFS) cut(loss int, rng *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.root.snapshot()
	for _, c := range m.pending {
		if loss == loseData || loss == loseSome && rng.IntN(2) == 0 {
			c.keep()
		}
	}
	after := &memFS{root: m.root.copy(func(n *node) map[string]*node { return n.kept }, func(n *node) []byte {
		if len(n.synced) == len(n.data) || loss == loseAll {
			return n.synced
		}
		switch lost := n.data[len(n.synced):]; rng.IntN(3) {
		case 0:
			return append(slices.Clone(n.synced), lost[:rng.IntN(len(lost))]...)
		case 1:
			return append(slices.Clone(n.synced), make([]byte, len(lost))...)
		}
		return n.synced
	})}
	before.restore()
	return after
}

func (n *node) copy(names func(*node) map[string]*node, data func(*node) []byte) *node {
	if n.names == nil {
		b := slices.Clone(data(n))
		return &node{data: b, synced: b}
	}
	c := newDir()
	for name, child := range names(n) {
		d := child.copy(names, data)
		c.names[name], c.kept[name] = d, d
	}
	return c
}

// snapshot remembers what a power cut would leave, so that several can be tried.
type snapshot map[*node]map[string]*node

func (n *node) snapshot() snapshot {
	s := snapshot{}
	var walk func(*node)
	walk = func(n *node) {
		if n.names == nil || s[n] != nil {
			return
		}
		s[n] = maps.Clone(n.kept)
		for _, m := range []map[string]*node{n.names, n.kept} {
			for _, child := range m {
				walk(child)
			}
		}
	}
	walk(n)
	return s
}

func (s snapshot) restore() {
	for n, kept := range s {
		n.kept = kept
	}
}

// files is the path of each file below dir.
func (m *memFS) files(dir string) (paths []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var walk func(p string, n *node)
	walk = func(p string, n *node) {
		if n.names == nil {
			paths = append(paths, p)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			walk(path.Join(p, name), n.names[name])
		}
	}
	if n, err := m.walk(dir); err == nil {
		walk(dir, n)
	}
	return paths
}

// patch changes a file in place.
func (m *memFS) patch(p string, change func([]byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.walk(p)
	if err != nil {
		return
	}
	n.data = change(slices.Clone(n.data))
	n.synced = n.data
}
