package gateway

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"postern/gateway/mail"
)

func TestReceiver(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		held   int64 // by others
		inFile bool
	}{
		{"nothing", 0, 0, false},
		{"small", 100, 0, false},
		{"at the limit of memory", inMemory, 0, false},
		{"one beyond", inMemory + 1, 0, true},
		{"at the budget", 1000, memoryBudget - 1000, false},
		{"beyond the budget", 1001, memoryBudget - 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var held atomic.Int64
			held.Store(c.held)
			r := newReceiver(dir, &held, 0)
			want := strings.Repeat("0123456789abcdef", c.size/16+1)[:c.size]
			for rest := want; rest != ""; { // in pieces, as it arrives
				n := min(len(rest), 700)
				if _, err := r.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			content := r.content()
			var got bytes.Buffer
			if _, err := content.WriteTo(&got); err != nil || got.String() != want || content.Size() != int64(c.size) {
				t.Errorf("%d octets came back as %d: %v", c.size, got.Len(), err)
			}
			if _, inFile := content.(*mail.File); inFile != c.inFile {
				t.Errorf("in a file: %v, want %v", inFile, c.inFile)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
				t.Errorf("a crash would leave %v behind (%v)", names, err)
			}
			r.close()
			if got := held.Load(); got != c.held {
				t.Errorf("%d octets still counted, want %d", got, c.held)
			}
		})
	}
}

func TestReceiverWithoutFolder(t *testing.T) {
	var held atomic.Int64
	r := newReceiver("/nowhere", &held, 0)
	defer r.close()
	if _, err := io.Copy(r, strings.NewReader(strings.Repeat("x", inMemory+1))); err == nil {
		t.Error("written to a folder that is not there")
	}
}

func TestIsFull(t *testing.T) {
	for err, want := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, &os.PathError{Err: syscall.ENOSPC}: true, syscall.EIO: false, errors.New("x"): false} {
		if got := isFull(err); got != want {
			t.Errorf("isFull(%v) = %v", err, got)
		}
	}
}

// Many small pieces are not copied again and again, whatever was declared.
func TestReceiverGrows(t *testing.T) {
	line := []byte("0123456789\r\n")
	for _, declared := range []int64{0, 10, 100 << 10, 500 << 10, inMemory, inMemory + 1} {
		var held atomic.Int64
		allocs := testing.AllocsPerRun(1, func() {
			r := newReceiver(t.TempDir(), &held, declared)
			defer r.close()
			for range inMemory / 2 / len(line) {
				if _, err := r.Write(line); err != nil {
					t.Fatal(err)
				}
			}
		})
		if allocs > 100 {
			t.Errorf("%d octets declared: %v allocations", declared, allocs)
		}
	}
}

// Memory that is taken for what was declared counts, come what may of it.
func TestReceiverCountsWhatIsTaken(t *testing.T) {
	var held atomic.Int64
	r := newReceiver(t.TempDir(), &held, inMemory)
	if _, err := r.Write(make([]byte, inMemory/8)); err != nil {
		t.Fatal(err)
	}
	if held.Load() < int64(cap(r.buf)) {
		t.Errorf("%d counted, %d taken", held.Load(), cap(r.buf))
	}
	held.Add(memoryBudget - inMemory)
	other := newReceiver(t.TempDir(), &held, inMemory)
	if _, err := other.Write([]byte("x")); err != nil || other.file == nil {
		t.Errorf("over the budget and still in memory, %v", err)
	}
	r.close()
	other.close()
	if n := held.Load(); n != memoryBudget-inMemory {
		t.Errorf("%d held after the end, want %d", n, memoryBudget-inMemory)
	}
}
