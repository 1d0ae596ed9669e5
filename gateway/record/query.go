package record

import (
	"net/netip"
	"strings"
	"time"

	"postern/gateway/mail"
)

// Query says what is looked for. The zero Query finds the newest records.
type Query struct {
	// Text is what a user types: an id, or a reply that holds one; an address, a
	// domain ("example.com" or "@example.com"), a client's IP address, a
	// Message-ID, a time or the beginning of one ("2026-11-22", "2026-11-22 14",
	// RFC 3339). Other words stand in the subject, the HELO name, the action, the
	// reason, a symbol or an attachment's name. A record matches when all of it
	// does; the case does not matter.
	Text  string
	Since time.Time // zero is from the first
	Until time.Time // not included; zero is to the last
	Limit int       // 0 is 100; at most 10,000
}

const (
	defaultLimit = 100
	maxLimit     = 10_000
	maxTokens    = 20 // of Text; the others are not looked at
)

// parsed is a query in the words of the tables.
type parsed struct {
	from, to time.Time // zero is open
	terms    []term
	words    []string
	limit    int
}

// parse reads the text. known says whether any record is found by a term: it
// decides what a word is that may be several things.
func parse(q Query, zone *time.Location, known func(term) bool) parsed {
	p := parsed{from: q.Since, to: q.Until, limit: q.Limit}
	if p.limit <= 0 {
		p.limit = defaultLimit
	}
	p.limit = min(p.limit, maxLimit)
	tokens := strings.Fields(cut(q.Text, maxText))
	tokens = tokens[:min(len(tokens), maxTokens)]
	if id, found := findID(tokens, known); found {
		p.terms = []term{id}
		return p
	}
	for len(tokens) > 0 {
		from, to, used := parseTime(tokens, zone)
		if used > 0 {
			p.within(from, to)
			tokens = tokens[used:]
			continue
		}
		p.token(trim(tokens[0]), known)
		tokens = tokens[1:]
	}
	return p
}

// findID looks for the id of a record among the words, since what a user pastes
// is often a whole reply or a line of a log.
func findID(tokens []string, known func(term) bool) (id term, found bool) {
	for _, t := range tokens {
		t = trim(t)
		for _, part := range append(strings.FieldsFunc(t, separates), t) {
			if id := newTerm('i', part); mail.ValidID(part) && known(id) {
				return id, true
			}
		}
	}
	return 0, false
}

func separates(r rune) bool { return strings.ContainsRune("=:,;/()", r) }

// trim takes away what stands around a word in headers, logs and sentences.
func trim(token string) string { return clean(strings.Trim(token, "<>()[]{}\"'`,;:!?")) }

func (p *parsed) token(t string, known func(term) bool) {
	domain := newTerm('d', strings.TrimSuffix(strings.TrimPrefix(t, "@"), "."))
	switch {
	case t == "":
	case isClient(t):
		p.terms = append(p.terms, newTerm('c', client(strings.TrimPrefix(t, "ipv6:"))))
	case strings.HasPrefix(t, "@"), strings.Contains(t, ".") && known(domain):
		p.terms = append(p.terms, domain)
	case known(newTerm('m', t)):
		p.terms = append(p.terms, newTerm('m', t))
	case strings.Contains(t, "@"):
		p.terms = append(p.terms, newTerm('a', t))
	default:
		p.words = append(p.words, t)
	}
}

func isClient(t string) bool {
	_, err := netip.ParseAddr(strings.TrimPrefix(t, "ipv6:"))
	return err == nil
}

// within narrows the query to a range of time.
func (p *parsed) within(from, to time.Time) {
	if p.from.IsZero() || from.After(p.from) {
		p.from = from
	}
	if p.to.IsZero() || to.Before(p.to) {
		p.to = to
	}
}

// The forms of a time, each with what it stands for when it is cut short there.
var timeForms = []struct {
	layout string
	months int
	days   int
	length time.Duration
}{
	{layout: "2006-01-02 15:04:05.999999999", length: time.Second},
	{layout: "2006-01-02 15:04", length: time.Minute},
	{layout: "2006-01-02 15", length: time.Hour},
	{layout: "2006-01-02", days: 1},
	{layout: "2006-01", months: 1},
}

// parseTime reads a time from the first one or two words, and returns the range
// that it stands for and how many words it took.
func parseTime(tokens []string, zone *time.Location) (from, to time.Time, used int) {
	for used = min(len(tokens), 2); used > 0; used-- {
		text := strings.Trim(strings.Join(tokens[:used], " "), "<>()[],;\"'")
		if t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err == nil {
			return instant(t)
		}
		text = strings.Replace(strings.ToUpper(text), "T", " ", 1)
		for _, f := range timeForms {
			t, err := time.ParseInLocation(f.layout, text, zone)
			if err != nil {
				continue
			}
			if t.Nanosecond() != 0 {
				f.length = time.Millisecond
				t = t.Truncate(f.length)
			}
			return t, t.AddDate(0, f.months, f.days).Add(f.length), used
		}
	}
	return time.Time{}, time.Time{}, 0
}

// instant is the second or, where the time names a part of one, the millisecond.
func instant(t time.Time) (from, to time.Time, used int) {
	length := time.Second
	if t.Nanosecond() != 0 {
		length = time.Millisecond
	}
	t = t.Truncate(length)
	return t, t.Add(length), 1
}
