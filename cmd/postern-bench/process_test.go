package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		line string
		want procStat
	}{
		{"12 (smtpd) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99", procStat{12, 7, 1270 * time.Millisecond}},
		{"12 (a) b (c) S 7 12 12 0 -1 4194560 1 2 3 4 1 0 0 0 20 0 1 0 99", procStat{12, 7, 10 * time.Millisecond}},
	} {
		if got, err := parseStat([]byte(c.line)); err != nil || got != c.want {
			t.Errorf("%q: %+v, %v", c.line, got, err)
		}
	}
	for _, line := range []string{"", "12", "12 )(", "12 (x) S 7", "x (x) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4", "12 (x) S 7 12 12 0 -1 4194560 1 2 3 4 100 x 3 4"} {
		if _, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q was read", line)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (smtpd) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99"))
	f.Add([]byte(") ("))
	f.Fuzz(func(_ *testing.T, line []byte) { _, _ = parseStat(line) })
}

func TestKilobytes(t *testing.T) {
	text := []byte("Name:\tpostern\nVmHWM:\t    2048 kB\nVmRSS: x kB\nShort:\n")
	if n, ok := kilobytes(text, "VmHWM:"); n != 2<<20 || !ok {
		t.Error(n, ok)
	}
	for _, key := range []string{"VmRSS:", "Short:", "Pss:"} {
		if n, ok := kilobytes(text, key); ok {
			t.Error(key, n)
		}
	}
}

// A process tree's time includes children that run and children that have ended.
func TestProcessTree(t *testing.T) {
	command := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo; read x & read y; wait`)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // the child has ended
		t.Fatal(err)
	}
	if cpu, err := cpuTime(command.Process.Pid); err != nil || cpu == 0 {
		t.Errorf("%v, %v", cpu, err)
	}
	if n, err := memory(command.Process.Pid); err != nil || n == 0 {
		t.Errorf("%v, %v", n, err)
	}
	_ = in.Close()
	_ = command.Wait()
	if _, err := cpuTime(command.Process.Pid); err == nil {
		t.Error("a process that has ended has a time")
	}
}

func TestOwnMemory(t *testing.T) {
	self := os.Getpid()
	peak, err := peakMemory(self)
	if err != nil || peak < 1<<20 {
		t.Errorf("%d, %v", peak, err)
	}
	if err := resetPeak(self); err != nil {
		t.Error(err)
	}
	s := newSampler(self)
	if n := s.end(); n < 1<<20 {
		t.Errorf("sampled %d", n)
	}
	if ownCPU() <= 0 {
		t.Error("no time at all")
	}
}
