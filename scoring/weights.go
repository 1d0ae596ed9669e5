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
}
