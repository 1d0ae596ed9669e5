package mime

import "bytes"

// digits is the value of each base64 digit; 0xff is none.
var digits = makeDigits()

func makeDigits() *[256]byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var d [256]byte
	for i := range d {
		d[i] = 0xff
	}
	for i := range len(alphabet) {
		d[alphabet[i]] = byte(i)
	}
	return &d
}

// base64Decoder is RFC 2045, section 6.8, lax: whatever is no digit is skipped,
// and digits behind a padding begin anew, since clients read on there.
type base64Decoder struct {
	bits  uint32
	count int // digits in bits
}

func (d *base64Decoder) decode(dst, src []byte) (n int) {
	for len(src) > 0 {
		if d.count == 0 {
			digits, octets := decodeGroups(dst[n:], src)
			n += octets
			if src = src[digits:]; len(src) == 0 {
				break
			}
		}
		n += d.octet(dst[n:], src[0])
		src = src[1:]
	}
	return n
}

// decodeGroups decodes groups of four digits up to the first other octet.
func decodeGroups(dst, src []byte) (read, written int) {
	table := digits
	for len(src) >= 4 && len(dst) >= 3 {
		a, b, c, e := table[src[0]], table[src[1]], table[src[2]], table[src[3]]
		if (a|b|c|e)&0xc0 != 0 {
			break
		}
		dst[0], dst[1], dst[2] = a<<2|b>>4, b<<4|c>>2, c<<6|e
		src, dst = src[4:], dst[3:]
		read, written = read+4, written+3
	}
	return read, written
}

// octet takes one octet and writes the group that it completes.
func (d *base64Decoder) octet(dst []byte, c byte) int {
	v := digits[c]
	switch {
	case c == '=':
		return d.end(dst)
	case v == 0xff:
		return 0
	}
	d.bits = d.bits<<6 | uint32(v)
	if d.count++; d.count < 4 {
		return 0
	}
	dst[0], dst[1], dst[2] = byte(d.bits>>16), byte(d.bits>>8), byte(d.bits)
	d.bits, d.count = 0, 0
	return 3
}

// end writes the octets of a group that is not complete.
func (d *base64Decoder) end(dst []byte) (n int) {
	switch d.count {
	case 2:
		dst[0], n = byte(d.bits>>4), 1
	case 3:
		dst[0], dst[1], n = byte(d.bits>>10), byte(d.bits>>2), 2
	}
	d.bits, d.count = 0, 0
	return n
}

// Base64Check finds what decoders of base64 disagree about (RFC 2045, section
// 6.8): octets that are no digits, digits behind a padding, a length that is no
// multiple of four. It looks at a body while somebody else scans its lines, so
// that it costs no pass of its own.
type Base64Check struct {
	digits int64
	pads   int64
	bad    bool
}

// Line takes the next piece of a line, without line break. What it gives back is
// where the first fault begins; nil is none, and none is told of twice.
func (c *Base64Check) Line(text []byte, _ bool) (fault []byte) {
	switch {
	case c.bad:
	case c.pads == 0 && Scan(text)&notDigit == 0:
		c.digits += int64(len(text))
	default:
		return c.slow(text)
	}
	return nil
}

// slow looks at each octet of a line that holds more than digits.
func (c *Base64Check) slow(text []byte) (fault []byte) {
	for i, o := range text {
		switch kind := kinds[o]; {
		case kind&blank != 0:
		case kind&padding != 0:
			c.pads++
		case kind&junk != 0, c.pads > 0:
			c.bad = true
			return text[i:]
		default:
			c.digits++
		}
	}
	return nil
}

// End is called behind the last line, and gives back what Line does; a fault of
// the whole is called "length".
func (c *Base64Check) End() (fault []byte) {
	if c.bad || ((c.digits+c.pads)%4 == 0 && c.pads <= 2) {
		return nil
	}
	c.bad = true
	return []byte("length")
}

// decodeBase64 decodes all of b.
func decodeBase64(b []byte) []byte {
	var d base64Decoder
	out := make([]byte, len(b)+slack)
	n := d.decode(out, b)
	n += d.end(out[n:])
	return bytes.Clone(out[:n])
}
