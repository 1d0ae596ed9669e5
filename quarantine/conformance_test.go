package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

// keeper is what a back end for the quarantine must do; conformance holds it to
// that.
type keeper interface {
	Put(ctx context.Context, e Entry, c mail.Content) (string, error)
	Get(ctx context.Context, id string) (Entry, error)
	Open(ctx context.Context, id string) (mail.Content, io.Closer, error)
	List(ctx context.Context, f Filter) ([]Entry, error)
	Delete(ctx context.Context, id string) error
	MarkReleased(ctx context.Context, id string, r Release) error
	Expire(ctx context.Context) (int, error)
	Stats(ctx context.Context) (map[mail.Class]Usage, error)
}

const day = 24 * time.Hour

// clockAt is a clock that tests move.
type clockAt struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clockAt) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clockAt) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// alerts collects what the admin is told.
type alerts struct {
	mu   sync.Mutex
	keys []string
}

func (a *alerts) add(key, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append(a.keys, key)
}

func (a *alerts) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.keys, " ")
}

// fixture is an open back end of 30 days and 1000 octets.
type fixture struct {
	keeper
	clock  *clockAt
	alerts *alerts
}

func TestStore(t *testing.T) {
	conformance(t, func(t *testing.T) fixture {
		f := fixture{clock: &clockAt{now: time.Now()}, alerts: &alerts{}}
		f.keeper = openStore(t, Config{Dir: t.TempDir(), Size: 1000, Now: f.clock.Now, Alert: f.alerts.add})
		return f
	})
}

func openStore(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func conformance(t *testing.T, open func(*testing.T) fixture) {
	for name, test := range map[string]func(*testing.T, fixture){
		"round trip": testRoundTrip, "list": testList, "ids": testIDs, "not found": testNotFound,
		"release": testRelease, "hostile": testHostile, "expire": testExpire, "size": testSize,
		"size order": testSizeOrder, "warning": testWarning, "at once": testAtOnce, "cancelled": testCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is the disk's
			test(t, open(t))
		})
	}
}

