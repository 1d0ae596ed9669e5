package record

import (
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"postern/gateway/mail"
)

// sample is a record as the gateway makes it of an ordinary message.
func sample(i int, at time.Time) mail.Record {
	r := mail.Record{
		ID: mail.NewID(at), Time: at, Client: fmt.Sprintf("203.0.%d.%d", i/250%250, i%250), HELO: "mail.sender.example",
		TLS: "TLS 1.3 TLS_AES_128_GCM_SHA256", Sender: fmt.Sprintf("user%d@sender%d.example", i%5000, i%900),
		Recipients: []string{fmt.Sprintf("colleague%d@example.com", i%300)},
		Subject:    fmt.Sprintf("Minutes of meeting number %d, and what we agreed upon", i),
		MessageID:  fmt.Sprintf("<%x.%d@sender.example>", i*7919, i), Size: 34_000, Stage: "content", Action: mail.Accept,
		Score: 1.2, Required: 5, Reply: "250 2.0.0 taken, id 06f0123456789abcdefghj", ElapsedMS: 12.345,
	}
	for j := range 8 {
		r.Hits = append(r.Hits, mail.Hit{
			Symbol: fmt.Sprintf("SYMBOL_%d_OF_THE_RULES", j), Score: 0.1 * float64(j),
			Description: "The message has something that a rule knows", Evidence: "text/html", Filter: "rules",
		})
	}
	r.Deliveries = []mail.Delivery{{Recipient: r.Recipients[0], NextHop: "mail.internal:25", Time: at, Reply: "250 2.0.0 Ok: queued as 4XyzAbCdEf"}}
	return r
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill writes n records, spread over 30 days up to now.
func fill(tb testing.TB, s *Store, n int, now time.Time) {
	for i := range n {
		if i%(queueSize/2) == 0 {
			if err := s.Flush(tb.Context()); err != nil {
				tb.Fatal(err)
			}
		}
		at := now.Add(-time.Duration(n-i) * (30 * 24 * time.Hour) / time.Duration(n))
		s.Observe(tb.Context(), sample(i, at))
	}
	if err := s.Flush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if st := s.Stats(); st.Dropped > 0 {
		tb.Fatalf("%+v", st)
	}
}

func BenchmarkAppend(b *testing.B) {
	benchmarkAppend(b, func(s *Store, i int) error {
		if i%(queueSize/2) == 0 {
			return s.Flush(b.Context())
		}
		return nil
	})
}

// BenchmarkAppend2000 is 2,000 records a second, as a busy gateway makes them:
// the batches are as large as they come.
func BenchmarkAppend2000(b *testing.B) {
	began := time.Now()
	benchmarkAppend(b, func(_ *Store, i int) error {
		if i%20 == 0 {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / 2000)))
		}
		return nil
	})
}

func benchmarkAppend(b *testing.B, pace func(s *Store, i int) error) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	records := make([]mail.Record, 1000)
	for i := range records {
		records[i] = sample(i, now)
	}
	runtime.GC()
	b.ResetTimer()
	began := cpu()
	for i := range b.N {
		if err := pace(s, i); err != nil {
			b.Fatal(err)
		}
		r := records[i%1000]
		r.Time = now.Add(time.Duration(i) * time.Millisecond / 2)
		r.ID = mail.NewID(r.Time)
		s.Observe(b.Context(), r)
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if st := s.Stats(); st.Dropped > 0 {
		b.Errorf("%+v", st)
	}
}

func BenchmarkSearch(b *testing.B) {
	const n = 100_000
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	fill(b, s, n, now)
	id, err := s.Search(b.Context(), Query{Text: "number 5000", Limit: 1})
	if err != nil || len(id) != 1 {
		b.Fatal(len(id), err)
	}
	for name, text := range map[string]string{
		"id": id[0].ID, "address": "user77@sender77.example", "domain": "@example.com", "client": "203.0.113.7",
		"two": "203.0.113.7 @example.com", "time": now.Add(-5 * 24 * time.Hour).Format("2006-01-02 15"),
		"none": "nobody@nowhere.example", "word": "meeting", "rare": "12345,", "absent": "xyzzy",
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := s.Search(b.Context(), Query{Text: text}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
