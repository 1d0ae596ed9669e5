package quarantine

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"postern/gateway/mail"
)

func benchmarkPut(b *testing.B, together int) {
	s, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	content := mail.Bytes(bytes.Repeat([]byte("An ordinary line of an ordinary message.\r\n"), 800))
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range together {
		wg.Go(func() {
			for i := g; i < b.N; i += together {
				_, err := s.Put(b.Context(), Entry{
					Message: mail.NewID(time.Now()), Class: mail.ClassSpam,
					Sender: "a@sender.example", Recipients: []string{"b@example.com"}, Subject: "Subject",
				}, content)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkPut(b *testing.B)   { benchmarkPut(b, 1) }
func BenchmarkPut16(b *testing.B) { benchmarkPut(b, 16) }
