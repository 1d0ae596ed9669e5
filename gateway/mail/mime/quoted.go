package mime

import "bytes"

// qpDecoder is RFC 2045, section 6.7, lax: a "=" that encodes nothing stays.
type qpDecoder struct {
	held  [slack - 8]byte // a "=" or white space with what follows it
	count int
}

func (d *qpDecoder) decode(dst, src []byte) (n int) {
	for i := 0; i < len(src); {
		if d.count == 0 {
			from := i
			for i < len(src) && !qpSpecial(src[i:]) {
				i++
			}
			n += copy(dst[n:], src[from:i])
			if i == len(src) {
				break
			}
			d.hold(src[i])
			i++
			continue
		}
		written, taken := d.octet(dst[n:], src[i])
		n += written
		if taken {
			i++
		}
	}
	return n
}

// qpSpecial says that the first octet can't be written before the next is known:
// white space counts unless a line break follows.
func qpSpecial(src []byte) bool {
	switch src[0] {
	case '=':
		return true
	case ' ', '\t':
		return len(src) == 1 || src[1] <= ' '
	}
	return false
}

func (d *qpDecoder) hold(c byte) {
	d.held[d.count] = c
	d.count++
}

// flush writes what was held as it is.
func (d *qpDecoder) flush(dst []byte) int {
	n := copy(dst, d.held[:d.count])
	d.count = 0
	return n
}

// octet takes the octet behind what is held. Not taken, it is to come again.
func (d *qpDecoder) octet(dst []byte, c byte) (n int, taken bool) {
	first, last := d.held[0], d.held[d.count-1]
	hex := first == '=' && d.count == 2 && isHex(last)
	switch {
	case hex && isHex(c):
		dst[0] = unhex(last)<<4 | unhex(c)
		d.count = 0
		return 1, true
	case hex:
		return d.flush(dst), false
	case first == '=' && d.count == 1 && isHex(c):
	case c == '\n':
		// White space before a line break was added on the way.
		return d.lineBreak(dst, first, last), true
	case d.count == len(d.held) || last == '\r' || (c != ' ' && c != '\t' && c != '\r'):
		return d.flush(dst), false
	}
	d.hold(c)
	return 0, true
}

func (d *qpDecoder) lineBreak(dst []byte, first, last byte) int {
	d.count = 0
	switch {
	case first == '=':
		return 0
	case last == '\r':
		return copy(dst, "\r\n")
	}
	return copy(dst, "\n")
}

func (d *qpDecoder) end(dst []byte) int {
	if d.count > 0 && (d.held[0] != '=' || d.count == 1) {
		d.count = 0
	}
	return d.flush(dst)
}

// QuotedPrintableCheck finds a "=" that begins neither an octet nor a soft line
// break (RFC 2045, section 6.7). It is used as Base64Check is.
type QuotedPrintableCheck struct{ bad bool }

// Line takes the next piece of a line, without line break; ends says that the
// line ends with it. What it gives back is what stands behind the first such
// "="; nil is none, and none is told of twice.
func (c *QuotedPrintableCheck) Line(text []byte, ends bool) (fault []byte) {
	for rest := text; !c.bad; {
		i := bytes.IndexByte(rest, '=')
		if i < 0 {
			return nil
		}
		rest = rest[i+1:]
		switch {
		case len(rest) >= 2 && isHex(rest[0]) && isHex(rest[1]):
			rest = rest[2:]
		case len(bytes.TrimRight(rest, " \t")) == 0:
			return nil
		case len(rest) < 2 && !ends:
			return nil // the piece cut it
		default:
			c.bad = true
			return rest
		}
	}
	return nil
}

// End is called behind the last line; nothing is found there.
func (c *QuotedPrintableCheck) End() (fault []byte) { return nil }

// decodeQ undoes the Q encoding of words (RFC 2047, section 4.2).
func decodeQ(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			b = append(b, ' ')
		case s[i] == '=' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// appendPercent undoes the percent encoding of parameters (RFC 2231, section 4).
func appendPercent(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return b
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
