package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/house"
	"postern/cmd/postern/mailbox"
	"postern/cmd/postern/screen"
	"postern/gateway/mail"
)

type scanCommand struct {
	JSON     bool     `help:"One JSON object a line."`
	Local    bool     `help:"Ask no network and no daemon."`
	ClientIP string   `help:"The address that the message is taken to come from." placeholder:"IP"`
	HELO     string   `help:"What that client is taken to have said to EHLO." name:"helo" placeholder:"NAME"`
	From     string   `help:"The reverse-path." placeholder:"ADDR"`
	Rcpt     []string `help:"A recipient; may stand several times." placeholder:"ADDR"`
	Paths    []string `arg:"" name:"path" help:"Files, folders, mailboxes (mbox), or - for standard input."`
}

// Help is shown by --help.
func (scanCommand) Help() string {
	return `Judges messages as the gateway would, and delivers nothing. Without a configuration the
defaults hold. Exits with 2 when a message could not be read.

Examples:
  postern scan suspicious.eml
  postern scan --json --local maildir/new | jq .score
  postern scan --client-ip 198.51.100.7 --from a@example.net --rcpt anna@example.com - < message.eml`
}

// scanned is what became of one message.
type scanned struct {
	path    string
	message *mail.Message
	results []mail.Result
	verdict mail.Verdict
	elapsed time.Duration
	err     error
}

// Run judges each message, several at once, and writes the results in the order
// in which they were given.
func (q scanCommand) Run(ctx context.Context, c *commands, t terminal) error {
	p, err := q.policy(c)
	if err != nil {
		return err
	}
	template, err := q.envelope()
	if err != nil {
		return err
	}
	pending := make(chan chan scanned, 2*runtime.NumCPU())
	go func() {
		defer close(pending)
		for path, content := range mailbox.Messages(q.Paths, t.in) {
			result := make(chan scanned, 1)
			pending <- result
			go func() { result <- judgeFile(ctx, p, path, content, template) }()
		}
	}()
	unread := 0
	for result := range pending {
		s := <-result
		if s.err != nil {
			unread++
			fmt.Fprintln(t.err, "postern:", s.err)
			continue
		}
		if err := q.write(t.out, s); err != nil {
			return err
		}
	}
	if unread > 0 {
		return exitError(2)
	}
	return nil
}

// policy is the configuration's, or the default where there is none.
func (q scanCommand) policy(c *commands) (*house.Policy, error) {
	cfg, err := load(c.Config)
	if errors.Is(err, os.ErrNotExist) {
		cfg, err = config.Default(), nil
		cfg.Hostname = "localhost"
	}
	if err != nil {
		return nil, err
	}
	if q.Local {
		cfg.Filters.ClamAV.Address, cfg.Filters.SpamAssassin.Address = "", ""
	}
	return house.NewPolicy(cfg, slog.New(slog.DiscardHandler))
}

// envelope is what all messages are taken to have come with.
func (q scanCommand) envelope() (m mail.Message, err error) {
	if q.ClientIP != "" {
		ip, err := netip.ParseAddr(q.ClientIP)
		if err != nil {
			return m, fmt.Errorf("--client-ip %q is no IP address", q.ClientIP)
		}
		m.Client.Addr = netip.AddrPortFrom(ip, 0)
	}
	m.Client.HELO, m.Client.ESMTP = q.HELO, true
	from := strings.TrimSuffix(strings.TrimPrefix(q.From, "<"), ">") // "<>" is the null reverse-path
	if m.Envelope.ReversePath, err = mail.ParseAddress(from); err != nil {
		return m, fmt.Errorf("--from %q: %w", q.From, err)
	}
	for _, text := range q.Rcpt {
		rcpt, err := mail.ParseAddress(text)
		if err != nil || rcpt.IsZero() {
			return m, fmt.Errorf("--rcpt %q is no mail address", text)
		}
		m.Envelope.Recipients = append(m.Envelope.Recipients, rcpt)
	}
	return m, nil
}

