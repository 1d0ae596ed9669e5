package clamav

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"postern/filters/engine"
	"postern/gateway/mail"
)

// errReply says that clamd answered something that is no reply to the command.
var errReply = errors.New("reply not understood")

// maxEvidence bounds a signature's name, in octets.
const maxEvidence = 256

// answer is what clamd says of a message. The zero answer is that nothing was
// found.
type answer struct {
	symbol      string
	description string
	evidence    string
	fault       mail.Fault
}

// final says that clamd need not have seen all of the message for this answer.
func (a answer) final() bool { return a.symbol != "" }

// results is the answer as facts.
func (a answer) results() []mail.Result {
	if a.symbol == "" {
		return nil
	}
	r := mail.Result{Symbol: a.symbol, Description: a.description, Evidence: a.evidence, Fault: a.fault}
	if a.fault != mail.FaultNone {
		r.Err = fmt.Errorf("clamd: %s", a.evidence)
	}
	return []mail.Result{r}
}

func unscannable(err error) mail.Result {
	return mail.Result{
		Symbol:      "CLAMAV_UNSCANNABLE",
		Description: "clamd can't scan this message",
		Fault:       mail.FaultMessage,
		Err:         err,
	}
}

// parse reads a reply to INSTREAM. Whatever it does not know is an error: a
// reply that isn't understood never means that nothing was found.
func parse(reply string) (answer, error) {
	text, ofStream := strings.CutPrefix(reply, "stream: ")
	if ofStream && text == "OK" {
		return answer{}, nil
	}
	if name, ok := strings.CutSuffix(text, " FOUND"); ok && ofStream && name != "" {
		return found(name), nil
	}
	if text, ok := strings.CutSuffix(text, " ERROR"); ok && text != "" {
		return failure(text)
	}
	return answer{}, fmt.Errorf("clamd: %w: %q", errReply, reply[:min(len(reply), maxEvidence)])
}

// failures tells clamd's errors about a message from those about itself. All
// others are its own: a full disk, a missing file.
var failures = []struct {
	text   string // within the reply
	answer answer
}{
	{"INSTREAM size limit exceeded", limit("the message is longer than clamd's StreamMaxLength")},
	{"Exceeded max ", limit("the message is over clamd's limits")},
	{"Exceeded time limit", limit("the message is over clamd's limits")},
	{"Bad format or broken data", broken},
	{"Can't parse data", broken},
	{"Can't unpack some data", broken},
}

var broken = answer{symbol: "CLAMAV_UNSCANNABLE", description: "clamd can't read this message", fault: mail.FaultMessage}

func limit(description string) answer {
	return answer{symbol: "CLAMAV_LIMIT", description: description, fault: mail.FaultMessage}
}

// failure reads an error reply.
func failure(text string) (answer, error) {
	for _, f := range failures {
		if strings.Contains(text, f.text) {
			a := f.answer
			a.evidence = printable(text)
			return a, nil
		}
	}
	if strings.Contains(text, "Can't allocate memory") {
		// Either it has none, or the message takes it all: the next time tells.
		return answer{}, fmt.Errorf("clamd: %w: %s", engine.ErrOnMessage, printable(text))
	}
	return answer{}, fmt.Errorf("clamd: %s", printable(text))
}

// details is what clamd adds to a name where ExtendedDetectionInfo is on: digest
// and length of the file. It would make every finding another signature.
var details = regexp.MustCompile(`\([0-9a-f]{32,64}:[0-9]+\)$`)

// found says what kind of signature matched. The name's end says whose it is,
// its beginning what it is; the latter is what weights differ by.
func found(name string) answer {
	name = details.ReplaceAllString(name, "")
	a := answer{evidence: printable(name)}
	switch {
	case testFile(name):
		// An admin proves the engine with it, and often out of a database of
		// his own: it has to act as the real thing would.
		a.symbol, a.description = "CLAMAV_VIRUS", "ClamAV found a test file for virus scanners"
	case strings.HasPrefix(name, "Heuristics.Limits.Exceeded") && !strings.HasSuffix(name, ".UNOFFICIAL"):
		a.symbol, a.description = "CLAMAV_LIMIT", "the message is over clamd's limits and was scanned in part"
		a.fault = mail.FaultMessage
	case strings.HasPrefix(name, "Heuristics."):
		a.symbol, a.description = "CLAMAV_HEURISTIC", "ClamAV finds the message suspicious by its form"
	case strings.HasPrefix(name, "PUA."):
		a.symbol, a.description = "CLAMAV_PUA", "ClamAV found a potentially unwanted application"
	case strings.HasSuffix(name, ".UNOFFICIAL"):
		a.symbol, a.description = "CLAMAV_UNOFFICIAL", "a signature that is not ClamAV's own matched"
	default:
		a.symbol, a.description = "CLAMAV_VIRUS", "ClamAV found malware"
	}
	return a
}

// testFile says whether a signature is one for the harmless files that virus
// scanners are tested with.
func testFile(name string) bool {
	name = strings.ToLower(name)
	for _, mark := range []string{"eicar", "test-file", "test.file", "testfile"} {
		if strings.Contains(name, mark) {
			return true
		}
	}
	return false
}

// printable is s, bounded, as it may stand in a log.
func printable(s string) string {
	s = s[:min(len(s), maxEvidence)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// signatureDate is the date in the reply to VERSION. clamd writes it in its own
// time zone, which is taken to be ours.
func signatureDate(version string) (time.Time, bool) {
	parts := strings.SplitN(version, "/", 3)
	if len(parts) < 3 {
		return time.Time{}, false
	}
	date, err := time.ParseInLocation(time.ANSIC, parts[2], time.Local)
	return date, err == nil
}
