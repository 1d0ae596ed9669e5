package mail

import "io"

// Read finds the header, the parts and the oddities of c. It never fails.
func Read(c Content, l Limits) (Header, []Part, []Oddity) { return nil, nil, nil }

// Open reads the part's body, decoded as its Encoding says.
func (p *Part) Open() io.Reader { return nil }

// Attached says that a client would offer to save the part as a file.
func (p *Part) Attached() bool { return false }

// Get is the unfolded, trimmed value of the first field of that name; "" where
// there is none. The name's case does not matter.
func (h Header) Get(name string) string { return "" }

// All is every field of that name, in order.
func (h Header) All(name string) []Field { return nil }

// Value is the field's body, unfolded and trimmed, not decoded.
func (f Field) Value() string { return "" }

// Text is the field's body with encoded words decoded (RFC 2047) and control
// characters replaced: what a person would read.
func (f Field) Text() string { return "" }
