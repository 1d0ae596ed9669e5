//go:build integration

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/filters/filtertest"
)

// smallDisk puts the world's state on a disk of its own with that many octets.
func (w *world) smallDisk(octets int) {
	w.t.Helper()
	if err := os.Mkdir(w.state, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", w.state, "tmpfs", 0, fmt.Sprintf("size=%d", octets)); err != nil {
		w.t.Fatalf("mount: %v", err)
	}
	w.t.Cleanup(func() {
		w.kill()
		if err := syscall.Unmount(w.state, 0); err != nil {
			w.t.Errorf("unmount: %v", err)
		}
	})
}

// fill leaves no room on the state's disk; the file that it returns is in the
// way.
func (w *world) fill() (ballast string) {
	w.t.Helper()
	ballast = filepath.Join(w.state, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block > 0; block /= 16 {
		for err = nil; err == nil; _, err = f.Write(make([]byte, block)) {
		}
		if !errors.Is(err, syscall.ENOSPC) {
			w.t.Fatal(err)
		}
	}
	return ballast
}

// With a full disk what needs none passes, the rest is put off, and nothing is
// lost; with room again all is as before.
func TestIntegrationFullDisk(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, keeping(in, "")+"[delivery]\nretry = [\"1h\"]\n")
	w.smallDisk(64 << 20)
	w.start()
	in.stop()
	before := message("before", "Hello\n")
	waits := idOf(t, w.send(toAnna, before, "250 2.0.0 "))
	spam := message("spam", filtertest.GTUBE()+"\n")
	kept := []string{idOf(t, w.send(toAnna, spam, "250 2.0.0 "))}

	ballast := w.fill()
	small, large := message("small", "Hello\n"), sized(2_000_000)
	w.send(toAnna, small, "452 4.3.1 ") // the inside is down: it would have to wait here
	w.send(toAnna, spam, "452 4.3.1 ")
	w.send(toAnna, large, "452 4.3.1 ")
	in.start()
	w.send(toAnna, small, "250 2.0.0 ") // on its way through it needs no disk
	eventually(t, "the small message", func() bool { return len(subjects(in, "small")) == 1 })
	w.send(toAnna, large, "452 4.3.1 ")
	if got := ids(w.objects("quarantine", "list")); !slices.Equal(got, kept) {
		t.Errorf("kept: %v", got)
	}
	if status, _ := w.get("/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	w.kill() // it also starts on a full disk
	w.start()
	w.send(toAnna, spam, "452 4.3.1 ")

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.send(toAnna, large, "250 2.0.0 ")
	kept = append(kept, idOf(t, w.send(toAnna, spam, "250 2.0.0 ")))
	slices.Sort(kept)
	if got := ids(w.objects("quarantine", "list")); !slices.Equal(got, kept) {
		t.Errorf("kept: %v, want %v", got, kept)
	}
	w.must("queue", "retry")
	eventually(t, "what waited", func() bool { return len(subjects(in, "before")) == 1 })
	eventually(t, "the queue is empty", func() bool { return len(w.objects("queue", "list")) == 0 })
	if list := in.all(); len(list) != 3 {
		t.Errorf("%d messages inside, want small, large and before", len(list))
	}
	if found := w.objects("track", waits); len(found) != 1 {
		t.Errorf("track: %v", found)
	}
	for _, id := range kept {
		if raw := w.must("quarantine", "show", "--raw", id); raw != string(spam) {
			t.Errorf("%s: %q", id, raw)
		}
	}
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A disk that fills under load: what was taken arrives, once there is an inside.
func TestIntegrationDiskFillsUp(t *testing.T) {
	t.Parallel()
	in := newInside(t)
	w := newWorld(t, domain(in, "")+"[delivery]\nretry = [\"500ms\"]\n")
	w.smallDisk(96 << 20)
	w.start()
	in.stop()
	l := startLoad(w, 4, func(i int) []byte {
		return append(message(fmt.Sprintf("number %d", i), ""), bytes.Repeat([]byte(strings.Repeat("x", 998)+"\r\n"), 700)...)
	})
	eventually(t, "the disk is full", func() bool { return l.count("452 4.3.1 ") >= 20 })
	in.start()
	eventually(t, "there is room again", func() bool {
		done := l.count("250")
		return done > 0 && len(in.all()) > done/2
	})
	replies := l.stop()
	w.drained()
	times := map[int]int{}
	for _, a := range in.all() {
		times[numberOf(t, string(a.content))]++
	}
	taken := 0
	for i, r := range replies {
		if strings.HasPrefix(r, "250") {
			taken++
			if times[i] != 1 {
				t.Errorf("message %d was taken and arrived %d times", i, times[i])
			}
		} else if !strings.HasPrefix(r, "452 4.3.1 ") || times[i] != 0 {
			t.Errorf("message %d: %q, and it arrived %d times", i, r, times[i])
		}
	}
	t.Logf("%d messages, %d taken", len(replies), taken)
}

// subjects are the messages inside that have this subject.
func subjects(in *inside, subject string) (list []arrival) {
	for _, a := range in.all() {
		if bytes.Contains(a.content, []byte("\r\nSubject: "+subject+"\r\n")) {
			list = append(list, a)
		}
	}
	return list
}
