package spool

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childDir makes the test binary the process that is killed, on this spool.
const childDir = "SPOOL_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child puts and delivers until it is killed, and says each thing as soon as it is
// so: "open", "put ID", and "sent ID", which an item's removal follows.
func child(dir string) error {
	s, err := Open(Config{Dir: dir, Alarm: func(text string) { fmt.Println("alarm", text) }})
	if err != nil {
		return err
	}
	fmt.Println("open")
	failed := make(chan error, 3)
	go func() { failed <- s.Run(context.Background(), speaking{}) }()
	run := fmt.Sprint(os.Getpid())
	for w := range 2 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%s-%d-%d", run, w, i)
				if err := s.Put(context.Background(), itemOf(id)); err != nil {
					failed <- err
					return
				}
				fmt.Println("put", id)
			}
		}()
	}
	return <-failed
}

// speaking delivers nine of ten items.
type speaking struct{}

func (speaking) Deliver(_ context.Context, it *Item) Attempt {
	var b bytes.Buffer
	if _, err := it.Content.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), contentOf(it.ID)) {
		fmt.Println("alarm half an item was attempted:", it.ID, err)
	}
	if strings.HasSuffix(it.ID, "5") {
		return deferred(it)
	}
	fmt.Println("sent", it.ID)
	return served(it)
}

func (speaking) GiveUp(context.Context, *Item) error { return nil }

// TestKill ends a process that puts and delivers with SIGKILL, again and again on
// one spool: what it said to have taken was sent or is there, whole.
func TestKill(t *testing.T) {
	dir := t.TempDir() + "/spool"
	put, sent := map[string]bool{}, map[string]bool{}
	for range 20 {
		killed(t, dir, func(verb, rest string) {
			switch verb {
			case "put":
				put[rest] = true
			case "sent":
				sent[rest] = true
			case "alarm":
				t.Error(rest)
			}
		})
	}
	var l listener
	s, err := Open(Config{Dir: dir, Alarm: l.hear})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "alarms", l.heard(), []string{})
	here := map[string]bool{}
	for _, it := range s.List() {
		here[it.ID] = true
		whole, err := s.Get(it.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		var b bytes.Buffer
		if _, err := whole.Content.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), contentOf(it.ID)) {
			t.Errorf("%s is not what was put: %v", it.ID, err)
		}
	}
	for id := range put {
		if !here[id] && !sent[id] {
			t.Errorf("lost: %s", id)
		}
	}
	t.Logf("%d put, %d sent, %d there", len(put), len(sent), len(here))
	if len(put) == 0 || len(sent) == 0 {
		t.Error("nothing happened")
	}
}

// killed runs a child and kills it within a moment of its start, or while it
// starts.
func killed(t *testing.T, dir string, said func(verb, rest string)) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	kill := func() { _ = cmd.Process.Kill() }
	if rand.IntN(5) == 0 {
		timer = time.AfterFunc(rand.N(40*time.Millisecond), kill)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		if verb == "open" && timer == nil {
			timer = time.AfterFunc(rand.N(100*time.Millisecond), kill)
		}
		said(verb, rest)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatal("the child ended by itself:", err)
	}
}
