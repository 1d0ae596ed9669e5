package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"postern/gateway/mail"
)

// Search finds records, the newest first. Ids, addresses, domains and clients
// are found through an index; free words are looked for in each record of the
// time asked for, which takes about a second for each million.
func (s *Store) Search(ctx context.Context, q Query) ([]mail.Record, error) {
	found, err := s.search(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("search records: %w", s.db.Explain(err))
	}
	return found, nil
}

func (s *Store) search(ctx context.Context, q Query) ([]mail.Record, error) {
	// One transaction: what is found in the index must still be there to be read.
	tx, err := s.db.Reader().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	r := reader{ctx: ctx, tx: tx, store: s}
	if err := r.span(); err != nil || r.last == 0 {
		return []mail.Record{}, err
	}
	p := parse(q, s.Now().Location(), r.known)
	if !p.from.IsZero() {
		r.first = max(r.first, lowest(p.from))
	}
	if !p.to.IsZero() {
		r.last = min(r.last, lowest(p.to))
	}
	if r.err == nil {
		r.find(p)
	}
	return r.records, r.err
}

// reader is one search.
type reader struct {
	ctx         context.Context
	tx          *sql.Tx
	store       *Store
	first, last int64   // the numbers looked at: from first up to before last
	days        []int64 // those that have anything, the newest first
	records     []mail.Record
	err         error
}

// span finds the range of numbers in use, and the days. last stays 0 when there
// is nothing.
func (r *reader) span() error {
	var first, last sql.NullInt64
	err := r.tx.QueryRowContext(r.ctx, "SELECT (SELECT min(n) FROM records), (SELECT max(n) FROM records)").Scan(&first, &last)
	if err != nil || !last.Valid {
		return err
	}
	r.first, r.last = first.Int64, last.Int64+1
	stmt, err := r.tx.PrepareContext(r.ctx, "SELECT max(day) FROM terms WHERE day < ?")
	if err != nil {
		return err
	}
	defer stmt.Close()
	// From day to day rather than by counting: a clock that was wrong for a
	// moment leaves a day that is a century away.
	for next := (sql.NullInt64{Int64: day(r.last) + 1, Valid: true}); ; {
		if err := stmt.QueryRowContext(r.ctx, next.Int64).Scan(&next); err != nil || !next.Valid {
			return err
		}
		r.days = append(r.days, next.Int64)
	}
}

// known says whether a record has the term, asking the newest day first.
func (r *reader) known(t term) bool {
	stmt, err := r.tx.PrepareContext(r.ctx, "SELECT EXISTS (SELECT 1 FROM terms WHERE day = ? AND hash = ?)")
	if err != nil {
		r.fail(err)
		return false
	}
	defer stmt.Close()
	for _, d := range r.days {
		var found bool
		if r.fail(stmt.QueryRowContext(r.ctx, d, int64(t)).Scan(&found)); found || r.err != nil {
			return found
		}
	}
	return false
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// find reads the records that p asks for.
func (r *reader) find(p parsed) {
	r.records = []mail.Record{}
	query, args := statement(p)
	stmt, err := r.tx.PrepareContext(r.ctx, query)
	if err != nil {
		r.fail(err)
		return
	}
	defer stmt.Close()
	if len(p.terms) == 0 {
		r.read(stmt, append([]any{r.first, r.last}, append(args, p.limit)...))
		return
	}
	for _, d := range r.days {
		if len(r.records) >= p.limit || r.err != nil {
			return
		}
		r.read(stmt, append([]any{d, r.first, r.last}, append(slices.Clone(args), p.limit-len(r.records))...))
	}
}

// statement is the query for all the time (first, last, args, limit) or, where
// there are terms, for one day (day, first, last, args, limit).
func statement(p parsed) (query string, args []any) {
	// CROSS JOIN is in this order: what is small or sorted out first.
	var tables, where []string
	if len(p.terms) > 0 {
		tables, where = append(tables, "terms"), append(where, "terms.day = ?")
	}
	if len(p.words) > 0 {
		tables = append(tables, "words")
	}
	tables = append(tables, "records")
	from, number := tables[0], tables[0]+".n"
	for _, table := range tables[1:] {
		from += " CROSS JOIN " + table + " ON " + table + ".n = " + number
	}
	where = append(where, number+" >= ?", number+" < ?")
	for i, t := range p.terms {
		if i == 0 {
			where = append(where, "terms.hash = ?")
		} else {
			where = append(where, "EXISTS (SELECT 1 FROM terms u WHERE u.day = terms.day AND u.hash = ? AND u.n = terms.n)")
		}
		args = append(args, int64(t))
	}
	for _, word := range p.words {
		where, args = append(where, "instr(words.words, ?) > 0"), append(args, word)
	}
	return "SELECT records.data FROM " + from + " WHERE " + strings.Join(where, " AND ") +
		" ORDER BY " + number + " DESC LIMIT ?", args
}

func (r *reader) read(stmt *sql.Stmt, args []any) {
	rows, err := stmt.QueryContext(r.ctx, args...)
	if err != nil {
		r.fail(err)
		return
	}
	first := len(r.records)
	for rows.Next() {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			r.fail(err)
			break
		}
		if rec, ok := r.decode(data); ok {
			r.records = append(r.records, rec)
		}
	}
	r.fail(rows.Err())
	r.fail(rows.Close())
	for i := range r.records[first:] {
		r.deliveries(&r.records[first+i])
	}
}

// decode reads a record. One that can't be read must not hide the others.
func (r *reader) decode(data []byte) (rec mail.Record, ok bool) {
	if err := json.Unmarshal(data, &rec); err != nil {
		r.store.unreadableOnce.Do(func() { r.store.Log.Warn("record unreadable, skipped", "err", err) })
		return rec, false
	}
	if rec.Recipients == nil {
		rec.Recipients = []string{}
	}
	if rec.Hits == nil {
		rec.Hits = []mail.Hit{}
	}
	if rec.Deliveries == nil {
		rec.Deliveries = []mail.Delivery{}
	}
	return rec, true
}

// deliveries adds the later attempts, in the order of time.
func (r *reader) deliveries(rec *mail.Record) {
	rows, err := r.tx.QueryContext(r.ctx, "SELECT data FROM deliveries WHERE id = ? ORDER BY n LIMIT ?", rec.ID, maxRecipients)
	if err != nil {
		r.fail(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var data sql.RawBytes
		var d mail.Delivery
		if err := rows.Scan(&data); err != nil {
			r.fail(err)
			return
		}
		if err := json.Unmarshal(data, &d); err == nil {
			rec.Deliveries = append(rec.Deliveries, d)
		}
	}
	r.fail(rows.Err())
}
