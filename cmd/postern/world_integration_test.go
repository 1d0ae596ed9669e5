//go:build integration

// Package main_test drives the built program as a stranger would: through the
// configuration file, SMTP, the command line, the JSON and the header fields
// that are promised, and nothing else. It is a package of its own so that it
// can't do otherwise.
package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

// buildAndRun builds as the Makefile does. The tests wait more than they work,
// so that more of them run at once than there are processors.
func buildAndRun(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "postern-built")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "postern")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what has to come. The machine may be
// busy; when it is not, nothing takes nearly as long.
const patience = 60 * time.Second

// eventually waits until what says true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}

// freeAddress is a loopback address that only this process uses, and only once:
// a server that a test stops finds its port free when it starts again.
func freeAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+pid>>16&0x3f, pid>>8&0xff, pid&0xff, 20000+nextPort.Add(1))
}

var nextPort atomic.Int32

// folder is a new folder whose path is short enough for a socket in it, and
// that other users may enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// world is one Postern, with its configuration and its state.
type world struct {
	t       *testing.T
	dir     string
	file    string // the configuration
	state   string
	mx      string
	metrics string
	served  *served // nil while nothing runs
	log     *notes  // of the gateway that was started last
}

// newWorld makes a world whose configuration is the necessary and settings.
func newWorld(t *testing.T, settings string) *world {
	t.Helper()
	dir := folder(t)
	w := &world{
		t: t, dir: dir, file: filepath.Join(dir, "postern.toml"), state: filepath.Join(dir, "state"),
		mx: freeAddress(), metrics: freeAddress(),
	}
	w.configure(settings)
	t.Cleanup(func() {
		w.kill()
		if t.Failed() && w.log != nil {
			t.Logf("the gateway's log:\n%s", w.log.tail())
		}
	})
	return w
}

// configure writes the configuration. The DNS server is none, so that no test
// asks the Internet.
func (w *world) configure(settings string) {
	w.t.Helper()
	writeFile(w.t, w.file, fmt.Sprintf(`hostname = "mx.example.com"
state = %q
dns.servers = ["127.0.0.1:1"]
[listen]
mx = [%q]
metrics = %q
console = ""
%s`, w.state, w.mx, w.metrics, settings))
}

// with is the same world for a subtest.
func (w *world) with(t *testing.T) *world {
	c := *w
	c.t = t
	return &c
}

// domain is the configuration of example.com in front of a server inside.
func domain(in *inside, more string) string {
	return fmt.Sprintf("[domains.\"example.com\"]\ndeliver_to = [%q]\nrecipients = \"any\"\n%s\n", in.address, more)
}

// served is a gateway that runs.
type served struct {
	cmd    *exec.Cmd
	log    *notes
	exited chan struct{}
}

// spawn starts the gateway and does not wait until it is ready.
func (w *world) spawn() *served {
	w.t.Helper()
	s := &served{cmd: exec.Command(binary, "serve", "--config", w.file), log: &notes{}, exited: make(chan struct{})}
	s.cmd.Stderr, s.cmd.Stdout = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // its state is looked at
		close(s.exited)
	}()
	w.served, w.log = s, s.log
	return s
}

// start starts the gateway and waits until it says that it is ready.
func (w *world) start() {
	w.t.Helper()
	s := w.spawn()
	eventually(w.t, "the gateway is ready", func() bool {
		select {
		case <-s.exited:
			w.t.Fatalf("the gateway ended by itself:\n%s", s.log.tail())
		default:
		}
		return strings.Contains(s.log.String(), "msg=ready")
	})
}

// stop asks the gateway to end, and returns its exit code.
func (w *world) stop() int {
	w.t.Helper()
	s := w.served
	w.signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(patience):
		w.t.Fatalf("the gateway does not end:\n%s", s.log.tail())
	}
	w.served = nil
	return s.cmd.ProcessState.ExitCode()
}

func (w *world) signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.served.cmd.Process.Signal(s); err != nil {
		w.t.Fatal(err)
	}
}

// kill ends the gateway as a crash would.
func (w *world) kill() {
	if w.served == nil {
		return
	}
	_ = w.served.cmd.Process.Kill() // it may have ended
	<-w.served.exited
	w.served = nil
}

// run carries out a command on the world's configuration.
func (w *world) run(args ...string) (out, errs string, code int) {
	w.t.Helper()
	return runProgram(w.t, append(args, "--config", w.file)...)
}

func runProgram(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// must carries out a command that has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, errs, code := w.run(args...)
	if code != 0 {
		w.t.Fatalf("postern %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// mustFail carries out a command that has to end with 1, and returns what it
// said of it.
func (w *world) mustFail(args ...string) string {
	w.t.Helper()
	out, errs, code := w.run(args...)
	if code != 1 || !strings.HasPrefix(errs, "postern: ") {
		w.t.Errorf("postern %s: exit code %d, want 1\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return errs
}

// object is one line of JSON.
type object map[string]any

func (o object) text(key string) string { s, _ := o[key].(string); return s }

func (o object) texts(key string) (list []string) {
	items, _ := o[key].([]any)
	for _, item := range items {
		s, _ := item.(string)
		list = append(list, s)
	}
	return list
}

// objects carries out a command that writes JSON, one object a line.
func (w *world) objects(args ...string) []object {
	w.t.Helper()
	return parseObjects(w.t, w.must(append(args, "--json")...))
}

func parseObjects(t *testing.T, out string) (list []object) {
	t.Helper()
	for line := range strings.Lines(out) {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		list = append(list, o)
	}
	return list
}

// has holds an object to the keys that are promised.
func (o object) has(t *testing.T, keys string) {
	t.Helper()
	for _, key := range strings.Fields(keys) {
		if value, has := o[key]; !has || value == nil {
			t.Errorf("no %q in %v", key, o)
		}
	}
}

// get asks the metrics' listener.
func (w *world) get(path string) (status int, body string) {
	w.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + w.metrics + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// notes keeps what a process says.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

// tail is the end of it, for a test that failed.
func (n *notes) tail() string {
	lines := strings.Split(strings.TrimSpace(n.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// pause is the least time between two tries of something that failed.
func pause() { time.Sleep(10 * time.Millisecond) }
