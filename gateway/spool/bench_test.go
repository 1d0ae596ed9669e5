package spool

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"postern/gateway/mail"
	"postern/gateway/spool/disk"
)

// BenchmarkPut takes mail of the mean size, by one and by eight at once.
func BenchmarkPut(b *testing.B) {
	content := mail.Bytes(bytes.Repeat([]byte("0123456789abcdef"), 34<<10/16))
	for _, c := range []int{1, 8} {
		b.Run(fmt.Sprint(c), func(b *testing.B) {
			s, err := Open(Config{Dir: b.TempDir() + "/spool"})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(content.Size())
			b.SetParallelism(max(1, c/runtime.GOMAXPROCS(0)))
			var n atomic.Int64
			b.ResetTimer()
			if c == 1 {
				for b.Loop() {
					benchPut(b, s, n.Add(1), content)
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					benchPut(b, s, n.Add(1), content)
				}
			})
		})
	}
}

func benchPut(b *testing.B, s *Spool, n int64, content mail.Content) {
	it := itemOf(fmt.Sprintf("id%d", n), "a@inside.example")
	it.Content = content
	if err := s.Put(context.Background(), it); err != nil {
		b.Error(err)
	}
}

// unsynced is the machine's file system without its slowest part.
type unsynced struct{ disk.Machine }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) Create(p string) (disk.WriteFile, error) {
	f, err := u.Machine.Create(p)
	return noSync{f}, err
}

type noSync struct{ disk.WriteFile }

func (noSync) Sync() error { return nil }

// BenchmarkOpen starts with 100,000 items, and says what one of them costs in
// memory.
func BenchmarkOpen(b *testing.B) {
	const items = 100_000
	dir := b.TempDir() + "/spool"
	s, err := Open(Config{Dir: dir, fs: unsynced{}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range items {
		it := itemOf(mail.NewID(time.Now()), "someone@inside.example")
		it.Content = mail.Bytes("Subject: small\r\n\r\n")
		if i%2 == 0 {
			it.Route = fmt.Sprintf("route%d.example", i%1000)
		}
		if err := s.Put(context.Background(), it); err != nil {
			b.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	for b.Loop() {
		s = nil
		runtime.GC()
		runtime.ReadMemStats(&before)
		if s, err = Open(Config{Dir: dir}); err != nil || s.Len() != items {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/items, "octets/item")
	}
	begin := time.Now()
	if len(s.List()) != items {
		b.Fatal("list")
	}
	b.ReportMetric(time.Since(begin).Seconds(), "s/list")
}
