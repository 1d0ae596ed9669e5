package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/cmd/postern-bench/traffic"
)

// peer is a server under test, running.
type peer struct {
	name    string
	address string
	tree    bool // it is many processes
	command *exec.Cmd
	ended   chan error
	end     func() error // asks it to end
	log     string       // the file with what it said
}

// startTime and stopTime bound how long a peer takes to be there and to be gone.
const (
	startTime = 20 * time.Second
	stopTime  = 40 * time.Second
)

// place is where a peer is set up.
type place struct {
	dir    string // its own
	inside string // the address of the sink
}

// start runs the peer's command and waits until it greets.
func (p *peer) start(ctx context.Context, dir string) error {
	p.log = filepath.Join(dir, p.name+".log")
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	p.command.Stdout, p.command.Stderr = log, log
	if p.end == nil {
		p.end = func() error { return p.command.Process.Signal(syscall.SIGTERM) }
	}
	if err := p.command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.ended = make(chan error, 1)
	go func() { p.ended <- p.command.Wait() }()
	if err := p.awaitGreeting(ctx); err != nil {
		return fmt.Errorf("start %s: %w%s", p.name, errors.Join(err, p.stop()), p.lastWords())
	}
	return nil
}

func (p *peer) awaitGreeting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		c := traffic.Client{To: p.address}
		if c.Open() == nil {
			c.Quit()
			return nil
		}
		c.Drop()
		select {
		case err := <-p.ended:
			p.ended <- err
			return errors.Join(errors.New("it has ended"), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lastWords are the end of the peer's log.
func (p *peer) lastWords() string {
	text, _ := os.ReadFile(p.log) // none: then it said nothing
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// stop ends the peer and waits until it is gone.
func (p *peer) stop() error {
	_ = p.end() // it may have ended by itself
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTime):
	}
	_ = p.command.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s did not end by itself", p.name)
}

// resetPeak forgets what the peer had in memory before.
func (p *peer) resetPeak() error { return resetPeak(p.command.Process.Pid) }

// freeAddress is one on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// newHop is this program as the bare hop.
func newHop(at place) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return &peer{name: "bare hop", address: address, command: exec.Command(self, "--hop", address, "--inside", at.inside)}, nil
}

// newPostern is the gateway on its defaults: only names, addresses and the
// folder are said.
func newPostern(at place, binary, extra string) (*peer, error) {
	var addresses [3]string
	for i := range addresses {
		var err error
		if addresses[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	more := ""
	if extra != "" {
		b, err := os.ReadFile(extra)
		if err != nil {
			return nil, err
		}
		more = string(b)
	}
	file := filepath.Join(at.dir, "postern.toml")
	if err := os.WriteFile(file, []byte(posternConfig(at, addresses[0], addresses[1])+more), 0o600); err != nil {
		return nil, err
	}
	command := exec.Command(binary, "serve", "--config", file)
	return &peer{name: "postern", address: addresses[0], command: command}, nil
}

func posternConfig(at place, mx, metrics string) string {
	return fmt.Sprintf(`hostname = "mx.%s"
state = %q
listen.mx = [%q]
listen.metrics = %q
[domains.%q]
deliver_to = [%q]
recipients = "verify"
`, traffic.Domain, filepath.Join(at.dir, "state"), mx, metrics, traffic.Domain, at.inside)
}

// kept is how many messages Postern says it holds.
func kept(binary, dir string) (int, error) {
	out, err := exec.Command(binary, "quarantine", "list", "--json", "--config", filepath.Join(dir, "postern.toml")).Output()
	if err != nil {
		return 0, fmt.Errorf("quarantine list: %w", err)
	}
	return strings.Count(string(out), "\n"), nil
}
