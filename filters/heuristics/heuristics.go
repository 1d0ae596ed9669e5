// Package heuristics reports what is known of a message without asking anybody
// and without a rule: the two test strings GTUBE and EICAR by their octets, and
// facts of form, which are the reader's oddities and a dozen of its own about
// fields that RFC 5322 wants. Where SpamAssassin has a name for a fact, it has
// that name here.
//
// It leaves to others: what text says (rules), what files are (attachments), and
// what any of it weighs (scoring).
package heuristics

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"postern/gateway/mail"
)

// Name is the filter's name in results and in the configuration.
const Name = "heuristics"

// Config has no keys yet.
type Config struct{}

// Filter is the filter. Several goroutines may use it at once.
type Filter struct {
	targets []target
	buffers sync.Pool // *[]byte
}

// New makes the filter; the error is always nil.
func New(Config) (*Filter, error) {
	f := &Filter{targets: testStrings()}
	f.buffers.New = func() any { b := make([]byte, 16<<10); return &b }
	return f, nil
}

// Check reports the test strings, then what is missing or malformed in the
// header, then the shape of the body, then the reader's oddities. An error means
// that the content could not be read, or that ctx ended.
func (f *Filter) Check(ctx context.Context, m *mail.Message, _ []mail.Result) ([]mail.Result, error) {
	if m.Content == nil {
		return nil, nil
	}
	results, err := f.strings(ctx, m)
	if err != nil {
		return nil, err
	}
	for _, symbol := range headerFacts(m) {
		results = append(results, fact(symbol, ""))
	}
	shape, err := bodyFacts(m)
	if err != nil {
		return nil, err
	}
	for _, symbol := range shape {
		results = append(results, fact(symbol, ""))
	}
	return append(results, oddities(m)...), nil
}

// fact makes the result of one of our own symbols.
func fact(symbol, evidence string) mail.Result {
	return mail.Result{Filter: Name, Symbol: symbol, Description: descriptions[symbol], Evidence: evidence}
}

// strings looks for the test strings in the content as it was sent, and in each
// body that an encoding hides there.
func (f *Filter) strings(ctx context.Context, m *mail.Message) ([]mail.Result, error) {
	s := newSearch(ctx, f.targets)
	if _, err := m.Content.WriteTo(s); err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	s.place("the content as it was sent")
	for i := range m.Parts {
		p := &m.Parts[i]
		if !encoded(p.Encoding) {
			continue
		}
		if err := f.copy(s, p); err != nil {
			return nil, fmt.Errorf("read part %s: %w", p.Path, err)
		}
		s.place("part " + p.Path)
	}
	var results []mail.Result
	for i, where := range s.found {
		if where != "" {
			results = append(results, fact(f.targets[i].symbol, where))
		}
	}
	return results, nil
}

// encoded says whether the body's octets differ from what they mean.
func encoded(encoding string) bool {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return false
	}
	return true
}

// maxDecoded bounds what is decoded of one part to look for test strings. They
// are for testing: nobody hides one, and each octet costs.
const maxDecoded = 1 << 20

func (f *Filter) copy(s *search, p *mail.Part) error {
	b := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(b)
	s.restart()
	// The struct hides the reader's other methods, so that the buffer is used.
	_, err := io.CopyBuffer(s, struct{ io.Reader }{io.LimitReader(p.Open(), maxDecoded)}, *b)
	return err
}

// oddities repeats what the reader noted. What is over one of its limits was not
// looked at in full, and is the message's fault. Two of its notes have names of
// their own among the facts of the header.
func oddities(m *mail.Message) []mail.Result {
	results := make([]mail.Result, 0, len(m.Oddity))
	for _, o := range m.Oddity {
		if o.Symbol == mail.HeaderMissingFrom || o.Symbol == mail.HeaderMissingDate {
			continue
		}
		r := mail.Result{Filter: Name, Symbol: o.Symbol, Description: o.Description(), Evidence: o.Evidence}
		if o.Part != "" {
			r.Evidence = strings.TrimSpace("part " + o.Part + " " + o.Evidence)
		}
		if strings.HasSuffix(o.Symbol, "_LIMIT") {
			r.Fault, r.Err = mail.FaultMessage, fmt.Errorf("over a limit of the reader: %s", r.Description)
		}
		results = append(results, r)
	}
	return results
}
