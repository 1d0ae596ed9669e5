package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain is the bare hop when the bench starts itself as such.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "--hop" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The whole program, with the one peer that is always there.
func TestBenchHop(t *testing.T) {
	temp := t.TempDir()
	mail := filepath.Join(temp, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mail, "1.eml"), []byte("Subject: x\n\n.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(temp, "report.json")
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"--peers", "hop", "--n", "20", "--rounds", "2", "--c", "1,4", "--reuse", "3", "--settle", "0s",
		"--mail", mail, "--temp", temp, "--json", report,
	}, terminal{&out, &progress})
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if !strings.Contains(out.String(), "bare hop") || strings.Count(progress.String(), " round ") != 4 {
		t.Errorf("%s\n%s", &out, &progress)
	}
	if _, err := os.Stat(report); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "postern-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
