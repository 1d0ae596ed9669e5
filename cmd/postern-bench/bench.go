package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"postern/cmd/postern-bench/traffic"
)

// patience is how long nothing may arrive before the rest counts as lost.
const patience = 15 * time.Second

// round is one measurement.
type round struct {
	traffic.Outcome
	Session  spread  `json:"session"`
	EndToEnd spread  `json:"end_to_end"`
	Rate     float64 `json:"messages_per_second"`
	CPU      float64 `json:"cpu_seconds_per_1000"`
	Memory   float64 `json:"memory_mb"`                  // the peak
	Own      float64 `json:"bench_cpu_seconds_per_1000"` // the sender's and the sink's
}

// bench is one run of the program.
type bench struct {
	options
	dir      string // temporary
	sink     *traffic.Sink
	mail     []traffic.Message
	peers    []*peer
	rounds   int // made so far: the number in the tokens
	progress io.Writer
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// newBench prepares the sink; peers and mail come later.
func newBench(o options, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp(o.Temp, "postern-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's processes have a user of their own
		return nil, err
	}
	s, err := traffic.Listen()
	return &bench{options: o, dir: dir, sink: s, progress: progress}, err
}

// close stops what runs and removes what was written.
func (b *bench) close() error {
	var errs []error
	for _, p := range b.peers {
		errs = append(errs, p.stop())
	}
	if b.sink != nil {
		errs = append(errs, b.sink.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// readMail reads, unpacks or makes the messages.
func (b *bench) readMail() (err error) {
	archives, _ := filepath.Glob(filepath.Join(b.Corpus, "*.tar.xz")) // fails only on a malformed pattern
	mean := b.Mean
	switch {
	case b.Mail != "":
		b.mail, err = traffic.ReadFolder(b.Mail, b.N)
	case len(archives) > 0:
		dir := filepath.Join(b.dir, "mail")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		for _, a := range archives {
			b.say("unpacking %s", a)
			if out, err := exec.Command("tar", "-xJf", a, "-C", dir).CombinedOutput(); err != nil {
				return fmt.Errorf("unpack %s: %w: %s", a, err, out)
			}
		}
		b.mail, err = traffic.ReadFolder(dir, b.N)
	default:
		b.say("no messages in %s: making some", b.Corpus)
		b.mail = traffic.Generate(b.N)
	}
	if mean < 0 && b.Mail == "" {
		mean = plannedMean
	}
	traffic.RaiseMean(b.mail, float64(mean))
	return err
}

// makePlace makes a peer's folder.
func (b *bench) makePlace(name string) (place, error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return place{dir, b.sink.Address()}, err
}

// startPeer sets one up and starts it.
func (b *bench) startPeer(ctx context.Context, name string) (p *peer, at place, err error) {
	if at, err = b.makePlace(name); err != nil {
		return nil, at, err
	}
	switch name {
	case "postern":
		p, err = newPostern(at, b.Postern, b.Extra)
	case "postfix":
		p, err = newPostfix(at)
	case "hop":
		p, err = newHop(at)
	default:
		err = fmt.Errorf("%q is no peer: postern, postfix, hop", name)
	}
	if err != nil {
		return nil, at, err
	}
	if err := p.start(ctx, at.dir); err != nil {
		return nil, at, err
	}
	b.peers = append(b.peers, p)
	return p, at, nil
}

// newRound makes the ledger for n messages and shows it to the sink.
func (b *bench) newRound(n int) *traffic.Ledger {
	b.rounds++
	l := traffic.NewLedger(b.rounds, n)
	b.sink.Count(l)
	return l
}

// sift sends every message through Postern once and sets aside what it refuses
// or holds: a relay passes these, so that they measure nothing on both sides. It
// also warms Postern up. What is neither refused nor held and does not arrive is
// lost, and a fault.
func (b *bench) sift(p *peer, dir string) (aside int, err error) {
	l := b.newRound(len(b.mail))
	traffic.Load{To: p.address, Concurrency: 8, Reuse: 1, Mail: b.mail}.Send(l)
	held, err := kept(b.Postern, dir)
	if err != nil {
		return 0, err
	}
	for start := time.Now(); time.Since(start) < patience; time.Sleep(10 * time.Millisecond) {
		if l.Outcome().Lost <= held {
			break
		}
	}
	o := l.Outcome()
	if o.Lost > held {
		return 0, fmt.Errorf("postern took %d messages that neither arrived nor are held; %d arrived that nobody sent; it said:%s",
			o.Lost-held, b.sink.Strays(), p.lastWords())
	}
	if o.Refused > 0 {
		b.say("  %d refused, such as: %s", o.Refused, l.Refusal())
	}
	var pass []traffic.Message
	for i, m := range b.mail {
		if l.Arrived(i) {
			pass = append(pass, m)
		}
	}
	if len(pass) < len(b.mail)/2 {
		return 0, fmt.Errorf("postern passed only %d of %d messages", len(pass), len(b.mail))
	}
	aside = len(b.mail) - len(pass)
	b.mail = pass
	return aside, nil
}

// measure makes one round.
func (b *bench) measure(p *peer, c int) (r round, err error) {
	pid := p.command.Process.Pid
	if err := p.resetPeak(); err != nil {
		return r, err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return r, err
	}
	own := ownCPU()
	watch := newSampler(pid)
	l := b.newRound(b.N)
	traffic.Load{To: p.address, Concurrency: c, Reuse: b.Reuse, Mail: b.mail}.Send(l)
	l.Wait(patience)
	own = ownCPU() - own
	time.Sleep(b.Settle)
	bytes := watch.end()
	after, err := cpuTime(pid)
	if err != nil {
		return r, err
	}
	if !p.tree {
		if bytes, err = peakMemory(pid); err != nil {
			return r, err
		}
	}
	r.Outcome = l.Outcome()
	r.Session, r.EndToEnd = newSpread(r.Outcome.Session), newSpread(r.Outcome.EndToEnd)
	n := float64(max(1, r.Taken))
	r.Rate = float64(r.Taken) / r.Elapsed.Seconds()
	r.CPU, r.Own = (after-before).Seconds()/n*1000, own.Seconds()/n*1000
	r.Memory = float64(bytes) / 1e6
	return r, nil
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // can't fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run measures all peers, in turn within each round: what else the machine does
// meanwhile then falls on all of them.
func (b *bench) run(ctx context.Context) (*report, error) {
	if err := b.readMail(); err != nil {
		return nil, err
	}
	r := newReport(b)
	for _, name := range b.Peers {
		p, at, err := b.startPeer(ctx, name)
		if err != nil {
			return nil, err
		}
		if name == "postern" {
			b.say("sending %d messages once through postern, to see which it passes", len(b.mail))
			if r.Mail.Aside, err = b.sift(p, at.dir); err != nil {
				return nil, err
			}
		}
	}
	r.describeMail(b.mail)
	for _, c := range b.Concurrency {
		for i := range b.Rounds {
			if err := b.everyPeer(ctx, r, c, i); err != nil {
				return nil, err
			}
		}
	}
	r.Strays = b.sink.Strays()
	return r, nil
}

// everyPeer makes round i of one concurrency; every other round goes the other
// way round.
func (b *bench) everyPeer(ctx context.Context, r *report, c, i int) error {
	order := slices.Clone(b.peers)
	if i%2 == 1 {
		slices.Reverse(order)
	}
	for _, p := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := b.measure(p, c)
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
		b.say("c=%-3d round %d/%d  %-9s %6.0f messages/s  %.2f CPU s/1000", c, i+1, b.Rounds, p.name, m.Rate, m.CPU)
		r.add(p.name, c, m)
	}
	return nil
}
