package record

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/gateway/mail"
)

// records is what a back end for records must do; conformance holds it to that.
type records interface {
	Observe(ctx context.Context, r mail.Record)
	Refusal(r mail.Record)
	Deliver(id string, d mail.Delivery)
	Flush(ctx context.Context) error
	Search(ctx context.Context, q Query) ([]mail.Record, error)
	Expire(ctx context.Context) (int64, error)
	Stats() Stats
	Close() error
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestStore(t *testing.T) {
	conformance(t, func(t *testing.T, now func() time.Time) records {
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "records.db"), Config{Now: now, Keep: 30 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func conformance(t *testing.T, open func(*testing.T, func() time.Time) records) {
	fixed := func() time.Time { return noon }
	for name, test := range map[string]func(*testing.T, records){
		"round trip": testRoundTrip, "search": testSearch, "limits": testLimits, "deliveries": testDeliveries,
		"hostile": testHostile, "empty": testEmpty, "sums": testSums, "expire": testExpire, "at once": testAtOnce,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, fixed)) })
	}
}

func add(t *testing.T, s records, list ...mail.Record) {
	t.Helper()
	for _, r := range list {
		s.Observe(t.Context(), r)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, s records, q Query) string {
	t.Helper()
	found, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, r := range found {
		list = append(list, r.ID)
	}
	return strings.Join(list, " ")
}

func testRoundTrip(t *testing.T, s records) {
	want := sample(7, noon)
	want.Attachments = []mail.Attachment{{Name: "a.zip", Type: "application/zip", Size: 5, Blocked: true, Reason: "forbidden"}}
	want.Action, want.Reason, want.Unscanned, want.Count = mail.Quarantine, "CLAMAV_VIRUS", []string{"clamav"}, 3
	add(t, s, want)
	got, err := s.Search(t.Context(), Query{Text: want.ID})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mail.Record{want}, got); diff != "" {
		t.Error(diff)
	}
}

func testSearch(t *testing.T, s records) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	add(t, s,
		mail.Record{ID: "one", Time: at("2026-11-20T09:00:00Z"), Client: "192.0.2.1", HELO: "mx.one.example", Sender: "Ann@One.example", Recipients: []string{"bob@example.com", "eve@example.com"}, Subject: "Hello wörld", MessageID: "<abc.1@one.example>", Action: mail.Accept},
		mail.Record{ID: "two", Time: at("2026-11-21T14:03:07Z"), Client: "2001:db8::0001", Sender: "", Recipients: []string{"Bob@Example.COM"}, Subject: "Invoice 4711", Action: mail.Reject, Reason: "CLAMAV_VIRUS", Attachments: []mail.Attachment{{Name: "Rechnung.pdf.exe"}}},
		mail.Record{ID: "three", Time: at("2026-11-21T14:59:59Z"), Client: "::ffff:192.0.2.1", Sender: "ann@one.example", Recipients: []string{"carol@other.example"}, Subject: "HELLO AGAIN", Hits: []mail.Hit{{Symbol: "GTUBE"}}},
		mail.Record{ID: "four", Time: at("2026-11-22T00:00:00Z"), Client: "192.0.2.2", Sender: `"odd @ name"@one.example`, Recipients: []string{"postmaster"}, Subject: "100% _off_"},
	)
	for _, tt := range []struct{ text, want string }{
		{"", "four three two one"},
		{"one", "one"},
		{"TWO", "two"},
		{"550 5.7.1 refused, id two", "two"},
		{"250 2.0.0 taken (id=three)", "three"},
		{"ann@one.example", "three one"},
		{"<ANN@ONE.EXAMPLE>", "three one"},
		{"bob@example.com", "two one"},
		{"@example.com", "two one"},
		{"Example.com", "two one"},
		{"one.example", "four three one"},
		{"@mail.one.example", ""},
		{"192.0.2.1", "three one"},
		{"[192.0.2.1]", "three one"},
		{"2001:DB8:0:0::1", "two"},
		{"[IPv6:2001:db8::1]", "two"},
		{"192.0.2.9", ""},
		{"2026-11-21", "three two"},
		{"2026-11-21 14", "three two"},
		{"2026-11-21T14", "three two"},
		{"2026-11-21 14:03", "two"},
		{"2026-11-21 14:03:07", "two"},
		{"2026-11-21T14:03:07Z", "two"},
		{"2026-11-21T15:03:07+01:00", "two"},
		{"2026-11-21T14:03:07.000001Z", "two"},
		{"2026-11", "four three two one"},
		{"2026-11-23", ""},
		{"hello", "three one"},
		{"hello WÖRLD", "one"},
		{"invoice 4711", "two"},
		{"clamav_virus", "two"},
		{"rechnung.pdf", "two"},
		{"gtube", "three"},
		{"reject", "two"},
		{"mx.one.example", "one"},
		{"<abc.1@one.example>", "one"},
		{"% _off_", "four"},
		{"h_llo", ""},
		{"ann@one.example example.com", "one"},
		{"ann@one.example 2026-11-21", "three"},
		{"2026-11-21 bob@example.com", "two"},
		{"ann@one.example again", "three"},
		{"nobody@example.com", ""},
		{"' OR 1=1 --", ""},
		{"<>", "four three two one"},
	} {
		if got := ids(t, s, Query{Text: tt.text}); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{Since: at("2026-11-21T14:59:59Z")}, "four three"},
		{Query{Until: at("2026-11-21T14:59:59Z")}, "two one"},
		{Query{Text: "one.example", Since: at("2026-11-21T00:00:00Z"), Until: at("2026-11-22T00:00:00Z")}, "three"},
		{Query{Limit: 1}, "four"},
		{Query{Text: "one.example", Limit: 2}, "four three"},
		{Query{Since: noon, Until: noon.Add(-time.Hour)}, ""},
	} {
		if got := ids(t, s, tt.q); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.q, got, tt.want)
		}
	}
}

