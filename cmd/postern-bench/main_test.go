package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern-bench/traffic"
)

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--n", "0"},
		{"--rounds", "0"},
		{"--reuse", "0"},
		{"--c", "0"},
		{"--c", ""},
		{"--peers", ""},
		{"--none"},
		{"x"},
		{"--mail", "/does/not/exist"},
	} {
		if err := run(t.Context(), args, terminal{&bytes.Buffer{}, &bytes.Buffer{}}); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, terminal{&out, &out}); err != nil || !strings.Contains(out.String(), "--concurrency") && !strings.Contains(out.String(), "--c=") {
		t.Errorf("%v %s", err, &out)
	}
}

func TestUnknownPeer(t *testing.T) {
	var out bytes.Buffer
	temp := t.TempDir()
	err := run(t.Context(), []string{"--peers", "other", "--corpus", temp, "--temp", temp, "--n", "3"}, terminal{&out, &out})
	if err == nil || !strings.Contains(err.Error(), `"other" is no peer`) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A peer that never comes up is told with its last words.
func TestPeerThatEnds(t *testing.T) {
	temp := t.TempDir()
	script := filepath.Join(temp, "postern")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no such luck >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), []string{"--peers", "postern", "--postern", script, "--corpus", temp, "--temp", temp, "--n", "3"}, terminal{&out, &out})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Error(err)
	}
}

func TestPosternConfig(t *testing.T) {
	extra := filepath.Join(t.TempDir(), "extra.toml")
	if err := os.WriteFile(extra, []byte("[tag]\nsubject = \"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := place{t.TempDir(), "127.0.0.1:2525"}
	p, err := newPostern(at, "postern", extra)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(at.dir, "postern.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`deliver_to = ["127.0.0.1:2525"]`, p.address, at.dir, "\n[tag]\nsubject"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPostfixConfig(t *testing.T) {
	main := postfixMain(place{"/x", "127.0.0.1:2525"})
	for _, want := range []string{"queue_directory = /x/queue\n", "relayhost = [127.0.0.1]:2525\n", "relay_domains = " + traffic.Domain + "\n"} {
		if !strings.Contains(main, want) {
			t.Errorf("no %q in\n%s", want, main)
		}
	}
	if master := postfixMaster("127.0.0.1:26"); !strings.HasPrefix(master, "127.0.0.1:26 ") {
		t.Error(master)
	}
}
