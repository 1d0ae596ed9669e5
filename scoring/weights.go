package scoring

import "postern/gateway/mail"

// builtin is what facts weigh and do when nobody says otherwise, one line a
// symbol, by filter. What is not here weighs what its result proposes, else 0.
// The scale is the field's: 5 is spam. Facts of form are small, so that no
// ordinary mail reaches 5 by being carelessly written; facts that say nothing
// bad weigh 0 and are there to be seen, and for rules to build on.
var builtin = map[string]Weight{
	// Test strings.
	"GTUBE": {Score: 1000},
	"EICAR": {Class: mail.ClassVirus, Action: mail.Quarantine},

	// clamav. Heuristic, PUA and unofficial signatures are wrong too often to condemn.
	"CLAMAV_VIRUS":       {Class: mail.ClassVirus, Action: mail.Quarantine},
	"CLAMAV_HEURISTIC":   {Score: 3},
	"CLAMAV_PUA":         {Score: 3},
	"CLAMAV_UNOFFICIAL":  {Score: 4},
	"CLAMAV_LIMIT":       {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"CLAMAV_UNSCANNABLE": {Class: mail.ClassPolicy, Action: mail.Quarantine},

	// attachments.
	"ATTACHMENT_BLOCKED":    {Class: mail.ClassAttachment, Action: mail.Strip},
	"ATTACHMENT_LIMIT":      {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"ATTACHMENT_ENCRYPTED":  {Score: 2},
	"ATTACHMENT_UNREADABLE": {Score: 2},

	// heuristics: the header. Legitimate machines, old or simple, lack any of these.
	"MISSING_FROM":       {Score: 1},
	"FROM_DUPLICATE":     {Score: 1.5},
	"FROM_ILLEGAL_CHARS": {Score: 0.3},
	"MISSING_HEADERS":    {Score: 0.3},
	"MISSING_SUBJECT":    {Score: 0.5},
	"SUBJ_ILLEGAL_CHARS": {Score: 0.5},
	"MISSING_DATE":       {Score: 0.5},
	"INVALID_DATE":       {Score: 0.8},
	"MISSING_MID":        {Score: 0.3},
	"INVALID_MSGID":      {Score: 0.5},

	// heuristics: the body. Reports, receipts and invoices are often HTML alone.
	"EMPTY_MESSAGE":  {Score: 0.5},
	"MIME_HTML_ONLY": {Score: 0.1},

	// heuristics: the reader's oddities in headers.
	"HEADER_MBOX_LINE":      {},
	"HEADER_NO_COLON":       {Score: 0.3},
	"HEADER_NAME_EMPTY":     {Score: 0.5},
	"HEADER_NAME_MALFORMED": {Score: 0.3},
	"HEADER_SPACE_COLON":    {Score: 0.3},
	"HEADER_FOLD_FIRST":     {Score: 0.5},
	"HEADER_BLANK_FOLD":     {Score: 0.5},
	"HEADER_NUL":            {Score: 1},
	"HEADER_8BIT":           {},
	"HEADER_CONTROL":        {Score: 0.2},
	"HEADER_NONE":           {},
	"HEADER_UNENDED":        {},
	"HEADER_DUPLICATE":      {Score: 0.3},

	// heuristics: the reader's oddities in parts. List servers write behind the end.
	"MIME_BOUNDARY_MISSING":       {Score: 0.5},
	"MIME_BOUNDARY_EMPTY":         {Score: 0.5},
	"MIME_BOUNDARY_MALFORMED":     {Score: 0.3},
	"MIME_BOUNDARY_DUPLICATE":     {Score: 1},
	"MIME_BOUNDARY_UNSEEN":        {Score: 0.5},
	"MIME_BOUNDARY_INEXACT":       {Score: 0.5},
	"MIME_UNTERMINATED":           {Score: 0.2},
	"MIME_PREAMBLE_TEXT":          {},
	"MIME_EPILOGUE_TEXT":          {},
	"MIME_EPILOGUE_PART":          {Score: 1},
	"MIME_TYPE_MALFORMED":         {Score: 0.3},
	"MIME_PARAMETER_MALFORMED":    {Score: 0.1},
	"MIME_PARAMETER_DUPLICATE":    {Score: 0.5},
	"MIME_PARAMETER_ENCODED_WORD": {},
	"MIME_ENCODING_UNKNOWN":       {Score: 0.2},
	"MIME_ENCODING_MALFORMED":     {Score: 0.3},
	"MIME_ENCODED_MULTIPART":      {Score: 0.8},
	"MIME_ENCODED_MESSAGE":        {Score: 0.2},
	"MIME_BAD_BASE64":             {Score: 0.3},
	"MIME_BAD_QP":                 {Score: 0.1},

	// heuristics: what the reader did not look at in full is not known to be clean.
	"CONTENT_UNREADABLE":   {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"HEADER_LIMIT":         {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"MIME_DEPTH_LIMIT":     {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"MIME_PARTS_LIMIT":     {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"MIME_DECODE_LIMIT":    {Class: mail.ClassPolicy, Action: mail.Quarantine},
	"MIME_PARAMETER_LIMIT": {Class: mail.ClassPolicy, Action: mail.Quarantine},
}
