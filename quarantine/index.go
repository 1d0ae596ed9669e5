package quarantine

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"postern/gateway/mail"
	"postern/gateway/store"
)

// index is the database. It holds nothing that the sidecars do not.
type index struct{ db *store.DB }

const maxReleases = 1000 // of one entry

func openIndex(ctx context.Context, path string, readOnly bool) (index, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return index{}, err
	}
	db, err := store.Open(ctx, path, store.Options{
		Durability: store.Durable, ReadOnly: readOnly, Migrations: steps,
		Repair: "it is made anew from the files when postern serve starts",
	})
	if err != nil {
		return index{}, err
	}
	if readOnly {
		return index{db}, nil
	}
	if err := db.Check(ctx); err != nil {
		return index{}, errors.Join(err, db.Close())
	}
	return index{db}, nil
}

func (x index) close() error {
	if x.db == nil {
		return nil
	}
	return x.db.Close()
}

func (x index) complete(ctx context.Context) (done bool, err error) {
	err = x.db.Reader().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM complete)").Scan(&done)
	return done, x.db.Explain(err)
}

func (x index) setComplete(ctx context.Context, now time.Time) error {
	return x.db.Update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO complete (time) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM complete)", now.UnixMilli())
		return err
	})
}

func (x index) bytes(ctx context.Context) (n int64, err error) {
	err = x.db.Reader().QueryRowContext(ctx, "SELECT coalesce(sum(size), 0) FROM entries").Scan(&n)
	return n, x.db.Explain(err)
}

// insert adds entries, all or none.
func (x index) insert(ctx context.Context, entries ...Entry) error {
	return x.db.Update(ctx, func(tx *sql.Tx) error {
		for _, e := range entries {
			if err := insertOne(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func insertOne(ctx context.Context, tx *sql.Tx, e Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	sender, domain := key(e.Sender)
	result, err := tx.ExecContext(ctx, `INSERT INTO entries
		(id, message, time, sender, sender_domain, class, reason, size, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID, e.Message, e.Time.UnixMilli(), sender, domain, string(e.Class), strings.ToLower(e.Reason), e.Size, string(data))
	if err != nil {
		return err
	}
	n, err := result.LastInsertId()
	if err != nil {
		return err
	}
	stmt, err := tx.PrepareContext(ctx, "INSERT INTO recipients (entry, address, domain) VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, recipient := range e.Recipients {
		address, domain := key(recipient)
		if _, err := stmt.ExecContext(ctx, n, address, domain); err != nil {
			return err
		}
	}
	return nil
}

// key is an address and its domain as they are compared.
func key(address string) (all, domain string) {
	all = strings.ToLower(address)
	if at := strings.LastIndexByte(all, '@'); at >= 0 {
		domain = all[at+1:]
	}
	return all, domain
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (x index) get(ctx context.Context, id string) (Entry, error) {
	e, err := getFrom(ctx, x.db.Reader(), id)
	return e, x.db.Explain(err)
}

func getFrom(ctx context.Context, q queryer, id string) (e Entry, err error) {
	var data []byte
	err = q.QueryRowContext(ctx, "SELECT data FROM entries WHERE id = ?", id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return e, ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	return e, err
}

func (x index) has(ctx context.Context, id string) (found bool, err error) {
	err = x.db.Reader().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM entries WHERE id = ?)", id).Scan(&found)
	return found, x.db.Explain(err)
}

// idsOf are the entries that came from one message.
func (x index) idsOf(ctx context.Context, message string) ([]string, error) {
	var ids []string
	err := x.each(ctx, "SELECT id, size FROM entries WHERE message = ?", []any{message}, func(it item) { ids = append(ids, it.id) })
	return ids, err
}

// item is an entry that is to be deleted.
type item struct {
	id   string
	size int64
}

func (x index) each(ctx context.Context, query string, args []any, f func(item)) error {
	rows, err := x.db.Reader().QueryContext(ctx, query, args...)
	if err != nil {
		return x.db.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var it item
		if err := rows.Scan(&it.id, &it.size); err != nil {
			return x.db.Explain(err)
		}
		f(it)
	}
	return x.db.Explain(rows.Err())
}

// older are entries from before that time, the oldest first; "" is any class.
func (x index) older(ctx context.Context, class mail.Class, before time.Time, limit int) (items []item, err error) {
	query := "SELECT id, size FROM entries WHERE time < ? ORDER BY time LIMIT ?"
	args := []any{before.UnixMilli(), limit}
	if class != "" {
		query = "SELECT id, size FROM entries WHERE class = ? AND time < ? ORDER BY time LIMIT ?"
		args = slices.Insert(args, 0, any(string(class)))
	}
	err = x.each(ctx, query, args, func(it item) { items = append(items, it) })
	return items, err
}

// delete removes the rows, and returns those that were still there.
func (x index) delete(ctx context.Context, items []item) (deleted []item, err error) {
	err = x.db.Update(ctx, func(tx *sql.Tx) error {
		deleted = nil
		for _, it := range items {
			result, err := tx.ExecContext(ctx, "DELETE FROM entries WHERE id = ?", it.id)
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				deleted = append(deleted, it)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return deleted, nil
}

func (x index) release(ctx context.Context, id string, r Release) (e Entry, err error) {
	err = x.db.Update(ctx, func(tx *sql.Tx) error {
		if e, err = getFrom(ctx, tx, id); err != nil {
			return err
		}
		if len(e.Released) >= maxReleases {
			e.Released = slices.Delete(e.Released, 0, 1)
		}
		e.Released = append(e.Released, r)
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE entries SET data = ? WHERE id = ?", string(data), id)
		return err
	})
	return e, err
}

func (x index) usage(ctx context.Context) (map[mail.Class]Usage, error) {
	rows, err := x.db.Reader().QueryContext(ctx, "SELECT class, count(*), sum(size) FROM entries GROUP BY class")
	if err != nil {
		return nil, x.db.Explain(err)
	}
	defer rows.Close()
	usage := map[mail.Class]Usage{}
	for rows.Next() {
		var class mail.Class
		var u Usage
		if err := rows.Scan(&class, &u.Count, &u.Bytes); err != nil {
			return nil, x.db.Explain(err)
		}
		usage[class] = u
	}
	return usage, x.db.Explain(rows.Err())
}
