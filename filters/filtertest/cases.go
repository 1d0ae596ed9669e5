package filtertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Cases holds each testdata/*.eml against its .want: what found says of it. A new
// case is a new pair of files. With update the .want files are written anew, to
// be read before they are committed.
func Cases(t *testing.T, update bool, found func(t *testing.T, eml string) string) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(path, ".eml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			eml, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := found(t, string(eml))
			if update {
				if err := os.WriteFile(name+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}