func put(t *testing.T, k keeper, e Entry, content string) string {
	t.Helper()
	id, err := k.Put(t.Context(), e, mail.Bytes(content))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func read(t *testing.T, k keeper, id string) string {
	t.Helper()
	c, closer, err := k.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func list(t *testing.T, k keeper, f Filter) string {
	t.Helper()
	entries, err := k.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if entries == nil {
		t.Error("a list that is nil")
	}
	ids := []string{}
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return strings.Join(ids, " ")
}

func testRoundTrip(t *testing.T, f fixture) {
	want := Entry{
		Message: "m1", Time: f.clock.Now().UTC().Round(0), Sender: "a@sender.example", Recipients: []string{"b@example.com", "ü@example.com"},
		Subject: "Grüße", Class: mail.ClassSpam, Reason: "score 9.1", Symbols: []string{"GTUBE", "X"}, Score: 9.1, Unscanned: []string{"clamav"},
		SMTPUTF8: true, EightBit: true, Client: "192.0.2.1", HELO: "mx.sender.example",
	}
	content := "Subject: x\r\n\r\nbare\nand\x00binary\xff, no end of line"
	id := put(t, f, want, content)
	if got := read(t, f, id); got != content {
		t.Errorf("content %q", got)
	}
	got, err := f.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want.ID, want.Size, want.SHA256 = "m1", int64(len(content)), got.SHA256
	if diff := cmp.Diff(want, got); diff != "" || len(got.SHA256) != 64 {
		t.Error(diff)
	}
	if id := put(t, f, Entry{Message: "empty"}, ""); read(t, f, id) != "" {
		t.Error("an empty message is not empty")
	}
	if e, err := f.Get(t.Context(), "empty"); err != nil || e.Recipients == nil || e.Symbols == nil || !e.Time.Equal(f.clock.Now()) {
		t.Errorf("%+v, %v", e, err)
	}
}

func testList(t *testing.T, f fixture) {
	at := func(h int) time.Time { return f.clock.Now().Add(time.Duration(h) * time.Hour) }
	put(t, f, Entry{Message: "a", Time: at(-4), Sender: "Ann@One.example", Recipients: []string{"bob@example.com", "eve@example.com"}, Class: mail.ClassSpam, Reason: "score 9.1 of 8.0"}, "x")
	put(t, f, Entry{Message: "b", Time: at(-3), Sender: "", Recipients: []string{"Bob@Example.com"}, Class: mail.ClassVirus, Reason: "CLAMAV_VIRUS"}, "x")
	put(t, f, Entry{Message: "c", Time: at(-2), Sender: "carl@two.example", Recipients: []string{"postmaster"}, Class: mail.ClassAttachment, Reason: "invoice.exe"}, "x")
	put(t, f, Entry{Message: "d", Time: at(-2), Sender: "ann@one.example", Recipients: []string{"eve@sub.example.com"}, Class: mail.ClassUndeliverable, Reason: "550 5.1.1 no such user"}, "x")
	for _, tt := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "d c b a"},
		{Filter{Limit: 2}, "d c"},
		{Filter{Recipient: "BOB@example.com"}, "b a"},
		{Filter{Recipient: "<bob@example.com>"}, "b a"},
		{Filter{Recipient: "example.com"}, "b a"},
		{Filter{Recipient: "@EXAMPLE.com"}, "b a"},
		{Filter{Recipient: "@sub.example.com"}, "d"},
		{Filter{Recipient: "postmaster"}, "c"},
		{Filter{Recipient: "%@example.com"}, ""},
		{Filter{Sender: "ann@ONE.example"}, "d a"},
		{Filter{Sender: "one.example"}, "d a"},
		{Filter{Sender: "<>"}, "b"},
		{Filter{Class: mail.ClassVirus}, "b"},
		{Filter{Class: "VIRUS"}, "b"},
		{Filter{Reason: "virus"}, "b"},
		{Filter{Reason: "clamav"}, "b"},
		{Filter{Reason: "SCORE"}, "a"},
		{Filter{Reason: "spam"}, "a"},
		{Filter{Since: at(-3)}, "d c b"},
		{Filter{Until: at(-3)}, "a"},
		{Filter{Sender: "one.example", Recipient: "example.com", Class: mail.ClassSpam}, "a"},
		{Filter{Recipient: "' OR 1=1 --"}, ""},
		{Filter{Reason: "\x00"}, ""},
	} {
		if got := list(t, f, tt.f); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.f, got, tt.want)
		}
	}
	usage, err := f.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := Usage{Count: 1, Bytes: 1}
	want := map[mail.Class]Usage{mail.ClassSpam: one, mail.ClassVirus: one, mail.ClassAttachment: one, mail.ClassUndeliverable: one}
	if diff := cmp.Diff(want, usage); diff != "" {
		t.Error(diff)
	}
}

func testIDs(t *testing.T, f fixture) {
	for i, want := range []string{"m", "m.2", "m.3"} {
		if id := put(t, f, Entry{Message: "m"}, fmt.Sprint(i)); id != want {
			t.Errorf("got %q, want %q", id, want)
		}
	}
	if err := f.Delete(t.Context(), "m.2"); err != nil {
		t.Fatal(err)
	}
	if id := put(t, f, Entry{Message: "m"}, "3"); id != "m.2" {
		t.Errorf("got %q", id)
	}
	if got := read(t, f, "m") + read(t, f, "m.2") + read(t, f, "m.3"); got != "032" {
		t.Errorf("got %q", got)
	}
	for _, message := range []string{"", "../m", "a/b", "A", "m.2.3", strings.Repeat("a", 41), "m\x00"} {
		if id, err := f.Put(t.Context(), Entry{Message: message}, mail.Bytes("x")); err == nil {
			t.Errorf("%q was taken as %q", message, id)
		}
	}
}

