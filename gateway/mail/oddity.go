package mail

import (
	"slices"
	"strings"

	"postern/gateway/mail/mime"
)

// The catalogue of oddities. A name that ends in _LIMIT means that the reader
// did not look at everything.
const (
	ContentUnreadable = "CONTENT_UNREADABLE"

	HeaderLimit         = "HEADER_LIMIT"
	HeaderMbox          = "HEADER_MBOX_LINE"
	HeaderNoColon       = "HEADER_NO_COLON"
	HeaderNameEmpty     = "HEADER_NAME_EMPTY"
	HeaderNameMalformed = "HEADER_NAME_MALFORMED"
	HeaderSpaceColon    = "HEADER_SPACE_COLON"
	HeaderFoldFirst     = "HEADER_FOLD_FIRST"
	HeaderBlankFold     = "HEADER_BLANK_FOLD"
	HeaderNUL           = "HEADER_NUL"
	Header8Bit          = "HEADER_8BIT"
	HeaderControl       = "HEADER_CONTROL"
	HeaderNone          = "HEADER_NONE"
	HeaderUnended       = "HEADER_UNENDED"
	HeaderDuplicate     = "HEADER_DUPLICATE"
	HeaderMissingFrom   = "HEADER_MISSING_FROM"
	HeaderMissingDate   = "HEADER_MISSING_DATE"

	MIMEDepthLimit        = "MIME_DEPTH_LIMIT"
	MIMEPartsLimit        = "MIME_PARTS_LIMIT"
	MIMEDecodeLimit       = "MIME_DECODE_LIMIT"
	MIMEParameterLimit    = "MIME_PARAMETER_LIMIT"
	MIMEBoundaryMissing   = "MIME_BOUNDARY_MISSING"
	MIMEBoundaryEmpty     = "MIME_BOUNDARY_EMPTY"
	MIMEBoundaryMalformed = "MIME_BOUNDARY_MALFORMED"
	MIMEBoundaryDuplicate = "MIME_BOUNDARY_DUPLICATE"
	MIMEBoundaryUnseen    = "MIME_BOUNDARY_UNSEEN"
	MIMEBoundaryInexact   = "MIME_BOUNDARY_INEXACT"
	MIMEUnterminated      = "MIME_UNTERMINATED"
	MIMEPreambleText      = "MIME_PREAMBLE_TEXT"
	MIMEEpilogueText      = "MIME_EPILOGUE_TEXT"
	MIMEEpiloguePart      = "MIME_EPILOGUE_PART"
	MIMETypeMalformed     = "MIME_TYPE_MALFORMED"
	MIMEParameterOdd      = "MIME_PARAMETER_MALFORMED"
	MIMEParameterTwice    = "MIME_PARAMETER_DUPLICATE"
	MIMEParameterWord     = "MIME_PARAMETER_ENCODED_WORD"
	MIMEEncodingUnknown   = "MIME_ENCODING_UNKNOWN"
	MIMEEncodingMalformed = "MIME_ENCODING_MALFORMED"
	MIMEEncodedMultipart  = "MIME_ENCODED_MULTIPART"
	MIMEEncodedMessage    = "MIME_ENCODED_MESSAGE"
	MIMEBadBase64         = "MIME_BAD_BASE64"
	MIMEBadQP             = "MIME_BAD_QP"
)

type oddity struct{ symbol, description string }

