package mime

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
