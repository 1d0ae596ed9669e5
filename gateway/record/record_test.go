package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/gateway/mail"
	"postern/gateway/store"
)

func openAt(t testing.TB, path string, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	if _, err := Open(t.Context(), path, Config{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	w := openAt(t, path, Config{})
	add(t, w, mail.Record{ID: "one", Time: noon})
	r := openAt(t, path, Config{ReadOnly: true})
	add(t, w, mail.Record{ID: "two", Time: noon.Add(time.Second)})
	if got := ids(t, r, Query{}); got != "two one" {
		t.Errorf("got %q", got)
	}
	r.Observe(t.Context(), mail.Record{ID: "lost"})
	if st := r.Stats(); st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
}

func TestClosed(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{})
	s.Observe(t.Context(), mail.Record{ID: "last", Time: noon})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Observe(t.Context(), mail.Record{ID: "late"})
	if err := s.Flush(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("flush: %v", err)
	}
	if st := s.Stats(); st.Written != 1 || st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
	s = openAt(t, s.db.Path(), Config{})
	if got := ids(t, s, Query{}); got != "last" {
		t.Errorf("got %q", got)
	}
}

func TestQueueFull(t *testing.T) {
	s := &Store{queue: make(chan item, 2)}
	s.stopped, s.stop = context.WithCancel(t.Context())
	for range 3 {
		s.Observe(t.Context(), mail.Record{})
	}
	if st := s.Stats(); st.Queued != 2 || st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
}

func TestFlushCancelled(t *testing.T) {
	s := &Store{flush: make(chan chan struct{})}
	s.stopped, s.stop = context.WithCancel(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Without a Flush a record is there after a moment.
func TestWrittenSoon(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{})
	s.Observe(t.Context(), mail.Record{ID: "soon", Time: noon})
	for began := time.Now(); ids(t, s, Query{Text: "soon"}) == ""; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("not written")
		}
	}
}

// The numbers of two processes may meet: only a number is changed then.
func TestSameNumber(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{})
	add(t, s, mail.Record{ID: "one", Time: noon})
	s.serial-- // the writer waits for its next item
	add(t, s, mail.Record{ID: "two", Time: noon}, mail.Record{ID: "three", Time: noon})
	if found, err := s.Search(t.Context(), Query{}); err != nil || len(found) != 3 {
		t.Errorf("%d records, %v", len(found), err)
	}
}

func TestDiskFull(t *testing.T) {
	var log bytes.Buffer
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := s.db.Writer().Exec("PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var list []mail.Record
		for i := range 50 {
			list = append(list, sample(i, noon))
		}
		add(t, s, list...)
	}
	if st := s.Stats(); st.Dropped < 100 {
		t.Errorf("%+v", st)
	}
	if n := strings.Count(log.String(), "records lost"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}
	if _, err := s.db.Writer().Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	add(t, s, mail.Record{ID: "after", Time: noon.Add(time.Hour)})
	if got := ids(t, s, Query{Limit: 1}); got != "after" {
		t.Errorf("got %q", got)
	}
}

func TestUnreadableRecord(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{})
	add(t, s, mail.Record{ID: "one", Time: noon}, mail.Record{ID: "two", Time: noon.Add(time.Second)})
	if _, err := s.db.Writer().Exec("UPDATE records SET data = '{broken' WHERE data LIKE '%two%'"); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, s, Query{}); got != "one" {
		t.Errorf("got %q", got)
	}
}

func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, Config{})
	if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move the file away") {
		t.Errorf("got %v", err)
	}
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "records.db"), Config{})
	s.Observe(t.Context(), mail.Record{ID: "queued", Time: noon})
	if err := s.Backup(t.Context(), filepath.Join(dir, "copy.db")); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, openAt(t, filepath.Join(dir, "copy.db"), Config{}), Query{}); got != "queued" {
		t.Errorf("got %q", got)
	}
}

// The searches that are asked daily must go through the index, at any size.
func TestSearchPlans(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "records.db"), Config{})
	for name, p := range map[string]parsed{
		"term": {terms: []term{1}}, "two terms": {terms: []term{1, 2}}, "term and word": {terms: []term{1}, words: []string{"x"}}, "word": {words: []string{"x"}}, "time": {},
	} {
		query, args := statement(p)
		all := []any{int64(0), int64(1)}
		if len(p.terms) > 0 {
			all = append(all, int64(2))
		}
		rows, err := s.db.Reader().Query("EXPLAIN QUERY PLAN "+query, append(append(all, args...), 10)...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var a, b, c int
			var step string
			if err := rows.Scan(&a, &b, &c, &step); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s: %s\n%s", name, step, query)
			}
		}
		rows.Close()
	}
}

func TestExpireHourly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), path, Config{Keep: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Observe(t.Context(), mail.Record{ID: "old", Time: time.Now().Add(-2 * time.Hour)})
		s.Observe(t.Context(), mail.Record{ID: "young", Time: time.Now()})
		time.Sleep(expireFirst + time.Second)
		synctest.Wait()
		if got := ids(t, s, Query{}); got != "young" {
			t.Errorf("after the first pass: %q", got)
		}
		time.Sleep(expireEvery)
		synctest.Wait()
		if got := ids(t, s, Query{}); got != "" {
			t.Errorf("after the second pass: %q", got)
		}
	})
}

func TestSumWrittenAfterItsMinute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range sumAfter + 3 {
			s.Refusal(mail.Record{ID: fmt.Sprint("r", i), Time: time.Now(), Client: "192.0.2.1", Reason: "x"})
		}
		time.Sleep(sumPeriod + 2*sumCheck)
		synctest.Wait()
		found, err := s.Search(t.Context(), Query{})
		if err != nil || len(found) != sumAfter+1 {
			t.Fatalf("%d records, %v", len(found), err)
		}
		if sum := found[0]; sum.Count != 3 {
			t.Errorf("%+v", sum)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, text := range []string{"", "2026-11-22 14", "2026-11-22T14:03:07.5+01:00", "<a@b.example>", "@b.example", "[IPv6:::1]", "550 5.7.1 id abc", "a\x00\xff", "%_'\""} {
		f.Add(text)
	}
	s := openAt(f, filepath.Join(f.TempDir(), "records.db"), Config{})
	s.Observe(context.Background(), sample(1, noon))
	if err := s.Flush(context.Background()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := s.Search(context.Background(), Query{Text: text}); err != nil {
			t.Error(err)
		}
	})
}
