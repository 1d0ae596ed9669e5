package spamassassin

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"postern/filters/engine"
	"postern/gateway/mail"
)

// errResponse says that spamd answered something that is no response.
var errResponse = errors.New("response not understood")

// Limits of a response.
const (
	maxResponse = 256 << 10 // octets
	maxLine     = 4096      // octets of the status line
	maxRules    = 1000
	maxText     = 512 // octets of a description
)

// tolerance is how far the sum of the rules may be from the total before the
// rest is reported. Each line of a report is rounded to a tenth of a point.
const tolerance = 0.3

// maxPoints bounds what a report may say of one rule: 1000 is GTUBE.
const maxPoints = 100_000

// answer is what spamd says of a message.
type answer struct {
	total   float64
	rules   []rule
	refused error // it is the message that spamd can't judge
}

// rule is one line of the report.
type rule struct {
	name   string
	points float64
	text   string
}

// results is the answer as facts, in the report's order.
func (a answer) results() []mail.Result {
	results := make([]mail.Result, 0, len(a.rules)+1)
	rest := a.total
	for _, r := range a.rules {
		rest -= r.points
		results = append(results, mail.Result{
			Symbol: r.name, Points: r.points, HasPoints: true, Description: r.text,
		})
	}
	if math.Abs(rest) > tolerance+1e-9 || len(a.rules) == 0 && a.total != 0 {
		results = append(results, mail.Result{
			Symbol: "SPAMASSASSIN_SCORE", Points: tenth(rest), HasPoints: true,
			Description: "what SpamAssassin counted beyond the rules that it named",
		})
	}
	return results
}

// forget takes a rule and its points out of the answer.
func (a *answer) forget(name string) {
	for i, r := range a.rules {
		if r.name == name {
			a.total -= r.points
			a.rules = append(a.rules[:i], a.rules[i+1:]...)
			return
		}
	}
}

// readResponse reads up to the end of the connection.
func readResponse(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxResponse+1))
	switch {
	case err != nil && len(b) == 0:
		return "", err
	case err != nil:
		return "", fmt.Errorf("response cut short: %w", err)
	case len(b) > maxResponse:
		return "", fmt.Errorf("%w: over %d octets", errResponse, maxResponse)
	case len(b) == 0:
		return "", io.ErrUnexpectedEOF
	}
	return string(b), nil
}

// parse reads a response. The head is read strictly, since everything hangs on
// it; the report's form is the administrator's, and is read as far as it goes.
func parse(response string) (answer, error) {
	head, body, ok := strings.Cut(response, "\r\n\r\n")
	line, fields, _ := strings.Cut(head, "\r\n")
	code, text, isStatus := status(line)
	switch {
	case !isStatus:
		return answer{}, fmt.Errorf("spamd: %w: %q", errResponse, clip(line))
	case code == exDataErr:
		return answer{refused: fmt.Errorf("spamd: %d %s", code, text)}, nil
	case code == exTimeout:
		return answer{}, fmt.Errorf("spamd: %w: %d %s", engine.ErrOnMessage, code, text)
	case code != 0:
		return answer{}, fmt.Errorf("spamd: %d %s", code, text)
	case !ok:
		return answer{}, fmt.Errorf("spamd: response cut short: %w", io.ErrUnexpectedEOF)
	}
	if n, err := strconv.Atoi(field(fields, "Content-length")); err == nil && len(body) < n {
		return answer{}, fmt.Errorf("spamd: response cut short: %w", io.ErrUnexpectedEOF)
	}
	total, err := spam(field(fields, "Spam"))
	if err != nil {
		return answer{}, err
	}
	return answer{total: total, rules: report(body)}, nil
}

// exDataErr is EX_DATAERR of sysexits: the input was at fault. exTimeout is
// spamd's own addition: its child took too long with the message. All other
// codes are spamd's troubles.
const (
	exDataErr = 65
	exTimeout = 79
)

var statusLine = regexp.MustCompile(`^SPAMD/[0-9]+\.[0-9]+ ([0-9]{1,5}) (.*)$`)

// status reads "SPAMD/1.5 0 EX_OK".
func status(line string) (code int, text string, ok bool) {
	parts := statusLine.FindStringSubmatch(line)
	if parts == nil {
		return 0, "", false
	}
	code, err := strconv.Atoi(parts[1])
	return code, clip(parts[2]), err == nil
}

// field is the value of a field of the response's head.
func field(fields, name string) string {
	for line := range strings.SplitSeq(fields, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

var spamField = regexp.MustCompile(`^(?i:true|false|yes|no) ; (-?[0-9]+(?:\.[0-9]+)?) / -?[0-9]+(?:\.[0-9]+)?$`)

// spam reads the total out of "True ; 7.4 / 5.0".
func spam(value string) (float64, error) {
	parts := spamField.FindStringSubmatch(value)
	if parts == nil {
		return 0, fmt.Errorf("spamd: %w: Spam: %q", errResponse, clip(value))
	}
	return points(parts[1])
}

// points reads a number of points.
func points(s string) (float64, error) {
	p, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(p) > maxPoints {
		return 0, fmt.Errorf("spamd: %w: %q points", errResponse, clip(s))
	}
	return p + 0, nil // -0 becomes 0
}

var (
	separator    = regexp.MustCompile(`^ ?-{2,}[ -]* -{2,}\s*$`)
	ruleLine     = regexp.MustCompile(`^[ *]*(-?[0-9]+(?:\.[0-9]+)?) +([A-Za-z_][A-Za-z0-9_]{0,127})(?: +(.*))?$`)
	continuation = regexp.MustCompile(`^[ *]* {20,}(\S.*)$`)
)

// report reads the table of rules. It begins after the last line that looks like
// the one under its head: what stands before it quotes the message, and a sender
// might write a table of his own into that.
func report(body string) []rule {
	lines := strings.Split(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
	start := 0
	for i, line := range lines {
		if separator.MatchString(line) {
			start = i + 1
		}
	}
	if start == 0 {
		return nil
	}
	var rules []rule
	for _, line := range lines[start:] {
		if len(rules) == maxRules {
			break
		}
		if r, ok := parseRule(line); ok {
			rules = append(rules, r)
		} else if more := continuation.FindStringSubmatch(line); more != nil && len(rules) > 0 {
			last := &rules[len(rules)-1]
			last.text = clip(last.text + " " + more[1])
		}
	}
	return rules
}

// parseRule reads " 2.7 MISSING_DATE           Missing Date: header".
func parseRule(line string) (rule, bool) {
	parts := ruleLine.FindStringSubmatch(line)
	if parts == nil {
		return rule{}, false
	}
	p, err := points(parts[1])
	if err != nil {
		return rule{}, false
	}
	return rule{name: parts[2], points: p, text: clip(parts[3])}, true
}

// clip bounds a text and makes it fit for a log.
func clip(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s))
}

func tenth(p float64) float64 { return math.Round(p*10) / 10 }
