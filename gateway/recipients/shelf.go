package recipients

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"
	"time"

	"postern/gateway/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Table is a Shelf in a database of its own.
type Table struct{ db *store.DB }

var _ Shelf = Table{}

// OpenTable opens the database at path, or makes it.
func OpenTable(ctx context.Context, path string) (Table, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return Table{}, err
	}
	db, err := store.Open(ctx, path, store.Options{
		Durability: store.History, Migrations: steps,
		Repair: "stop Postern and remove the file: recipients are then asked for again",
	})
	return Table{db}, err
}

// Backup copies the database to path while it is in use.
func (t Table) Backup(ctx context.Context, path string) error { return t.db.Backup(ctx, path) }

// Close closes the database.
func (t Table) Close() error { return t.db.Close() }

// Load implements Shelf.
func (t Table) Load(ctx context.Context, since time.Time) (map[string]time.Time, error) {
	rows, err := t.db.Reader().QueryContext(ctx, `SELECT address, confirmed FROM recipients WHERE confirmed >= ?`, since.Unix())
	if err != nil {
		return nil, t.db.Explain(err)
	}
	defer rows.Close()
	known := map[string]time.Time{}
	for rows.Next() {
		var address string
		var confirmed int64
		if err := rows.Scan(&address, &confirmed); err != nil {
			return nil, t.db.Explain(err)
		}
		known[address] = time.Unix(confirmed, 0)
	}
	return known, t.db.Explain(rows.Err())
}

// Save implements Shelf. The zero time takes an address away.
func (t Table) Save(ctx context.Context, confirmed map[string]time.Time) error {
	return t.db.Update(ctx, func(tx *sql.Tx) error {
		for address, at := range confirmed {
			var err error
			if at.IsZero() {
				_, err = tx.ExecContext(ctx, `DELETE FROM recipients WHERE address = ?`, address)
			} else {
				_, err = tx.ExecContext(ctx, `INSERT INTO recipients (address, confirmed) VALUES (?, ?)
					ON CONFLICT (address) DO UPDATE SET confirmed = excluded.confirmed`, address, at.Unix())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget implements Shelf.
func (t Table) Forget(ctx context.Context, before time.Time) error {
	return t.db.Update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM recipients WHERE confirmed < ?`, before.Unix())
		return err
	})
}
