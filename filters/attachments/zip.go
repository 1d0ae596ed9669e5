package attachments

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/gateway/mail"
)

// member is a file in a zip. Two directories describe it, the central one at the
// end and a local header in front of the data; programs differ in which they
// believe, so both names count, and what only a local header knows is a member.
type member struct {
	names    []string
	method   uint16
	crypt    bool
	packed   []byte
	declared int64 // octets unpacked, as the directory says; may lie
}

// Signatures and sizes of APPNOTE.TXT, sections 4.3.7 and 4.3.12.
const (
	localSignature   = "PK\x03\x04"
	centralSignature = "PK\x01\x02"
	localSize        = 30
	flagEncrypted    = 1 << 0
	lostData         = 0xffff // a method that nobody has: the data can't be found
)

// zip looks into a container that itself may pass; index is that of its result.
func (s *scan) zip(p *mail.Part, index int, data []byte) error {
	// Counted before it is parsed: a directory of a million entries is small.
	if n := bytes.Count(data, []byte(centralSignature)); n > s.config.MaxEntries {
		s.limit(index, fmt.Sprintf("over %d members", s.config.MaxEntries))
		return nil
	}
	members, err := readZip(data, s.config.MaxEntries)
	if len(members) > s.config.MaxEntries {
		s.limit(index, fmt.Sprintf("over %d members", s.config.MaxEntries))
		return nil
	}
	if err != nil {
		s.fact(index, mail.Result{Symbol: "ATTACHMENT_UNREADABLE", Description: "an archive that can't be read"})
	}
	if s.bomb(members) {
		s.limit(index, fmt.Sprintf("unpacks to over %d times its size", s.config.MaxRatio))
	}
	c := container{scan: s, attachment: s.results[index].Attachment, document: s.isDocument(p)}
	for _, m := range members {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		c.member(m)
	}
	if c.encrypted {
		s.fact(index, mail.Result{Symbol: "ATTACHMENT_ENCRYPTED", Description: "an archive with encrypted members"})
	}
	if c.unreadable && err == nil {
		s.fact(index, mail.Result{Symbol: "ATTACHMENT_UNREADABLE", Description: "an archive with members that can't be read"})
	}
	return nil
}

// isDocument says that every name makes the part a document of an office
// program; one other name, and somebody is shown the members.
func (s *scan) isDocument(p *mail.Part) bool {
	for _, sent := range p.Names {
		for _, name := range readings(sent) {
			if !isIn(extension(name), documents) {
				return false
			}
		}
	}
	return len(p.Names) > 0
}

// bomb goes by what the directory says; what it keeps silent about is bounded
// when it is unpacked.
func (s *scan) bomb(members []member) bool {
	var packed, unpacked int64
	for _, m := range members {
		packed += int64(len(m.packed))
		if unpacked += m.declared; unpacked < 0 || m.declared < 0 {
			return true
		}
	}
	return unpacked > s.config.MaxUnpacked && unpacked/s.config.MaxRatio > packed
}

// container is the look into one zip.
type container struct {
	*scan
	attachment *mail.Attachment
	document   bool
	inflater   io.ReadCloser // kept for the next member
	bad        int
	encrypted  bool
	unreadable bool
}

// member judges one member by its names and by its content.
func (c *container) member(m member) {
	name := m.names[0]
	b := c.buffers.Get().(*buffer)
	defer c.buffers.Put(b)
	b.probe.reset()
	a := mail.Attachment{Name: display(name), Part: c.attachment.Part, Size: m.declared, Path: c.path(name)}
	switch {
	case m.crypt:
		c.encrypted = true
	case !c.unpackMember(m, b, &a):
		c.unreadable = true
	}
	if strings.HasSuffix(name, "/") && m.declared == 0 && b.probe.size == 0 {
		return // a folder
	}
	if b.probe.size > 0 {
		a.TrueType = b.probe.mediaType()
	}
	f := file{trueType: a.TrueType, content: b.probe.kind()}
	if !c.document {
		f.names = m.names
	}
	c.reportMember(a, f)
}

func (c *container) reportMember(a mail.Attachment, f file) {
	reason, evidence := c.judge(f)
	switch {
	case reason != "" && c.bad < maxBad:
		c.bad++
		c.blocked(a, reason, evidence)
	case reason == "" && !c.document && c.listed < maxListed:
		c.listed++
		c.results = append(c.results, mail.Result{Filter: Name, Attachment: &a})
	}
}

// path names a member as CONTRACT 5 does, "2/x.zip/invoice.exe".
func (c *container) path(name string) string {
	outer := c.attachment.Name
	if outer == "" {
		outer = "unnamed"
	}
	return c.attachment.Path + "/" + outer + "/" + display(name)
}