func judgeFile(ctx context.Context, p *house.Policy, path string, f mailbox.File, template mail.Message) scanned {
	if f.Err != nil {
		return scanned{path: path, err: f.Err}
	}
	m := template
	started := time.Now()
	m.ID, m.Received, m.Content = mail.NewID(started), started, mail.Bytes(f.Content)
	m.Parse(mail.DefaultLimits)
	s := scanned{path: path, message: &m, results: p.Inspect(ctx, &m, nil)}
	for _, v := range p.Judge(s.results, m.Envelope.Recipients) {
		if s.verdict.Hits == nil || v.Action > s.verdict.Action {
			s.verdict = v
		}
	}
	s.elapsed = time.Since(started)
	return s
}

// scanJSON is one result (CONTRACT, section 5).
type scanJSON struct {
	Path        string            `json:"path"`
	ID          string            `json:"id"`
	Action      mail.Action       `json:"action"`
	Score       float64           `json:"score"`
	Required    float64           `json:"required"`
	Hits        []mail.Hit        `json:"hits"`
	Attachments []mail.Attachment `json:"attachments"`
	Auth        map[string]string `json:"auth"`
	Unscanned   []string          `json:"unscanned,omitempty"`
	ElapsedMS   float64           `json:"elapsed_ms"`
}

func (q scanCommand) write(w io.Writer, s scanned) error {
	if !q.JSON {
		return s.explain(w)
	}
	v := scanJSON{
		Path: s.path, ID: s.message.ID, Action: s.verdict.Action, Score: s.verdict.Score, Required: s.verdict.Required,
		Hits: s.verdict.Hits, Attachments: attachmentsIn(s.results), Auth: authentication(s.results),
		Unscanned: s.verdict.Unscanned, ElapsedMS: float64(s.elapsed.Microseconds()) / 1000,
	}
	if v.Hits == nil {
		v.Hits = []mail.Hit{}
	}
	return screen.WriteJSON(w, []scanJSON{v})
}

// attachmentsIn lists the attachments that the filters saw, each once: the fact
// that one is blocked says more than that it is there.
func attachmentsIn(results []mail.Result) []mail.Attachment {
	list, at := []mail.Attachment{}, map[string]int{}
	for _, r := range results {
		if r.Attachment == nil {
			continue
		}
		i, seen := at[r.Attachment.Path]
		switch {
		case !seen:
			at[r.Attachment.Path] = len(list)
			list = append(list, *r.Attachment)
		case r.Attachment.Blocked:
			list[i] = *r.Attachment
		}
	}
	return list
}

// authentication is what RFC 8601's methods said; "none" where one was not
// tried.
func authentication(results []mail.Result) map[string]string {
	auth := map[string]string{"spf": "none", "dkim": "none", "dmarc": "none", "arc": "none"}
	for _, r := range results {
		if method, value, has := strings.Cut(strings.ToLower(r.Symbol), "_"); has && r.Filter == "mailauth" {
			if _, known := auth[method]; known {
				auth[method] = value
			}
		}
	}
	return auth
}

// explain says the verdict and why, for people.
func (s scanned) explain(w io.Writer) error {
	v := s.verdict
	fmt.Fprintf(w, "%s: %s, score %.1f of %.1f%s\n", screen.Harmless(s.path), v.Action, v.Score, v.Required, reasonText(v))
	rows := screen.Table{}
	for _, h := range v.Hits {
		rows = append(rows, []string{"", fmt.Sprintf("%+5.1f", h.Score), h.Symbol, because(h)})
	}
	for _, a := range attachmentsIn(s.results) {
		what := fmt.Sprintf("%s, %s", a.TrueType, screen.Octets(a.Size))
		if a.Blocked {
			what += ", blocked: " + a.Reason
		}
		rows = append(rows, []string{"", "file", a.Path, a.Name + " (" + what + ")"})
	}
	for _, engine := range v.Unscanned {
		rows = append(rows, []string{"", "?", engine, "could not be asked"})
	}
	return rows.Write(w)
}

func reasonText(v mail.Verdict) string {
	if v.Reason == "" {
		return ""
	}
	return " (" + screen.Harmless(v.Reason) + ")"
}
