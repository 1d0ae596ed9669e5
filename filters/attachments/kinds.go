package attachments

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// kind is a sort of file that is known by its first octets and does harm when
// it is opened, whatever its name says.
type kind struct {
	mediaType string
	words     string // "a Windows program"
	natural   string // extensions under which it is no surprise; "" is all
	is        func(head []byte) bool
}

// scriptType is told apart because in the text of a mail it is only text.
const scriptType = "text/x-shellscript"

var kinds = []kind{
	{"application/vnd.microsoft.portable-executable", "a Windows program", "exe dll scr cpl sys ocx drv com xll pyd", portableExecutable},
	{"application/x-dosexec", "a DOS program", "exe com sys drv", dosExecutable},
	{"application/x-elf", "a Linux program", "", prefix("\x7fELF")},
	{"application/x-mach-binary", "a macOS program", "", machO},
	{"application/java-vm", "a Java program", "class", javaClass},
	{"application/vnd.android.dex", "an Android program", "dex", prefix("dex\n0")},
	{"application/x-ms-shortcut", "a Windows shortcut", "lnk", prefix("\x4c\x00\x00\x00\x01\x14\x02\x00")},
	{"application/vnd.ms-htmlhelp", "a Windows help file", "chm", prefix("ITSF\x03\x00\x00\x00")},
	{"application/winhlp", "a Windows help file", "hlp", prefix("?_\x03\x00")},
	{"application/vnd.ms-cab-compressed", "a Windows cabinet", "cab msu diagcab", prefix("MSCF\x00\x00\x00\x00")},
	{"application/x-ms-wim", "a disk image", "wim", prefix("MSWIM\x00\x00\x00")},
	{"application/x-vhd", "a disk image", "vhd", prefix("conectix")},
	{"application/x-vhdx", "a disk image", "vhdx", prefix("vhdxfile")},
	{"application/x-ace-compressed", "an ACE archive", "ace", func(h []byte) bool { return at(h, 7, "**ACE**") }},
	{"application/x-ms-encoded-script", "an encoded script", "vbe jse", prefix("#@~^")},
	{scriptType, "a script", "", shebang},
}

// sniff knows a kind by the first octets of a file; nil is none of them.
func sniff(head []byte) *kind {
	for i := range kinds {
		if kinds[i].is(head) {
			return &kinds[i]
		}
	}
	return nil
}

// installer is known by what lies deeper than the first octets (see probe).
var installer = kind{mediaType: "application/x-ms-installer", words: "a Windows installer", natural: "msi msp mst"}

func prefix(magic string) func([]byte) bool {
	return func(head []byte) bool { return at(head, 0, magic) }
}

func at(b []byte, off int, s string) bool {
	return len(b) >= off+len(s) && string(b[off:off+len(s)]) == s
}

// portableExecutable: "MZ", and at 0x3c the place of the new header. Text that
// begins with MZ has letters there, so its "place" is far outside any mail.
func portableExecutable(h []byte) bool {
	if !at(h, 0, "MZ") || len(h) < 0x40 {
		return false
	}
	off := binary.LittleEndian.Uint32(h[0x3c:])
	if int64(off)+4 <= int64(len(h)) {
		return at(h, int(off), "PE\x00\x00")
	}
	return off < 1<<26
}

// dosExecutable: "MZ" or "ZM" and a header that has zeros, as no text has.
func dosExecutable(h []byte) bool {
	return (at(h, 0, "MZ") || at(h, 0, "ZM")) && len(h) >= 0x1c && bytes.IndexByte(h[:0x1c], 0) >= 0
}

func machO(h []byte) bool {
	if len(h) < 8 {
		return false
	}
	switch binary.BigEndian.Uint32(h) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe:
		return true
	case 0xcafebabe: // several architectures in one file; Java's magic too, whose version is larger
		return binary.BigEndian.Uint32(h[4:]) < 20
	}
	return false
}

func javaClass(h []byte) bool {
	return len(h) >= 8 && binary.BigEndian.Uint32(h) == 0xcafebabe && !machO(h)
}

// shebang: "#!" and a path, as exec(2) reads it.
func shebang(h []byte) bool {
	return at(h, 0, "#!") && bytes.HasPrefix(bytes.TrimLeft(h[2:], " \t"), []byte("/"))
}

// isZip: the first local header, an empty archive, or a part of a split one.
func isZip(h []byte) bool {
	return at(h, 0, "PK\x03\x04") || at(h, 0, "PK\x05\x06") || at(h, 0, "PK\x07\x08")
}

// Sizes of what is kept of a file to know it by.
const (
	headSize  = 3072 // what mimetype looks at
	oleSector = 512
	clsidAt   = 80 // of the root entry (MS-CFB, section 2.6.1)
)

// probe is a writer that keeps the first octets of a file, and of an OLE file
// (MS-CFB) the root's class, which lies where its first octets say.
type probe struct {
	head  []byte
	size  int64
	clsid [16]byte
	got   int   // octets of clsid
	root  int64 // where clsid lies; 0 is not known
}

func (p *probe) reset() { *p = probe{head: p.head[:0]} }

// Write implements io.Writer, without error.
func (p *probe) Write(b []byte) (int, error) {
	if n := min(headSize-len(p.head), len(b)); n > 0 {
		before := len(p.head)
		p.head = append(p.head, b[:n]...)
		if before < oleSector && len(p.head) >= oleSector && at(p.head, 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
			p.findRoot()
		}
	}
	if from := p.root + int64(p.got) - p.size; p.root > 0 && p.got < len(p.clsid) && from < int64(len(b)) {
		p.got += copy(p.clsid[p.got:], b[from:])
	}
	p.size += int64(len(b))
	return len(b), nil
}

// findRoot computes the root entry's place from the header: the directory's
// first sector, and the size of sectors.
func (p *probe) findRoot() {
	shift := binary.LittleEndian.Uint16(p.head[0x1e:])
	if shift != 9 && shift != 12 {
		shift = 9
	}
	sector := int64(binary.LittleEndian.Uint32(p.head[0x30:]))
	p.root = (sector+1)<<shift + clsidAt
}

// kind is what the file is, of those that do harm.
func (p *probe) kind() *kind {
	if k := sniff(p.head); k != nil {
		return k
	}
	// The classes of packages, patches and transforms end alike.
	rest := "\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"
	if p.got == len(p.clsid) && strings.IndexByte("\x82\x84\x86", p.clsid[0]) >= 0 && string(p.clsid[1:]) == rest {
		return &installer
	}
	return nil
}

// mediaType is what the content is, by content.
func (p *probe) mediaType() string {
	if k := p.kind(); k != nil {
		return k.mediaType
	}
	head := p.head
	if at(head, 0, "MZ") {
		head = head[2:] // no program, or kind would have said so; mimetype asks for no more
	}
	t, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	return t
}