func testLimits(t *testing.T, s records) {
	var list []mail.Record
	for i := range defaultLimit + 1 {
		list = append(list, mail.Record{ID: fmt.Sprint("m", i), Time: noon.Add(time.Duration(i) * time.Hour), Sender: "a@one.example"})
	}
	add(t, s, list...)
	for _, tt := range []struct{ limit, want int }{{0, defaultLimit}, {defaultLimit, defaultLimit}, {defaultLimit + 1, defaultLimit + 1}, {1 << 40, defaultLimit + 1}} {
		for _, text := range []string{"", "a@one.example"} {
			found, err := s.Search(t.Context(), Query{Text: text, Limit: tt.limit})
			if err != nil || len(found) != tt.want {
				t.Errorf("limit %d of %q: %d records, %v", tt.limit, text, len(found), err)
			}
		}
	}
}

func testDeliveries(t *testing.T, s records) {
	first := mail.Delivery{Recipient: "bob@example.com", NextHop: "mail:25", Time: noon, Reply: "451 4.3.0 later"}
	second, third := first, first
	second.Time, third.Time = noon.Add(time.Minute), noon.Add(2*time.Minute)
	third.Reply = "250 2.0.0 taken"
	s.Deliver("spooled", third) // the spool may be faster than the record
	s.Deliver("spooled", second)
	add(t, s, mail.Record{ID: "spooled", Time: noon, Deliveries: []mail.Delivery{first}}, mail.Record{ID: "other", Time: noon})
	got, err := s.Search(t.Context(), Query{Text: "spooled"})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if diff := cmp.Diff([]mail.Delivery{first, second, third}, got[0].Deliveries); diff != "" {
		t.Error(diff)
	}
}

