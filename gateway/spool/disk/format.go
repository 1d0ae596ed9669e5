package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"postern/gateway/mail"
)

// What the files are, as their first word says, and the version of all three.
const (
	kindItem  = "postern-item"
	kindState = "postern-state"
	kindClock = "postern-clock"
	version   = 1
)

// Envelope is what stands in an item's file before its content. It never changes.
type Envelope struct {
	Nonce       string // tells this file from an earlier one with the same ID
	ID          string
	Message     string
	Time        time.Time
	Since       time.Duration // the spool's clock when responsibility was taken
	ReversePath mail.Address
	SMTPUTF8    bool
	EightBit    bool
	Route       string
	Notify      bool
	Unscanned   []string `json:",omitempty"`
	Subject     string
	Size        int64    // octets of content
	Start       Progress // until there is a state file
}

// Progress is what changes of an item as time goes.
type Progress struct {
	Nonce      string         // of the item that it belongs to
	Recipients []mail.Address // still to be served
	Attempts   int
	Deferrals  int           // of them, those that count for the item's own schedule
	Next       time.Duration // in the spool's clock
	LastReply  string
	NextHop    string
	Clock      time.Duration // the spool's clock when this was written
}

// Tick is the clock's file.
type Tick struct {
	Wall  time.Time
	Clock time.Duration
}

const (
	firstLine = 64       // octets that a frame's first line has at most
	readAhead = 4 << 10  // holds nearly every frame
	maxFrame  = 32 << 20 // JSON of a frame: many times the largest envelope
	shaLen    = 2 * sha256.Size
	endMark   = "\npostern-end "
	endLen    = int64(len(endMark) + shaLen + 1)
)

// encodeFrame writes v as a frame: kind, version and length, JSON, SHA-256.
func encodeFrame(kind string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d %d\n%s\n", kind, version, len(body), body)
	b.WriteString(checksum(b.Bytes()) + "\n")
	return b.Bytes(), nil
}

// decodeFrame reads the frame at the start of f into v and says how long it is.
// What is not whole is ErrDamaged; a whole one of a later version ErrVersion.
func decodeFrame(f ReadFile, kind string, v any) (int64, error) {
	total, err := f.Size()
	if err != nil {
		return 0, err
	}
	buf, err := readRange(f, 0, min(total, readAhead))
	if err != nil {
		return 0, err
	}
	end := bytes.IndexByte(buf[:min(len(buf), firstLine)], '\n')
	if end < 0 {
		return 0, fmt.Errorf("%w: no frame", ErrDamaged)
	}
	var word string
	var ver, length int64
	if n, _ := fmt.Sscanf(string(buf[:end]), "%s %d %d", &word, &ver, &length); n != 3 || length < 0 || length > maxFrame {
		return 0, fmt.Errorf("%w: first line", ErrDamaged)
	}
	whole := int64(end) + 1 + length + 1 + shaLen + 1
	if whole > total {
		return 0, fmt.Errorf("%w: cut in its frame", ErrDamaged)
	}
	if whole > int64(len(buf)) {
		if buf, err = readRange(f, 0, whole); err != nil {
			return 0, err
		}
	}
	body := buf[:whole-shaLen-1]
	switch {
	case string(buf[len(body):whole]) != checksum(body)+"\n":
		return 0, fmt.Errorf("%w: checksum of its frame", ErrDamaged)
	case word != kind:
		return 0, fmt.Errorf("%w: is %q instead of %q", ErrDamaged, word, kind)
	case ver != version:
		return 0, fmt.Errorf("%w: version %d of %s", ErrVersion, ver, kind)
	}
	if err := json.Unmarshal(body[end+1:len(body)-1], v); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return whole, nil
}

// writeItem writes the whole file of an item.
func writeItem(w io.Writer, env *Envelope, c mail.Content) error {
	frame, err := encodeFrame(kindItem, env)
	if err != nil {
		return err
	}
	if _, err := w.Write(frame); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := c.WriteTo(io.MultiWriter(w, sum))
	if err == nil && n != env.Size {
		err = fmt.Errorf("content has %d octets instead of %d", n, env.Size)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, endMark+hex.EncodeToString(sum.Sum(nil))+"\n")
	return err
}

// readEnvelope reads an item's envelope and checks that its file has the right
// length and ends as it should, without reading the content. It returns where the
// content begins and the content's checksum.
func readEnvelope(f ReadFile, env *Envelope) (start int64, sum string, err error) {
	if start, err = decodeFrame(f, kindItem, env); err != nil {
		return 0, "", err
	}
	total, err := f.Size()
	if err != nil {
		return 0, "", err
	}
	if env.Size < 0 || start+env.Size+endLen != total {
		return 0, "", fmt.Errorf("%w: %d octets instead of %d", ErrDamaged, total, start+env.Size+endLen)
	}
	end, err := readRange(f, start+env.Size, endLen)
	if err != nil {
		return 0, "", err
	}
	if !bytes.HasPrefix(end, []byte(endMark)) || end[endLen-1] != '\n' {
		return 0, "", fmt.Errorf("%w: end mark", ErrDamaged)
	}
	return start, string(end[len(endMark) : endLen-1]), nil
}

// verifyContent reads all of the content and compares.
func verifyContent(f ReadFile, start, size int64, sum string) error {
	h := sha256.New()
	buf := make([]byte, max(1, min(size, 128<<10)))
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(f, start, size)}, buf); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return fmt.Errorf("%w: checksum of the content", ErrDamaged)
	}
	return nil
}

// readRange reads n octets at off. A file that became shorter meanwhile is
// damaged.
func readRange(f ReadFile, off, n int64) ([]byte, error) {
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, off)
	if int64(got) == n {
		return buf, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: cut", ErrDamaged)
	}
	return nil, err
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// stored is the content of an item's file. It opens the file anew for each read,
// so that nobody has to close it and an item that is listed holds no file.
type stored struct {
	files       Files
	path        string
	start, size int64
}

// Size implements mail.Content.
func (c *stored) Size() int64 { return c.size }

// ReadAt implements mail.Content.
func (c *stored) ReadAt(p []byte, off int64) (n int, err error) {
	f, err := c.files.Open(c.path)
	if err != nil {
		return 0, fmt.Errorf("open spooled content: %w", err)
	}
	defer func() { err = keepFirst(err, f.Close()) }()
	return io.NewSectionReader(f, c.start, c.size).ReadAt(p, off)
}

// WriteTo implements mail.Content.
func (c *stored) WriteTo(w io.Writer) (n int64, err error) {
	f, err := c.files.Open(c.path)
	if err != nil {
		return 0, fmt.Errorf("open spooled content: %w", err)
	}
	defer func() { err = keepFirst(err, f.Close()) }()
	buf := make([]byte, max(1, min(c.size, 256<<10)))
	n, err = io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(f, c.start, c.size)}, buf)
	if err == nil && n < c.size {
		err = fmt.Errorf("read spooled content: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

// keepFirst is err, or where there was none the later one. errors.Join would hide
// an io.EOF from those who compare.
func keepFirst(err, later error) error {
	if err != nil {
		return err
	}
	return later
}
