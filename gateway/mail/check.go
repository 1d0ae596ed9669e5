package mail

import (
	"bytes"
	"encoding/binary"
)

// classes sorts octets into kinds, one bit each; 0 is the kind that is expected.
type classes [256]byte

// of is all kinds that occur in b.
func (c *classes) of(b []byte) (seen byte) {
	for ; len(b) >= 8; b = b[8:] {
		// One load of eight octets is half the time of eight loads.
		o := binary.LittleEndian.Uint64(b)
		seen |= c[byte(o)] | c[byte(o>>8)] | c[byte(o>>16)] | c[byte(o>>24)]
		seen |= c[byte(o>>32)] | c[byte(o>>40)] | c[byte(o>>48)] | c[byte(o>>56)]
	}
	for _, o := range b {
		seen |= c[o]
	}
	return seen
}

// index is where the first octet of a kind stands.
func (c *classes) index(b []byte, kind byte) int {
	for i, o := range b {
		if c[o]&kind != 0 {
			return i
		}
	}
	return -1
}

// The kinds of octets in a header section.
const (
	classNUL = 1 << iota
	class8Bit
	classControl
)

var headerFaults = [...]struct {
	class  byte
	symbol string
}{{classNUL, HeaderNUL}, {class8Bit, Header8Bit}, {classControl, HeaderControl}}

var headerClass = makeHeaderClass()

func makeHeaderClass() *classes {
	var c classes
	for i := range c {
		switch {
		case i == 0:
			c[i] = classNUL
		case i >= 0x80:
			c[i] = class8Bit
		case i == '\t', i == '\r', i == '\n', i >= ' ' && i < 0x7f:
		default:
			c[i] = classControl
		}
	}
	return &c
}

// The kinds of octets in a base64 body.
const (
	classPad = 1 << iota
	classSpace
	classJunk
)

var base64Class = makeBase64Class()

func makeBase64Class() *classes {
	var c classes
	for i := range c {
		switch b := byte(i); {
		case isAlnum(b), b == '+', b == '/':
		case b == '=':
			c[i] = classPad
		case b == ' ', b == '\t', b == '\r', b == '\n':
			c[i] = classSpace
		default:
			c[i] = classJunk
		}
	}
	return &c
}

// check looks at the lines of a body while the reader scans them for
// boundaries, so that faults of the encoding cost no pass of their own. Each
// note is made once a body.
type check interface {
	line(text []byte, ends bool)
	end()
}

// checkBase64 finds what decoders disagree about (RFC 2045, section 6.8).
type checkBase64 struct {
	note   noter
	digits int64
	pads   int64
	bad    bool
}

func (c *checkBase64) line(text []byte, _ bool) {
	switch {
	case c.bad:
	case c.pads == 0 && base64Class.of(text) == 0:
		c.digits += int64(len(text))
	default:
		c.slow(text)
	}
}

// slow looks at each octet of a line that holds more than digits.
func (c *checkBase64) slow(text []byte) {
	for i, o := range text {
		switch kind := base64Class[o]; {
		case kind == classSpace:
		case kind == classPad:
			c.pads++
		case kind == classJunk, c.pads > 0:
			c.fault(text[i:])
			return
		default:
			c.digits++
		}
	}
}

func (c *checkBase64) end() {
	if !c.bad && ((c.digits+c.pads)%4 != 0 || c.pads > 2) {
		c.fault([]byte("length"))
	}
}

func (c *checkBase64) fault(evidence []byte) {
	c.bad = true
	c.note.octets(MIMEBadBase64, evidence)
}

// checkQP finds a "=" that begins neither an octet nor a soft line break
// (RFC 2045, section 6.7).
type checkQP struct {
	note noter
	bad  bool
}

func (c *checkQP) line(text []byte, ends bool) {
	for rest := text; !c.bad; {
		i := bytes.IndexByte(rest, '=')
		if i < 0 {
			return
		}
		rest = rest[i+1:]
		switch {
		case len(rest) >= 2 && isHex(rest[0]) && isHex(rest[1]):
			rest = rest[2:]
		case len(bytes.TrimRight(rest, " \t")) == 0:
			return
		case len(rest) < 2 && !ends:
			return // the piece cut it
		default:
			c.bad = true
			c.note.octets(MIMEBadQP, rest)
		}
	}
}

func (c *checkQP) end() {}

// checkBlank finds text where only a reader without MIME would show it: before
// the first boundary or behind the last (RFC 2046, section 5.1.1).
type checkBlank struct {
	note   noter
	symbol string
	bad    bool
}

func (c *checkBlank) line(text []byte, _ bool) {
	if c.bad || len(bytes.TrimSpace(text)) == 0 || c.customary(text) {
		return
	}
	c.bad = true
	c.note.octets(c.symbol, text)
}

func (c *checkBlank) end() {}

// customary knows the sentence that mailers put before the first boundary for
// readers without MIME.
func (c *checkBlank) customary(text []byte) bool {
	return c.symbol == MIMEPreambleText &&
		(bytes.Contains(text, []byte("MIME")) || bytes.Contains(text, []byte("multi-part")) || bytes.Contains(text, []byte("multipart")))
}

func isHex(c byte) bool { return unhex(c) < 16 }

// unhex is the value of a hexadecimal digit; 16 and more is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
