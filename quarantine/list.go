package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"postern/gateway/mail"
)

// Filter says which entries are listed; what is zero does not restrict. The case
// of texts does not matter.
type Filter struct {
	Recipient string // an address, or a domain with or without "@" before it
	Sender    string // likewise; "<>" is the null reverse-path
	Since     time.Time
	Until     time.Time // not included
	Class     mail.Class
	Reason    string // a class, or a part of the reason
	Limit     int    // 0 is 100; at most 10,000
}

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// List returns entries, the newest first. The list is never nil.
func (s *Store) List(ctx context.Context, f Filter) ([]Entry, error) {
	query, args := f.statement()
	rows, err := s.index.db.Reader().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", s.index.db.Explain(err))
	}
	defer rows.Close()
	entries := []Entry{}
	for rows.Next() {
		var data []byte
		var e Entry
		if err := rows.Scan(&data); err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", s.index.db.Explain(err))
		}
		if err := json.Unmarshal(data, &e); err != nil {
			s.Log.Warn("quarantine entry unreadable, skipped", "err", err)
			continue
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", s.index.db.Explain(err))
	}
	return entries, nil
}

func (f Filter) statement() (query string, args []any) {
	var where []string
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.Recipient != "" {
		column, value := mailbox(f.Recipient, "address", "domain")
		add("n IN (SELECT entry FROM recipients WHERE "+column+" = ?)", value)
	}
	if f.Sender != "" {
		column, value := mailbox(f.Sender, "sender", "sender_domain")
		add(column+" = ?", value)
	}
	if !f.Since.IsZero() {
		add("time >= ?", f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		add("time < ?", f.Until.UnixMilli())
	}
	if f.Class != "" {
		add("class = ?", strings.ToLower(string(f.Class)))
	}
	if f.Reason != "" {
		reason := strings.ToLower(f.Reason)
		add("(class = ? OR instr(reason, ?) > 0)", reason, reason)
	}
	query = "SELECT data FROM entries"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return query + " ORDER BY time DESC, n DESC LIMIT ?", append(args, min(limit, maxLimit))
}

// mailbox says which column a user's text is to be found in.
func mailbox(text, address, domain string) (column, value string) {
	value = strings.ToLower(strings.Trim(strings.TrimSpace(text), "<>"))
	switch {
	case strings.HasPrefix(value, "@"):
		return domain, value[1:]
	case value == "" || strings.Contains(value, "@") || !strings.Contains(value, "."):
		return address, value // a name without a dot is the bare postmaster
	}
	return domain, value
}
