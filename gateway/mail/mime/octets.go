package mime

import "encoding/binary"

// Octets is a set of kinds of octets. Every octet is of all the kinds that
// describe it, or of none, as a digit of base64 is.
type Octets byte

// The kinds.
const (
	NUL      Octets = 1 << iota
	EightBit        // outside ASCII (RFC 2045, section 2.8)
	Control         // the control characters but NUL, HT, LF, CR

	// What base64 holds beside its digits.
	padding
	blank
	junk

	notDigit = padding | blank | junk
)

var kinds = makeKinds()

func makeKinds() *[256]Octets {
	var k [256]Octets
	for i := range k {
		k[i] = kindOf(byte(i))
	}
	return &k
}

func kindOf(c byte) (kind Octets) {
	switch {
	case c == 0:
		kind = NUL
	case c >= 0x80:
		kind = EightBit
	case c == '\t', c == '\r', c == '\n', c >= ' ' && c < 0x7f:
	default:
		kind = Control
	}
	switch {
	case c == '=':
		kind |= padding
	case c == ' ', c == '\t', c == '\r', c == '\n':
		kind |= blank
	case digits[c] > 63:
		kind |= junk
	}
	return kind
}

// Scan is all kinds that occur in b.
func Scan(b []byte) (seen Octets) {
	k := kinds
	for ; len(b) >= 8; b = b[8:] {
		// One load of eight octets is half the time of eight loads.
		o := binary.LittleEndian.Uint64(b)
		seen |= k[byte(o)] | k[byte(o>>8)] | k[byte(o>>16)] | k[byte(o>>24)]
		seen |= k[byte(o>>32)] | k[byte(o>>40)] | k[byte(o>>48)] | k[byte(o>>56)]
	}
	for _, o := range b {
		seen |= k[o]
	}
	return seen
}

// Index is where the first octet of one of these kinds stands; -1 is nowhere.
func (o Octets) Index(b []byte) int {
	for i, c := range b {
		if kinds[c]&o != 0 {
			return i
		}
	}
	return -1
}