func testHostile(t *testing.T, s records) {
	many := make([]string, maxRecipients+1)
	for i := range many {
		many[i] = fmt.Sprintf("user%d@example.com", i)
	}
	shared := mail.Hit{Symbol: "X", Evidence: strings.Repeat("é", maxText), Score: math.NaN()}
	hits := []mail.Hit{shared}
	add(t, s,
		mail.Record{ID: "nul", Time: noon, HELO: "a\x00b", Sender: "x\x00y@one.example", Subject: "zero\x00byte \xff\xfe end"},
		mail.Record{ID: "large", Time: noon, Subject: strings.Repeat("subject ", 1<<17), Sender: strings.Repeat("a", 1<<20) + "@one.example"},
		mail.Record{ID: "many", Time: noon, Recipients: many},
		mail.Record{ID: "numbers", Time: noon, Score: math.Inf(1), Required: math.NaN(), Hits: hits, Action: mail.Action(77)},
		mail.Record{ID: "future", Time: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
		mail.Record{ID: "past", Time: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)},
		mail.Record{ID: "quote", Time: noon, Subject: `"; DROP TABLE records; --`},
	)
	if st := s.Stats(); st.Dropped != 0 || st.Written != 7 {
		t.Errorf("%+v", st)
	}
	if hits[0] != shared && !math.IsNaN(hits[0].Score) {
		t.Error("the caller's hits were changed")
	}
	for _, tt := range []struct{ text, want string }{
		{"user0@example.com", "many"},
		{fmt.Sprintf("user%d@example.com", maxRecipients-1), "many"},
		{fmt.Sprintf("user%d@example.com", maxRecipients), ""},
		{"xy@one.example", "nul"},
		{"zerobyte", "nul"},
		{"numbers", "numbers"},
		{"future", "future"},
		{"past", "past"},
		{"drop table", "quote"},
		{strings.Repeat("x@y ", 1<<18), ""},
		{"\xff\x00", "nul"}, // what can't be read is one character
	} {
		if got := ids(t, s, Query{Text: tt.text}); got != tt.want {
			t.Errorf("%.40q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	found, err := s.Search(t.Context(), Query{Text: "large"})
	if err != nil || len(found) != 1 || len(found[0].Subject) != maxText {
		t.Errorf("%d records, %v", len(found), err)
	}
	found, err = s.Search(t.Context(), Query{Text: "numbers"})
	if err != nil || len(found) != 1 || found[0].Hits[0].Evidence != strings.Repeat("é", maxText/2) || found[0].Score != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func testEmpty(t *testing.T, s records) {
	if got, err := s.Search(t.Context(), Query{Text: "anything@example.com"}); err != nil || got == nil || len(got) != 0 {
		t.Errorf("an empty store: %v, %v", got, err)
	}
	add(t, s, mail.Record{})
	got, err := s.Search(t.Context(), Query{})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	r := got[0]
	if !r.Time.Equal(noon) || !mail.ValidID(r.ID) || r.Recipients == nil || r.Hits == nil || r.Deliveries == nil {
		t.Errorf("%+v", r)
	}
}

func testSums(t *testing.T, s records) {
	for i := range sumAfter + 5 {
		s.Refusal(mail.Record{ID: fmt.Sprint("r", i), Time: noon, Client: "192.0.2.1", Reason: "unknown recipient", Recipients: []string{fmt.Sprintf("x%d@example.com", i)}})
	}
	if err := s.Close(); err != nil { // writes the sum
		t.Fatal(err)
	}
	if st := s.Stats(); st.Written != sumAfter+1 || st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

func testExpire(t *testing.T, s records) {
	const keep = 30 * 24 * time.Hour
	var list []mail.Record
	for i := range expireChunk + 1 {
		list = append(list, mail.Record{ID: fmt.Sprint("old", i), Time: noon.Add(-keep - time.Millisecond), Sender: "old@one.example"})
	}
	list = append(list, mail.Record{ID: "kept", Time: noon.Add(-keep), Sender: "old@one.example"},
		mail.Record{ID: "ancient", Time: noon.Add(-2 * keep), Sender: "old@one.example"})
	add(t, s, list...)
	s.Deliver("old0", mail.Delivery{Time: noon.Add(-keep - time.Hour)})
	add(t, s)
	n, err := s.Expire(t.Context())
	if err != nil || n != expireChunk+2 {
		t.Errorf("deleted %d, %v", n, err)
	}
	for _, text := range []string{"", "old@one.example"} {
		if got := ids(t, s, Query{Text: text}); got != "kept" {
			t.Errorf("%q: got %q", text, got)
		}
	}
	if n, err := s.Expire(t.Context()); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

func testAtOnce(t *testing.T, s records) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				r := sample(i, noon)
				s.Observe(t.Context(), r)
				s.Deliver(r.ID, r.Deliveries[0])
				if i%100 == g {
					if _, err := s.Search(t.Context(), Query{Text: "@example.com", Limit: 5}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Written != 4*500*2 || st.Dropped != 0 || st.Queued != 0 {
		t.Errorf("%+v", st)
	}
	found, err := s.Search(t.Context(), Query{Text: "@example.com", Limit: 1})
	if err != nil || len(found) != 1 || len(found[0].Deliveries) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	if !slices.IsSortedFunc(found, func(a, b mail.Record) int { return b.Time.Compare(a.Time) }) {
		t.Error("not the newest first")
	}
}