func testNotFound(t *testing.T, f fixture) {
	put(t, f, Entry{Message: "there"}, "x")
	for _, id := range []string{"", "nowhere", "there.2", "../index.db", "/etc/passwd", "..", "there.eml", "x\x00"} {
		if _, err := f.Get(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %q: %v", id, err)
		}
		if _, _, err := f.Open(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("open %q: %v", id, err)
		}
		if err := f.Delete(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete %q: %v", id, err)
		}
		if err := f.MarkReleased(t.Context(), id, Release{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("release %q: %v", id, err)
		}
	}
	if got := list(t, f, Filter{}); got != "there" {
		t.Errorf("left: %q", got)
	}
}

func testRelease(t *testing.T, f fixture) {
	put(t, f, Entry{Message: "m"}, "x")
	releases := []Release{
		{To: "b@example.com", Time: f.clock.Now().UTC().Round(0), Reply: "451 4.3.0 later"},
		{To: "b@example.com", Time: f.clock.Now().UTC().Round(0), Reply: "250 2.0.0 " + strings.Repeat("k", maxText)},
	}
	for _, r := range releases {
		if err := f.MarkReleased(t.Context(), "m", r); err != nil {
			t.Fatal(err)
		}
	}
	releases[1].Reply = releases[1].Reply[:maxText]
	e, err := f.Get(t.Context(), "m")
	if diff := cmp.Diff(releases, e.Released); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if read(t, f, "m") != "x" {
		t.Error("a release changed the original")
	}
}

func testHostile(t *testing.T, f fixture) {
	e := Entry{Message: "m", Subject: strings.Repeat("é", 1<<20), HELO: "a\x00\xff", Score: math.NaN(), Reason: `'"; DROP TABLE entries; --`}
	for i := range 5000 {
		e.Recipients = append(e.Recipients, fmt.Sprintf("user%d@example.com", i))
		e.Symbols = append(e.Symbols, strings.Repeat("X", 2000))
	}
	put(t, f, e, "x")
	got, err := f.Get(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Recipients) != 5000 || len(got.Symbols) != maxList || len(got.Symbols[0]) != maxText || got.Subject != strings.Repeat("é", maxText/2) || got.Score != 0 {
		t.Errorf("%d recipients, %d symbols, subject of %d", len(got.Recipients), len(got.Symbols), len(got.Subject))
	}
	if len(e.Symbols[0]) != 2000 {
		t.Error("the caller's entry was changed")
	}
	if got := list(t, f, Filter{Recipient: "user4999@example.com"}); got != "m" {
		t.Errorf("got %q", got)
	}
}

func testExpire(t *testing.T, f fixture) {
	now := f.clock.Now()
	for i := range batch + 1 {
		put(t, f, Entry{Message: fmt.Sprint("old", i), Time: now.Add(-30*day - time.Millisecond)}, "x")
	}
	put(t, f, Entry{Message: "kept", Time: now.Add(-30 * day)}, "x")
	put(t, f, Entry{Message: "future", Time: now.Add(300 * day)}, "x")
	if n, err := f.Expire(t.Context()); n != batch+1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if got := list(t, f, Filter{}); got != "future kept" {
		t.Errorf("left: %q", got)
	}
	if n, err := f.Expire(t.Context()); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// The fixture holds 1000 octets.
func testSize(t *testing.T, f fixture) {
	now := f.clock.Now()
	hundred := strings.Repeat("x", 100)
	for i := range 10 {
		put(t, f, Entry{Message: fmt.Sprint("m", i), Class: mail.ClassSpam, Time: now.Add(-3*day + time.Duration(i)*time.Hour)}, hundred)
	}
	if _, err := f.Put(t.Context(), Entry{Message: "one"}, mail.Bytes("x")); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the size with nothing older than three days: %v", err)
	}
	f.clock.set(now.Add(time.Hour)) // m0 is older now, m1 exactly three days
	put(t, f, Entry{Message: "fits", Time: now}, hundred)
	if got := list(t, f, Filter{}); got != "fits m9 m8 m7 m6 m5 m4 m3 m2 m1" {
		t.Errorf("left: %q", got)
	}
	f.clock.set(now.Add(2 * time.Hour))
	if _, err := f.Put(t.Context(), Entry{Message: "two"}, mail.Bytes(hundred+"x")); !errors.Is(err, ErrFull) {
		t.Errorf("not enough would become free: %v", err)
	}
	if _, err := f.Get(t.Context(), "m1"); err != nil {
		t.Errorf("deleted for nothing: %v", err)
	}
	if _, err := f.Put(t.Context(), Entry{Message: "huge"}, mail.Bytes(strings.Repeat("x", 1001))); !errors.Is(err, ErrFull) {
		t.Errorf("larger than all: %v", err)
	}
	if got := f.alerts.String(); got != "quarantine.size quarantine.full quarantine.full" {
		t.Errorf("alerts: %q", got)
	}
	if err := f.Delete(t.Context(), "m5"); err != nil {
		t.Fatal(err)
	}
	put(t, f, Entry{Message: "after"}, hundred)
}

func testSizeOrder(t *testing.T, f fixture) {
	old := f.clock.Now().Add(-10 * day)
	for i, class := range []mail.Class{mail.ClassUndeliverable, mail.ClassAttachment, mail.ClassPolicy, mail.ClassVirus, mail.ClassSpam} {
		for j := range 2 {
			put(t, f, Entry{Message: fmt.Sprint(string(class), j), Class: class, Time: old.Add(time.Duration(2*i+j) * time.Hour)}, strings.Repeat("x", 100))
		}
	}
	put(t, f, Entry{Message: "a"}, strings.Repeat("x", 300))
	if got := list(t, f, Filter{Until: f.clock.Now()}); got != "virus1 policy1 policy0 attachment1 attachment0 undeliverable1 undeliverable0" {
		t.Errorf("left: %q", got)
	}
	put(t, f, Entry{Message: "b"}, strings.Repeat("x", 600))
	if got := list(t, f, Filter{Until: f.clock.Now()}); got != "undeliverable1" {
		t.Errorf("left: %q", got)
	}
}

func testWarning(t *testing.T, f fixture) {
	put(t, f, Entry{Message: "a"}, strings.Repeat("x", 799))
	if got := f.alerts.String(); got != "" {
		t.Errorf("alerts under 80 %%: %q", got)
	}
	put(t, f, Entry{Message: "b"}, "x")
	put(t, f, Entry{Message: "c"}, "x")
	if got := f.alerts.String(); got != "quarantine.size" {
		t.Errorf("alerts at 80 %%: %q", got)
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	put(t, f, Entry{Message: "d"}, strings.Repeat("x", 900))
	if got := f.alerts.String(); got != "quarantine.size quarantine.size" {
		t.Errorf("alerts when it was reached again: %q", got)
	}
}

func testAtOnce(t *testing.T, f fixture) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5 {
				id, err := f.Put(t.Context(), Entry{Message: "same", Recipients: []string{"b@example.com"}}, mail.Bytes(fmt.Sprint(g, i)))
				if err != nil {
					t.Error(err)
					return
				}
				if got := read(t, f, id); got != fmt.Sprint(g, i) {
					t.Errorf("%s holds %q", id, got)
				}
				if _, err := f.Expire(t.Context()); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := f.Delete(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	usage, err := f.Stats(t.Context())
	if err != nil || usage[""] != (Usage{Count: 16, Bytes: 48}) {
		t.Errorf("%+v, %v", usage, err)
	}
}

func testCancelled(t *testing.T, f fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Put(ctx, Entry{Message: "m"}, mail.Bytes("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := put(t, f, Entry{Message: "m"}, "x"); got != "m" {
		t.Errorf("the id is still taken: %q", got)
	}
}
