package mail

import "io"

// slack is how much more a decoder may write than it is given: what it held
// back of the octets before.
const slack = 80

// decoder undoes a transfer encoding. It never fails: what does not belong into
// the encoding is passed over, as clients do.
type decoder interface {
	// decode writes at most len(src)+slack octets.
	decode(dst, src []byte) int
	// end writes what was held back, at most slack octets.
	end(dst []byte) int
}

// newDecoder is the decoder for an encoding; nil where there is nothing to undo.
func newDecoder(encoding string) decoder {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return &qpDecoder{}
	case "x-uuencode":
		return &uuDecoder{}
	}
	return nil
}

// Open reads the part's body, decoded as its Encoding says: base64,
// quoted-printable and x-uuencode are undone, whatever else is given as it
// stands. Faults of the encoding are no errors; only Content's are returned.
func (p *Part) Open() io.Reader {
	if p.content == nil || p.Body.Len() <= 0 {
		return eof{}
	}
	raw := io.NewSectionReader(p.content, p.Body.Start, p.Body.Len())
	d := newDecoder(p.Encoding)
	if d == nil {
		return raw
	}
	b := &body{src: raw, decoder: d}
	if all, ok := p.content.(Bytes); ok {
		b.rest, b.src = all[p.Body.Start:p.Body.End], eof{}
	}
	return b
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// body is a decoded body.
type body struct {
	src     io.Reader
	decoder decoder
	in      []byte // buffer of src
	rest    []byte // read but not decoded
	err     error

	held  []byte // decoded but not handed out
	small [4 * slack]byte
}

// Read implements io.Reader. It decodes straight into p where p is large enough.
func (b *body) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(b.held) > 0:
			n := copy(p, b.held)
			b.held = b.held[n:]
			return n, nil
		case b.err != nil:
			return 0, b.err
		case len(p) < len(b.small):
			n := b.fill(b.small[:])
			b.held = b.small[:n]
		default:
			if n := b.fill(p); n > 0 {
				return n, nil
			}
		}
	}
}

// fill decodes into p until something came out or the body is at its end.
func (b *body) fill(p []byte) int {
	for {
		if len(b.rest) == 0 {
			if err := b.more(); err != nil {
				b.err = err
				return b.decoder.end(p)
			}
		}
		n := min(len(b.rest), len(p)-slack)
		decoded := b.decoder.decode(p, b.rest[:n])
		b.rest = b.rest[n:]
		if decoded > 0 {
			return decoded
		}
	}
}

func (b *body) more() error {
	if b.in == nil {
		if _, none := b.src.(eof); none {
			return io.EOF
		}
		b.in = make([]byte, 16<<10)
	}
	n, err := b.src.Read(b.in)
	b.rest = b.in[:n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

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

// uuDecoder reads what uuencode writes: lines that begin with their length,
// between "begin" and "end".
type uuDecoder struct {
	line  [slack - 8]byte
	count int
	body  bool // between begin and end
}

func (d *uuDecoder) decode(dst, src []byte) (n int) {
	for _, c := range src {
		if c == '\n' {
			n += d.end(dst[n:])
		} else if d.count < len(d.line) {
			d.line[d.count] = c
			d.count++
		}
	}
	return n
}

// end decodes the line that was held.
func (d *uuDecoder) end(dst []byte) (n int) {
	line := d.line[:d.count]
	for len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	d.count = 0
	switch text := string(line); {
	case len(line) == 0:
		return 0
	case !d.body:
		d.body = len(text) >= 6 && text[:6] == "begin "
		return 0
	case text == "end":
		d.body = false
		return 0
	}
	return uuLine(dst, line)
}

func uuLine(dst, line []byte) (n int) {
	want := int(line[0]-' ') & 0x3f
	for digits := line[1:]; len(digits) > 0 && n < want; {
		var v [4]byte
		for i := range min(4, len(digits)) {
			v[i] = (digits[i] - ' ') & 0x3f
		}
		n += copy(dst[n:], []byte{v[0]<<2 | v[1]>>4, v[1]<<4 | v[2]>>2, v[2]<<6 | v[3]}[:min(3, want-n)])
		digits = digits[min(4, len(digits)):]
	}
	return n
}
