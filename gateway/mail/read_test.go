package mail

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the .want files anew; look at the difference before committing")

// stored is content that is not in memory, as a spool file is.
type stored struct{ Bytes }

// describe writes a tree so that a person can check it: for each part its path,
// type, encoding, disposition, whether it is an attachment, what it may be
// called, the parameters of its type and the first
// octets of its decoded body; then the oddities.
func describe(t testing.TB, h Header, parts []Part, oddities []Oddity) string {
	var b strings.Builder
	for _, f := range h {
		fmt.Fprintf(&b, "field %s: %q\n", f.Name, f.Text())
	}
	for i := range parts {
		p := &parts[i]
		fmt.Fprintf(&b, "%spart %q %s", strings.Repeat("  ", p.Depth), p.Path, p.MediaType)
		for _, word := range []string{p.Encoding, p.Disposition} {
			if word != "" {
				b.WriteString(" " + word)
			}
		}
		if p.Attached() {
			b.WriteString(" attached")
		}
		if p.Detached {
			b.WriteString(" detached")
		}
		for _, name := range p.Names {
			fmt.Fprintf(&b, " called=%q", name)
		}
		for _, param := range slices.Sorted(maps.Keys(p.Params)) {
			fmt.Fprintf(&b, " %s=%q", param, p.Params[param])
		}
		if len(p.Children) == 0 {
			body, err := io.ReadAll(io.LimitReader(p.Open(), 200))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " body=%q", strings.ReplaceAll(string(body), "\r\n", "\n"))
		}
		b.WriteByte('\n')
	}
	for _, o := range oddities {
		fmt.Fprintf(&b, "oddity %s %q %s\n", o.Symbol, o.Part, o.Evidence)
	}
	return b.String()
}

// TestRead reads each testdata/*.eml with LF and with CRLF, in memory and as a
// file, and holds what it finds against the .want beside it.
func TestRead(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.eml")
	if len(files) < 30 {
		t.Fatalf("only %d messages in testdata", len(files))
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			lf, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			wantFile := strings.TrimSuffix(name, ".eml") + ".want"
			got := describeAll(t, lf)
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
			if crlf := describeAll(t, bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))); crlf != got {
				t.Error("CRLF makes a difference", cmp.Diff(got, crlf))
			}
		})
	}
}

func describeAll(t testing.TB, content []byte) string {
	h, parts, oddities := Read(Bytes(content), Limits{})
	checkTree(t, content, parts)
	memory := describe(t, h, parts, oddities)
	h, parts, oddities = Read(stored{content}, Limits{})
	checkTree(t, content, parts)
	if file := describe(t, h, parts, oddities); file != memory {
		t.Error("a file makes a difference", cmp.Diff(memory, file))
	}
	return memory
}

// checkTree holds what must be true of every tree.
func checkTree(t testing.TB, content []byte, parts []Part) {
	if len(parts) == 0 || parts[0].Parent != -1 || parts[0].Span != (Span{0, int64(len(content))}) {
		t.Fatalf("no root over the whole content: %+v", parts)
	}
	for i := range parts {
		p := &parts[i]
		if p.Index != i {
			t.Fatalf("part %d says it is %d", i, p.Index)
		}
		if p.Span.Start < 0 || p.Body.Start < p.Span.Start || p.Body.End < p.Body.Start || p.Span.End != p.Body.End || p.Span.End > p.content.Size() {
			t.Fatalf("part %d has spans %v, %v", i, p.Span, p.Body)
		}
		if p.Parent >= 0 {
			up := &parts[p.Parent]
			if p.Parent >= i || up.Depth+1 != p.Depth || !inside(p, up) {
				t.Fatalf("part %d %v is not within part %d %v", i, p.Span, up.Index, up.Body)
			}
		}
		at := p.Span.Start
		for _, f := range p.Header {
			if f.Span.Start < at || f.Span.End > p.Body.Start || int64(len(f.Raw)) != f.Span.Len() {
				t.Fatalf("part %d, field %q: %v after %d, body at %d", i, f.Name, f.Span, at, p.Body.Start)
			}
			at = f.Span.End
			raw := make([]byte, len(f.Raw))
			if _, err := p.content.ReadAt(raw, f.Span.Start); (err != nil && err != io.EOF) || !bytes.Equal(raw, f.Raw) {
				t.Fatalf("part %d, field %q: %q is %q in the content", i, f.Name, f.Raw, raw)
			}
		}
	}
}

func inside(p, up *Part) bool {
	if p.Detached != up.Detached {
		return p.Detached
	}
	if p.content != nil && p.Detached && p.content.Size() != up.content.Size() {
		return true
	}
	return p.Span.Start >= up.Body.Start && p.Span.End <= up.Body.End
}