// unpackMember reads a member while the message's budget lasts: all of it, to
// know its digest and true size, or else its head. False is that it can't be.
func (c *container) unpackMember(m member, b *buffer, a *mail.Attachment) bool {
	r, ok := c.open(m)
	if !ok {
		return false
	}
	limit := c.unpack
	if c.document || limit < headSize {
		limit = headSize
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(hash, &b.probe), io.LimitReader(r, limit+1), b.octets[:])
	c.unpack = max(0, c.unpack-n)
	if err == nil && n <= limit {
		a.Size, a.SHA256 = n, hex.EncodeToString(hash.Sum(nil))
	}
	return err == nil
}

// open unpacks without believing the directory's sizes: a size of 0 would hide
// the content.
func (c *container) open(m member) (io.Reader, bool) {
	packed := bytes.NewReader(m.packed)
	switch {
	case m.method == zip.Store:
		return packed, true
	case m.method != zip.Deflate:
		return nil, false
	case c.inflater == nil:
		c.inflater = flate.NewReader(packed)
		return c.inflater, true
	}
	// A new one for each of ten thousand members would be half a gigabyte.
	return c.inflater, c.inflater.(flate.Resetter).Reset(packed, nil) == nil
}

// directory gathers the members of a zip.
type directory struct {
	data    []byte
	members []member
	byData  map[int64]int // where a member's data begins: its index in members
	taken   spans         // data of the members that the central directory knows
}

// readZip lists the members of both directories, at most limit+1. The error says
// that the central directory can't be read; what local headers show is listed
// all the same.
func readZip(data []byte, limit int) ([]member, error) {
	d := directory{data: data, byData: map[int64]int{}}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err == nil {
		for _, f := range r.File {
			d.central(f)
		}
	}
	d.taken = d.taken.merged()
	for at := 0; len(d.members) <= limit; {
		i := bytes.Index(data[at:], []byte(localSignature))
		if i < 0 {
			break
		}
		at = d.local(at + i)
	}
	return d.members, err
}

// central adds a member that the central directory names.
func (d *directory) central(f *zip.File) {
	m := member{names: []string{f.Name}, method: f.Method, crypt: f.Flags&flagEncrypted != 0, declared: int64(f.UncompressedSize64)}
	off, err := f.DataOffset()
	if err != nil || off > int64(len(d.data)) {
		m.method = lostData
		d.members = append(d.members, m)
		return
	}
	m.packed = d.data[off:]
	if f.CompressedSize64 < uint64(len(m.packed)) {
		m.packed = m.packed[:f.CompressedSize64]
	}
	d.byData[off] = len(d.members)
	d.taken = append(d.taken, span{off, off + int64(len(m.packed))})
	d.members = append(d.members, m)
}

// local adds what the local header at an offset says that the central directory
// does not: another name, or a member. It returns where to look for the next.
func (d *directory) local(at int) (next int) {
	next = at + len(localSignature)
	m, off, ok := localMember(d.data, at)
	if !ok {
		return next
	}
	if i, known := d.byData[off]; known {
		if k := &d.members[i]; !slices.Contains(k.names, m.names[0]) {
			k.names = append(k.names, m.names[0])
		}
		return next
	}
	if d.taken.cover(int64(at)) {
		return next // of an archive in this archive
	}
	d.byData[off] = len(d.members)
	d.members = append(d.members, m)
	if end := int(off) + len(m.packed); len(m.packed) > 0 && end < len(d.data) {
		return end
	}
	return next
}

// localMember reads the local header at an offset (APPNOTE.TXT, 4.3.7).
func localMember(data []byte, at int) (m member, dataAt int64, ok bool) {
	h := data[at:]
	if len(h) < localSize {
		return m, 0, false
	}
	u16 := func(off int) int { return int(binary.LittleEndian.Uint16(h[off:])) }
	nameEnd := localSize + u16(26)
	end := nameEnd + u16(28)
	if u16(26) == 0 || end > len(h) {
		return m, 0, false
	}
	m = member{
		names:    []string{string(h[localSize:nameEnd])},
		method:   uint16(u16(8)),
		crypt:    u16(6)&flagEncrypted != 0,
		packed:   h[end:],
		declared: int64(binary.LittleEndian.Uint32(h[22:])),
	}
	if size := int(binary.LittleEndian.Uint32(h[18:])); size > 0 && size < len(m.packed) {
		m.packed = m.packed[:size]
	}
	return m, int64(at + end), true
}

// span is a range of octets of a zip.
type span struct{ start, end int64 }

type spans []span

// merged is the same octets in disjoint spans, in order.
func (s spans) merged() spans {
	slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	out := s[:0]
	for _, next := range s {
		if n := len(out); n > 0 && next.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, next.end)
		} else {
			out = append(out, next)
		}
	}
	return out
}

// cover says whether an octet lies in one of the spans, which are merged.
func (s spans) cover(at int64) bool {
	i, found := slices.BinarySearchFunc(s, at, func(a span, at int64) int { return cmp.Compare(a.start, at) })
	return found || i > 0 && at < s[i-1].end
}
