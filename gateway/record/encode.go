package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"postern/gateway/mail"
)

// A record's number is the millisecond of its time and a serial.
const (
	serialBits = 20
	dayMillis  = 24 * 60 * 60 * 1000
	lastMilli  = 1<<42 - 1 // in the year 2109; keeps numbers positive, and JSON's years within four digits
)

func millis(t time.Time) int64 { return min(max(t.UnixMilli(), 0), lastMilli) }

// lowest is the least number that a record of the millisecond of t may have.
func lowest(t time.Time) int64 { return millis(t) << serialBits }

func day(n int64) int64 { return n >> serialBits / dayMillis }

// Bounds of what a stranger can put into a record, in octets or in number.
const (
	maxText       = 1000
	maxRecipients = 10_000
	maxList       = 1000
	maxWords      = 1000
)

// row is an item as it is written.
type row struct {
	n     int64
	time  time.Time
	data  string
	words string
	terms []term

	later bool // a delivery of the message id, not a record
	id    string
}

// number gives out the next number for that time. Two processes might give out
// the same one: the insert then fails, and another is taken.
func (s *Store) number(t time.Time) int64 {
	s.serial = (s.serial + 1) % (1 << serialBits)
	return lowest(t) | s.serial
}

func (s *Store) encode(it item) (row, error) {
	if it.record == nil {
		return s.encodeDelivery(it)
	}
	r := bound(*it.record)
	if r.Time.IsZero() {
		r.Time = s.Now()
	}
	if r.ID == "" {
		r.ID = mail.NewID(r.Time)
	}
	data, err := s.encoder.json(&r)
	return row{n: s.number(r.Time), time: r.Time, data: data, words: words(&r), terms: terms(&r)}, err
}

func (s *Store) encodeDelivery(it item) (row, error) {
	d := boundDelivery(it.delivery)
	if d.Time.IsZero() {
		d.Time = s.Now()
	}
	data, err := s.encoder.json(&d)
	return row{n: s.number(d.Time), time: d.Time, data: data, later: true, id: cut(it.id, maxText)}, err
}

// encoder writes JSON without allocating a buffer for each record.
type encoder struct{ buf bytes.Buffer }

func (e *encoder) json(v any) (string, error) {
	e.buf.Reset()
	enc := json.NewEncoder(&e.buf)
	enc.SetEscapeHTML(false) // nothing that is kept is ever put into a page as it is
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimRight(e.buf.Bytes(), "\n")), nil
}

// bound makes a record that is safe to keep, whatever a stranger put into it.
// The slices of r are shared with others, so they are copied where one changes.
func bound(r mail.Record) mail.Record {
	for _, s := range []*string{
		&r.ID, &r.Client, &r.HELO, &r.TLS, &r.Sender, &r.Subject, &r.MessageID, &r.Stage, &r.Reason, &r.Reply,
	} {
		*s = cut(*s, maxText)
	}
	r.Time = boundTime(r.Time)
	for _, f := range []*float64{&r.Score, &r.Required, &r.ElapsedMS} {
		*f = finite(*f)
	}
	r.Recipients = boundList(r.Recipients, maxRecipients, boundText)
	r.Hits = boundList(r.Hits, maxList, boundHit)
	r.Attachments = boundList(r.Attachments, maxList, boundAttachment)
	r.Unscanned = boundList(r.Unscanned, maxList, boundText)
	r.Deliveries = boundList(r.Deliveries, maxRecipients, boundDelivery)
	if r.Action < mail.Accept || r.Action > mail.Reject {
		r.Action = mail.Accept // a name that could not be read again
	}
	return r
}

// boundList cuts the list, and replaces what f changes in a copy.
func boundList[T comparable](list []T, most int, f func(T) T) []T {
	list = list[:min(len(list), most)]
	copied := false
	for i, v := range list {
		if w := f(v); w != v {
			if !copied {
				list, copied = slices.Clone(list), true
			}
			list[i] = w
		}
	}
	return list
}

func boundText(s string) string { return cut(s, maxText) }

func boundHit(h mail.Hit) mail.Hit {
	h.Symbol, h.Description, h.Evidence, h.Filter = cut(h.Symbol, maxText), cut(h.Description, maxText), cut(h.Evidence, maxText), cut(h.Filter, maxText)
	h.Score = finite(h.Score)
	return h
}

func boundAttachment(a mail.Attachment) mail.Attachment {
	a.Name, a.Type, a.TrueType = cut(a.Name, maxText), cut(a.Type, maxText), cut(a.TrueType, maxText)
	a.SHA256, a.Path, a.Reason = cut(a.SHA256, maxText), cut(a.Path, maxText), cut(a.Reason, maxText)
	return a
}

func boundDelivery(d mail.Delivery) mail.Delivery {
	d.Recipient, d.NextHop, d.Reply = cut(d.Recipient, maxText), cut(d.NextHop, maxText), cut(d.Reply, maxText)
	d.Time = boundTime(d.Time)
	return d
}

func boundTime(t time.Time) time.Time {
	if t.IsZero() || t.UnixMilli() == millis(t) {
		return t
	}
	return time.UnixMilli(millis(t)).UTC()
}

// finite replaces what JSON has no word for.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// cut shortens s to n octets, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// term is the hash of something that records are found by.
type term int64

// newTerm takes the kind ('i' id, 'm' Message-ID, 'a' address, 'd' domain, 'c' client) and a
// value that went through clean. A stranger chooses the values: the hash must be
// one for which nobody finds another's.
func newTerm(kind byte, value string) term {
	var buf [256]byte
	sum := sha256.Sum256(append(append(buf[:0], kind), value...))
	return term(binary.BigEndian.Uint64(sum[:]))
}

// terms are what the record is found by, each once.
func terms(r *mail.Record) []term {
	list := make([]term, 0, 8)
	add := func(kind byte, value string) {
		if value = clean(value); value != "" {
			list = append(list, newTerm(kind, value))
		}
	}
	add('i', r.ID)
	add('m', strings.Trim(r.MessageID, "<> "))
	add('c', client(r.Client))
	for i := -1; i < len(r.Recipients); i++ {
		address := r.Sender
		if i >= 0 {
			address = r.Recipients[i]
		}
		add('a', address)
		if at := strings.LastIndexByte(address, '@'); at >= 0 {
			add('d', address[at+1:])
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// clean makes a term of a stranger's text: lower case, valid UTF-8, no controls.
func clean(s string) string {
	if !plain(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
		s = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, s)
	}
	return strings.ToLower(s)
}

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// client writes an address in the one form that it is looked for.
func client(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return s
}

// words is the text that free words are looked for in.
func words(r *mail.Record) string {
	var b strings.Builder
	add := func(s string) {
		if s != "" && b.Len() < maxWords {
			b.WriteString(s)
			b.WriteByte(' ')
		}
	}
	add(r.Subject)
	add(r.HELO)
	add(r.Action.String())
	add(r.Reason)
	for _, a := range r.Attachments {
		add(a.Name)
	}
	for _, h := range r.Hits {
		add(h.Symbol)
	}
	return cut(clean(b.String()), maxWords)
}
