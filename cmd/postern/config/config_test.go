package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGood(t *testing.T) {
	t.Setenv("POSTERN_TEST_STATE", "/srv/postern")
	files, _ := filepath.Glob("testdata/good/*.toml")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := Load(file); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each file of testdata/faults begins with what is to be said of it, a comment a
// fault; nothing else may be said.
func TestFaults(t *testing.T) {
	files, _ := filepath.Glob("testdata/faults/*.toml")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if fault, is := strings.CutPrefix(line, "# "); is {
					want = append(want, filepath.Dir(file)+"/"+strings.TrimSpace(fault))
				}
			}
			_, err = Load(file)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("Load: %v, want faults", err)
			}
			for i, f := range faults {
				if i >= len(want) || !strings.HasPrefix(f.Error(), want[i]) {
					t.Errorf("fault %d: %s", i+1, f)
				}
			}
			if len(faults) != len(want) {
				t.Errorf("%d faults, want %d:\n%s", len(faults), len(want), strings.Join(want, "\n"))
			}
		})
	}
}

func TestOverrides(t *testing.T) {
	t.Setenv("POSTERN_TEST_STATE", "/srv/postern")
	c, err := Load("testdata/good/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	d := c.Domains["example.com"]
	if got, want := c.ScoreFor(d), (Score{Tag: 4, Quarantine: 0, Reject: 15, Greylist: 4, Symbols: map[string]float64{"GTUBE": 100}}); !cmp.Equal(got, want) {
		t.Errorf("ScoreFor: %s", cmp.Diff(want, got))
	}
	if got := c.ScoreFor(c.Domains["other.example"]); got.Tag != 5 || got.Symbols["GTUBE"] != 50 {
		t.Errorf("ScoreFor another domain: %+v", got)
	}
	v := c.DeliveryFor(d)
	if v.Mode != "spool" || v.TLS != "verify" || v.On4xx != "spool" || v.Lifetime.Std() != 14*24*time.Hour || v.Retry[0].Std() != 10*time.Second || v.Connections != 3 {
		t.Errorf("DeliveryFor: %+v", v)
	}
	if c.State != "/srv/postern" || *d.Tag.Subject != "costs $5 " {
		t.Errorf("state %q, subject %q", c.State, *d.Tag.Subject)
	}
	if mode, list, err := d.RecipientList(); mode != "list" || len(list) != 2 || err != nil {
		t.Errorf("RecipientList: %s %v %v", mode, list, err)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postern.toml", "hostname = \"mx.example.com\"\ninclude = [\"domains.d/*.toml\"]\n")
	write("domains.d/a.toml", "[domains.\"a.example\"]\ndeliver_to = [\"x\"]\n")
	write("domains.d/b.toml", "[domains.\"b.example\"]\ndeliver_to = [\"x\"]\n")
	write("list.txt", "# people\nanna@c.example\n\nbob@c.example # left soon\n")
	write("domains.d/c.toml", "[domains.\"c.example\"]\ndeliver_to = [\"x\"]\nrecipients = \""+dir+"/list.txt\"\n")
	c, err := Load(filepath.Join(dir, "postern.toml"))
	if err != nil || len(c.Domains) != 3 {
		t.Fatalf("Load: %v, %d domains", err, len(c.Domains))
	}
	if _, list, err := c.Domains["c.example"].RecipientList(); len(list) != 2 || err != nil {
		t.Errorf("RecipientList: %v %v", list, err)
	}
	write("domains.d/more.toml", "include = [\"x.toml\"]\n")
	if _, err := Load(filepath.Join(dir, "postern.toml")); err == nil || !strings.Contains(err.Error(), "more.toml:1: include: stands in a file") {
		t.Errorf("include in an included file: %v", err)
	}
	write("domains.d/more.toml", "")
	write("domains.d/again.toml", "[domains.\"A.example\"]\ndeliver_to = [\"y\"]\n")
	if _, err := Load(filepath.Join(dir, "postern.toml")); err == nil || !strings.Contains(err.Error(), "too") {
		t.Errorf("a domain in two files: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"5d": 120 * time.Hour, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0s": 0} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Std() != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "d", "-5d", "5 d", "999999d", "1.5d"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken for %v", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"50MB": 50_000_000, "512KiB": 512 << 10, "20GB": 20_000_000_000, "1.5 MiB": 1572864, "100": 100, "7B": 7} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "NaN", "1e30", "5 apples"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken for %d", text, s)
		}
	}
}

// Whatever stands in the file, reading it ends, with a configuration or faults.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.toml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "postern.toml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file)
		var faults Faults
		if err != nil && !errors.As(err, &faults) {
			t.Fatal(err)
		}
	})
}