// oddities describes each, for the admin. Its order is the catalogue's.
var oddities = [...]oddity{
	{ContentUnreadable, "the content could not be read to its end"},
	{HeaderLimit, "a header section is longer than the reader looks at"},
	{HeaderMbox, "an mbox line stands before the header"},
	{HeaderNoColon, "a header line is neither a field nor a continuation"},
	{HeaderNameEmpty, "a header field has no name"},
	{HeaderNameMalformed, "a header field's name holds octets that no name may hold"},
	{HeaderSpaceColon, "white space stands between a field's name and its colon"},
	{HeaderFoldFirst, "the header begins with a continuation line"},
	{HeaderBlankFold, "a header line is nothing but white space, which some readers take for the header's end"},
	{HeaderNUL, "a NUL octet stands in a header"},
	{Header8Bit, "octets outside ASCII stand in a header"},
	{HeaderControl, "control characters stand in a header"},
	{HeaderNone, "a message or part has a body but no header"},
	{HeaderUnended, "a header is not ended by an empty line"},
	{HeaderDuplicate, "a field that may stand once stands several times"},
	{HeaderMissingFrom, "the header has no From field"},
	{HeaderMissingDate, "the header has no Date field"},
	{MIMEDepthLimit, "parts are nested deeper than the reader looks"},
	{MIMEPartsLimit, "there are more parts than the reader looks at"},
	{MIMEDecodeLimit, "an encoded message within the message is larger than the reader decodes"},
	{MIMEParameterLimit, "a MIME field has more parameters, or a longer boundary, than the reader looks at"},
	{MIMEBoundaryMissing, "a multipart names no boundary"},
	{MIMEBoundaryEmpty, "a multipart's boundary is empty"},
	{MIMEBoundaryMalformed, "a multipart's boundary is too long or holds octets that no boundary may hold"},
	{MIMEBoundaryDuplicate, "a multipart has the boundary of one around it"},
	{MIMEBoundaryUnseen, "a multipart holds no part"},
	{MIMEBoundaryInexact, "a line begins with a boundary but goes on, which some readers take for the boundary"},
	{MIMEUnterminated, "a multipart's closing boundary is missing"},
	{MIMEPreambleText, "text stands before a multipart's first boundary"},
	{MIMEEpilogueText, "text stands behind a multipart's closing boundary"},
	{MIMEEpiloguePart, "a part stands behind a multipart's closing boundary"},
	{MIMETypeMalformed, "a Content-Type is malformed"},
	{MIMEParameterOdd, "a parameter of a MIME field is malformed"},
	{MIMEParameterTwice, "a parameter of a MIME field stands several times"},
	{MIMEParameterWord, "a parameter holds an encoded word, which only some readers decode"},
	{MIMEEncodingUnknown, "a Content-Transfer-Encoding is unknown"},
	{MIMEEncodingMalformed, "a Content-Transfer-Encoding holds more than one word"},
	{MIMEEncodedMultipart, "a multipart has a transfer encoding, which is forbidden"},
	{MIMEEncodedMessage, "a message within the message has a transfer encoding, which is forbidden"},
	{MIMEBadBase64, "a base64 body holds what readers decode differently"},
	{MIMEBadQP, "a quoted-printable body holds a = that encodes nothing"},
}

// Description is one sentence for the admin.
func (o Oddity) Description() string {
	for i := range oddities {
		if oddities[i].symbol == o.Symbol {
			return oddities[i].description
		}
	}
	return ""
}

// OdditySymbols is every symbol that the reader may note, in catalogue order.
func OdditySymbols() []string {
	symbols := make([]string, len(oddities))
	for i := range oddities {
		symbols[i] = oddities[i].symbol
	}
	return symbols
}

// A hostile message may be odd in each line; these bound what is kept of it.
const (
	maxOddities = 100
	maxSame     = 8 // of one symbol
	maxEvidence = 80
)

// notes collects oddities.
type notes struct {
	list []Oddity
	// counts is how often each symbol was noted, by its place in the catalogue.
	counts [len(oddities)]int
}

// add notes an oddity, unless it was noted before or often enough.
func (n *notes) add(symbol, evidence, part string) {
	i := slices.IndexFunc(oddities[:], func(o oddity) bool { return o.symbol == symbol })
	if i < 0 || n.counts[i] == maxSame || len(n.list) == maxOddities {
		return
	}
	o := Oddity{Symbol: symbol, Evidence: clean(evidence), Part: part}
	if !slices.Contains(n.list, o) {
		n.list = append(n.list, o)
		n.counts[i]++
	}
}

// noter notes oddities of one part.
type noter struct {
	notes *notes
	part  string
}

func (n noter) add(symbol, evidence string) { n.notes.add(symbol, evidence, n.part) }

// faultSymbols is what package mime's findings are called here.
var faultSymbols = [mime.FaultKinds]string{
	mime.ParameterLimit:     MIMEParameterLimit,
	mime.ParameterMalformed: MIMEParameterOdd,
	mime.ParameterTwice:     MIMEParameterTwice,
	mime.ParameterWord:      MIMEParameterWord,
	mime.EncodingMalformed:  MIMEEncodingMalformed,
	mime.EncodingUnknown:    MIMEEncodingUnknown,
}

func (n noter) faults(faults []mime.Fault) {
	for _, f := range faults {
		n.add(faultSymbols[f.Kind], f.Evidence)
	}
}

func (n noter) octets(symbol string, evidence []byte) {
	n.add(symbol, string(evidence[:min(len(evidence), maxEvidence)]))
}

// clean is the beginning of the first line of s, in printable ASCII.
func clean(s string) string {
	s = strings.TrimSpace(s[:min(len(s), maxEvidence)])
	s, _, _ = strings.Cut(s, "\n")
	b := []byte(strings.TrimRight(s, "\r"))
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
