// Package attachments finds the files in a message that a mail client would
// offer to save, says of each what it is called, what it claims to be and what
// it is, and reports those that are forbidden: by any of the names that a client
// may read (RFC 2183, RFC 2231, RFC 2047), by claimed type, and by content.
// Zips are opened one level deep, in memory; nothing is ever written.
//
// It leaves to others: what to do about a forbidden file (scoring), taking it
// out (gateway/compose), viruses (clamav), other containers and macros.
package attachments

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"postern/gateway/mail"
)

// Name is the filter's name in results and in the configuration.
const Name = "attachments"

// Config says what is forbidden. The zero Config forbids the default lists.
type Config struct {
	Extensions      []string // forbidden, without the dot; nil is DefaultExtensions
	AllowExtensions []string // exceptions; a file whose content fits such a name passes too
	Types           []string // forbidden media types, claimed or true; "video/*" is all of them; nil is DefaultTypes

	MaxEntries   int   // members of one container; 0 is 10,000
	MaxContainer int64 // octets of a container in memory; 0 is 48 MiB, which a message of 50 MB never exceeds
	MaxUnpacked  int64 // octets of members that are unpacked, for one message; 0 is 64 MiB
	MaxRatio     int64 // unpacked octets for a packed one, past MaxUnpacked; 0 is 200
}

// Filter is the filter. Several goroutines may use it at once.
type Filter struct {
	config     Config
	extensions map[string]bool
	allowed    map[string]bool
	types      map[string]bool

	memory  *semaphore.Weighted // octets of containers in memory, of all messages together
	buffers sync.Pool           // *buffer
}

// New makes the filter. The error names extensions and types that can match
// nothing.
func New(c Config) (*Filter, error) {
	setDefault(&c.MaxEntries, 10_000)
	setDefault(&c.MaxContainer, 48<<20)
	setDefault(&c.MaxUnpacked, 64<<20)
	setDefault(&c.MaxRatio, 200)
	if c.Extensions == nil {
		c.Extensions = strings.Fields(DefaultExtensions)
	}
	if c.Types == nil {
		c.Types = strings.Fields(DefaultTypes)
	}
	f := &Filter{config: c, memory: semaphore.NewWeighted(c.MaxContainer)}
	f.buffers.New = func() any { return &buffer{probe: probe{head: make([]byte, 0, headSize)}} }
	var err error
	if f.extensions, err = extensionSet(c.Extensions); err != nil {
		return nil, fmt.Errorf("extensions: %w", err)
	}
	if f.allowed, err = extensionSet(c.AllowExtensions); err != nil {
		return nil, fmt.Errorf("allowed extensions: %w", err)
	}
	if f.types, err = typeSet(c.Types); err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	return f, nil
}

func setDefault[N int | int64](n *N, value N) {
	if *n <= 0 {
		*n = value
	}
}

func extensionSet(list []string) (map[string]bool, error) {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		ext := strings.ToLower(strings.TrimPrefix(s, "."))
		if ext == "" || strings.ContainsAny(ext, ".*/ ") {
			return nil, fmt.Errorf("%q is no extension", s)
		}
		set[ext] = true
	}
	return set, nil
}

func typeSet(list []string) (map[string]bool, error) {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		media, sub, ok := strings.Cut(strings.ToLower(s), "/")
		if !ok || media == "" || sub == "" || strings.ContainsAny(media+sub, "; ") || strings.Contains(media, "*") {
			return nil, fmt.Errorf("%q is no media type", s)
		}
		set[media+"/"+sub] = true
	}
	return set, nil
}

// Check reports each attachment and each member of a zip: without a symbol
// where it may pass, ATTACHMENT_BLOCKED where not. ATTACHMENT_LIMIT is a
// container over a limit, ATTACHMENT_ENCRYPTED and ATTACHMENT_UNREADABLE one
// that could not be looked into. An error means that the content could not be
// read, or that ctx ended.
func (f *Filter) Check(ctx context.Context, m *mail.Message, _ []mail.Result) ([]mail.Result, error) {
	s := &scan{Filter: f, ctx: ctx, message: m, unpack: f.config.MaxUnpacked}
	for i := range m.Parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.part(&m.Parts[i]); err != nil {
			return nil, fmt.Errorf("part %s: %w", m.Parts[i].Path, err)
		}
	}
	return s.results, nil
}

// file is what is known of an attachment or member when it is judged.
type file struct {
	names    []string // as sent
	claimed  string   // media type; "" in a container
	trueType string   // media type by content; "" is not known
	content  *kind    // by content, of those that do harm; nil is none
	inText   bool     // part of the mail's text, which is shown and not opened
}

// judge says why a file is forbidden, in plain words, and which name or type
// shows it; "" is that it may pass. The most dangerous reading counts.
func (f *Filter) judge(file file) (reason, evidence string) {
	allowed := false
	for _, sent := range file.names {
		for _, name := range readings(sent) {
			if reason := f.judgeName(name, sent); reason != "" {
				return reason, display(sent)
			}
			allowed = allowed || f.fits(extension(name), file.content)
		}
	}
	switch {
	case allowed:
	case f.forbidden(file.trueType) && !(file.inText && file.trueType == scriptType):
		return "the content is " + words(file), file.trueType
	case f.forbidden(file.claimed):
		return "files of type " + display(file.claimed) + " are not accepted", display(file.claimed)
	}
	return "", ""
}

// words says what a file is.
func words(file file) string {
	if file.content != nil {
		return file.content.words
	}
	return file.trueType
}

// judgeName judges one reading of a name; sent is for the words.
func (f *Filter) judgeName(name, sent string) string {
	if classID(name) {
		return "the name hides the kind of file behind a class identifier"
	}
	ext := extension(name)
	if !f.extensions[ext] || f.allowed[ext] {
		return ""
	}
	if before := extension(stem(name)); isIn(before, decoys) {
		return "a ." + ext + " file disguised as ." + before
	}
	if strings.ContainsAny(sent, "\u202e\u202d\u2066\u2067") {
		return "a ." + ext + " file whose name is written backwards"
	}
	return "files ending in ." + ext + " are not accepted"
}

// fits says that an extension was allowed by name, and that the content is what
// files of that name hold: allowing .exe allows programs, allowing .pdf does not.
func (f *Filter) fits(ext string, k *kind) bool {
	return f.allowed[ext] && (k == nil || k.natural == "" || isIn(ext, k.natural))
}

// forbidden looks a media type up, and its whole family.
func (f *Filter) forbidden(mediaType string) bool {
	family, _, _ := strings.Cut(mediaType, "/")
	return f.types[mediaType] || f.types[family+"/*"]
}

// isIn says whether word is one of the list's words.
func isIn(word, list string) bool {
	if word == "" {
		return false
	}
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}
