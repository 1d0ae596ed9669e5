//go:build integration

package filtertest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is a real engine that a test started on addresses of its own. It is
// stopped when the test ends.
type Daemon struct {
	TCP  string // "tcp:127.0.0.1:port"
	Unix string // "unix:/path"

	tb      testing.TB
	name    string
	args    []string
	folder  string
	ask     func(network, address string) error
	process *exec.Cmd
	exited  chan struct{} // closed when the process has ended
	log     *output
}

// newDaemon finds the program and chooses its addresses. That a daemon is not
// installed fails the test: an engine that was not tested is not tested.
func newDaemon(tb testing.TB, name string) *Daemon {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		// Not every user's PATH holds the folder that Debian puts daemons in.
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		tb.Fatalf("%s is not installed, and this test needs it: %v", name, err)
	}
	// Not tb.TempDir, whose paths are too long for a socket.
	folder, err := os.MkdirTemp("", name)
	if err != nil {
		tb.Fatal(err)
	}
	d := &Daemon{
		tb: tb, name: path, folder: folder,
		TCP:  "tcp:" + freeAddress(tb),
		Unix: "unix:" + filepath.Join(folder, "socket"),
	}
	tb.Cleanup(func() {
		d.Stop()
		_ = os.RemoveAll(folder)
	})
	return d
}

// freeAddress is a port that nobody listened on a moment ago.
func freeAddress(tb testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (d *Daemon) tcp() string  { return strings.TrimPrefix(d.TCP, "tcp:") }
func (d *Daemon) unix() string { return strings.TrimPrefix(d.Unix, "unix:") }

// ready is how long a daemon may take until it answers.
const ready = 60 * time.Second

// Start starts the daemon, again where it was stopped, on the same addresses,
// and waits until it answers on both.
func (d *Daemon) Start() {
	d.tb.Helper()
	d.Spawn()
	until := time.Now().Add(ready)
	for _, a := range []struct{ network, address string }{{"tcp", d.tcp()}, {"unix", d.unix()}} {
		for d.ask(a.network, a.address) != nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-d.exited:
				d.tb.Fatalf("%s ended:\n%s", d.name, d.log)
			}
			if time.Now().After(until) {
				d.tb.Fatalf("%s does not answer on %s:\n%s", d.name, a.address, d.log)
			}
		}
	}
}

// Spawn starts the daemon and does not wait until it answers.
func (d *Daemon) Spawn() {
	d.tb.Helper()
	_ = os.Remove(d.unix())
	d.log = &output{}
	d.process = exec.Command(d.name, d.args...)
	d.process.Dir = d.folder
	d.process.Stdout, d.process.Stderr = d.log, d.log
	// A group of its own, so that its children end with it.
	d.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.process.Start(); err != nil {
		d.tb.Fatalf("start %s: %v", d.name, err)
	}
	d.exited = make(chan struct{})
	go func(process *exec.Cmd, exited chan struct{}) {
		_ = process.Wait()
		close(exited)
	}(d.process, d.exited)
}

// Stop ends the daemon with all its children, in the middle of whatever it does,
// as a crash would.
func (d *Daemon) Stop() {
	if d.process == nil {
		return
	}
	_ = syscall.Kill(-d.process.Process.Pid, syscall.SIGKILL)
	<-d.exited
	d.process = nil
}

// Pause stops the daemon's time: it accepts connections and never answers.
// Resume lets it go on.
func (d *Daemon) Pause() { d.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (d *Daemon) Resume() { d.signal(syscall.SIGCONT) }

func (d *Daemon) signal(s syscall.Signal) {
	d.tb.Helper()
	if err := syscall.Kill(-d.process.Process.Pid, s); err != nil {
		d.tb.Fatalf("signal %s: %v", d.name, err)
	}
}

// Log is what the daemon said since it was started.
func (d *Daemon) Log() string { return d.log.String() }

// exchange sends a request on a new connection and reads as much as want is
// long.
func exchange(network, address, request, want string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%q instead of %q", got, want)
	}
	return nil
}

// output keeps what a daemon writes.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
