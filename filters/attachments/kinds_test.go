package attachments

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// peFile is the least that is a Windows program: new is where its header stands.
func peFile(header uint32) []byte {
	b := make([]byte, max(int(header)+4, 0x40))
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], header)
	copy(b[header:], "PE\x00\x00")
	return b
}

// oleFile is an OLE file whose directory stands in a sector and whose root has a
// class.
func oleFile(shift, sector int, class string) []byte {
	b := make([]byte, (sector+2)<<shift)
	copy(b, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	binary.LittleEndian.PutUint16(b[0x1e:], uint16(shift))
	binary.LittleEndian.PutUint32(b[0x30:], uint32(sector))
	copy(b[(sector+1)<<shift+clsidAt:], class)
	return b
}

const msiClass = "\x84\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"

// TestKind: the media type of what does harm; "" is none of them.
func TestKind(t *testing.T) {
	zeros := strings.Repeat("\x00", 64)
	prose := strings.Repeat("prose ", 20)
	for name, c := range map[string]struct {
		content string
		want    string
	}{
		"empty":                    {"", ""},
		"text":                     {prose, ""},
		"MZ alone":                 {"MZ", ""},
		"MZ and prose":             {"MZ" + prose, ""},
		"PE":                       {string(peFile(0x80)), "application/vnd.microsoft.portable-executable"},
		"PE, small":                {string(peFile(0x40)), "application/vnd.microsoft.portable-executable"},
		"PE, header far away":      {string(peFile(100_000)), "application/vnd.microsoft.portable-executable"},
		"PE, cut":                  {string(peFile(0x80)[:0x40]), "application/vnd.microsoft.portable-executable"},
		"MZ, no PE where it says":  {"MZ" + strings.Repeat("\x01", 0x3a) + "\x40\x00\x00\x00" + zeros, ""},
		"MZ, header of zeros":      {"MZ" + zeros, "application/x-dosexec"},
		"ZM":                       {"ZM" + zeros, "application/x-dosexec"},
		"ELF":                      {"\x7fELF" + zeros, "application/x-elf"},
		"Mach-O":                   {"\xcf\xfa\xed\xfe" + zeros, "application/x-mach-binary"},
		"Mach-O, several":          {"\xca\xfe\xba\xbe\x00\x00\x00\x02", "application/x-mach-binary"},
		"Java":                     {"\xca\xfe\xba\xbe\x00\x00\x00\x34", "application/java-vm"},
		"Java, cut":                {"\xca\xfe\xba\xbe\x00\x00\x00", ""},
		"Android":                  {"dex\n035\x00", "application/vnd.android.dex"},
		"shortcut":                 {"\x4c\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"},
		"CHM":                      {"ITSF\x03\x00\x00\x00", "application/vnd.ms-htmlhelp"},
		"HLP":                      {"?_\x03\x00", "application/winhlp"},
		"cabinet":                  {"MSCF\x00\x00\x00\x00", "application/vnd.ms-cab-compressed"},
		"WIM":                      {"MSWIM\x00\x00\x00", "application/x-ms-wim"},
		"VHD":                      {"conectix", "application/x-vhd"},
		"VHDX":                     {"vhdxfile", "application/x-vhdx"},
		"ACE":                      {"1234567**ACE**", "application/x-ace-compressed"},
		"encoded script":           {"#@~^XXXX", "application/x-ms-encoded-script"},
		"shebang":                  {"#!/bin/sh\n", scriptType},
		"shebang with a space":     {"#! \t/usr/bin/env python\n", scriptType},
		"no shebang":               {"#! not a path\n", ""},
		"OLE document":             {string(oleFile(9, 3, "")), ""},
		"MSI":                      {string(oleFile(9, 3, msiClass)), "application/x-ms-installer"},
		"MSI, directory far away":  {string(oleFile(9, 1000, msiClass)), "application/x-ms-installer"},
		"MSI, first sector":        {string(oleFile(9, 0, msiClass)), "application/x-ms-installer"},
		"MSI, large sectors":       {string(oleFile(12, 2, msiClass)), "application/x-ms-installer"},
		"patch":                    {string(oleFile(9, 3, "\x86"+msiClass[1:])), "application/x-ms-installer"},
		"transform":                {string(oleFile(9, 3, "\x82"+msiClass[1:])), "application/x-ms-installer"},
		"OLE, directory not there": {string(oleFile(9, 3, msiClass)[:1024]), ""},
	} {
		for _, chunk := range []int{1, 7, 512, 1 << 20} { // however it is written
			var p probe
			write(&p, []byte(c.content), chunk)
			got := ""
			if k := p.kind(); k != nil {
				got = k.mediaType
			}
			if got != c.want {
				t.Errorf("%s in chunks of %d: got %q, want %q", name, chunk, got, c.want)
			}
			if p.size != int64(len(c.content)) {
				t.Errorf("%s in chunks of %d: counted %d", name, chunk, p.size)
			}
		}
	}
}

func write(p *probe, b []byte, chunk int) {
	for len(b) > 0 {
		n := min(chunk, len(b))
		_, _ = p.Write(b[:n])
		b = b[n:]
	}
}

func TestMediaType(t *testing.T) {
	for content, want := range map[string]string{
		"%PDF-1.7\n":                          "application/pdf",
		"hello":                               "text/plain",
		"MZ is only text here":                "text/plain",
		"GIF89a" + strings.Repeat("\x00", 20): "image/gif",
		"\x7fELF":                             "application/x-elf",
	} {
		var p probe
		write(&p, []byte(content), len(content))
		if got := p.mediaType(); got != want {
			t.Errorf("%q: got %s, want %s", content, got, want)
		}
	}
}

// Every kind is forbidden unless somebody says otherwise.
func TestKindsAreForbidden(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(kinds, installer) {
		if !f.forbidden(k.mediaType) {
			t.Errorf("%s passes", k.mediaType)
		}
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(peFile(0x80), 7)
	f.Add(oleFile(9, 3, msiClass), 100)
	f.Add([]byte("#!/bin/sh"), 1)
	f.Fuzz(func(t *testing.T, content []byte, chunk int) {
		var whole, pieces probe
		write(&whole, content, max(1, len(content)))
		write(&pieces, content, max(1, chunk))
		if whole.kind() != pieces.kind() || whole.mediaType() != pieces.mediaType() || !bytes.Equal(whole.head, pieces.head) {
			t.Error("depends on how it is written")
		}
	})
}
