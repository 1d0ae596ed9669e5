package mail

import (
	"slices"
	"strings"

	"postern/gateway/mail/mime"
)

// unique are the fields that may stand once. Those of MIME are looked at in
// every part, the others (RFC 5322, section 3.6) in the message's own header.
var unique = [...]string{
	"Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description",
	"MIME-Version", "From", "To", "Cc", "Date", "Subject", "Sender", "Reply-To", "Message-ID",
}

// Places in unique.
const (
	contentType = iota
	contentEncoding
	contentDisposition
	contentID
	contentDescription
	mimeVersion
	from
	_
	_
	date
)

func uniqueIndex(name string) int {
	for i := range unique {
		if len(unique[i]) == len(name) && strings.EqualFold(unique[i], name) {
			return i
		}
	}
	return -1
}

// classify reads what a part's header says of its body. Of a field that stands
// several times the first counts, but every name is kept.
func (r *reader) classify(p *Part, note noter) {
	var seen [len(unique)]int
	var late []string // names from Content-Type, less likely than the others
	for i := range p.Header {
		k := uniqueIndex(p.Header[i].Name)
		if k < 0 || (k > contentDescription && p.Parent >= 0) {
			continue
		}
		if seen[k]++; seen[k] == 2 {
			note.add(HeaderDuplicate, p.Header[i].Name)
		}
		first := seen[k] == 1
		switch k {
		case contentType:
			late = append(late, p.contentType(p.Header[i].Value(), first, note)...)
		case contentEncoding:
			p.contentEncoding(p.Header[i].Value(), first, note)
		case contentDisposition:
			p.contentDisposition(p.Header[i].Value(), first, note)
		}
	}
	p.addNames(late)
	if p.Parent < 0 && seen[from] == 0 {
		note.add(HeaderMissingFrom, "")
	}
	if p.Parent < 0 && seen[date] == 0 {
		note.add(HeaderMissingDate, "")
	}
	if p.isMultipart() && p.Encoding != "" && p.Encoding != "7bit" && p.Encoding != "8bit" && p.Encoding != "binary" {
		note.add(MIMEEncodedMultipart, p.Encoding)
	}
}

// contentType reads a Content-Type (RFC 2045, section 5.1) and gives back the
// names in it.
func (p *Part) contentType(value string, first bool, note noter) []string {
	v := mime.ParseValue(value)
	note.faults(v.Faults)
	if first {
		var faults []mime.Fault
		p.Params, faults = v.Params()
		note.faults(faults)
		if t, ok := mime.ParseMediaType(v.Word); t != "" {
			p.MediaType = t
			if !ok {
				note.add(MIMETypeMalformed, value)
			}
		} else {
			note.add(MIMETypeMalformed, value)
		}
	}
	return append(v.All("name"), v.All("filename")...)
}

// contentEncoding reads a Content-Transfer-Encoding (RFC 2045, section 6.1).
func (p *Part) contentEncoding(value string, first bool, note noter) {
	if first {
		var faults []mime.Fault
		p.Encoding, faults = mime.ParseEncoding(value)
		note.faults(faults)
	}
}

// contentDisposition reads a Content-Disposition (RFC 2183). One that is not
// known is an attachment (section 2.8).
func (p *Part) contentDisposition(value string, first bool, note noter) {
	v := mime.ParseValue(value)
	note.faults(v.Faults)
	if first {
		switch strings.ToLower(v.Word) {
		case "":
		case "inline":
			p.Disposition = "inline"
		default:
			p.Disposition = "attachment"
		}
	}
	p.addNames(v.All("filename"))
	p.addNames(v.All("name"))
}

// addNames adds the names that are new.
func (p *Part) addNames(names []string) {
	for _, name := range names {
		if name != "" && !slices.Contains(p.Names, name) {
			p.Names = append(p.Names, name)
		}
	}
}

// isBoundary is RFC 2046, section 5.1.1.
func isBoundary(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("'()+_,-./:=? ", s[i]) < 0 {
			return false
		}
	}
	return len(s) <= 70
}
