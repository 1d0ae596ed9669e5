package mime

import (
	"strings"
	"testing"
)

func BenchmarkScan(b *testing.B) {
	line := []byte(strings.Repeat("QUJD", 19))
	b.SetBytes(76)
	for b.Loop() {
		Scan(line)
	}
}
