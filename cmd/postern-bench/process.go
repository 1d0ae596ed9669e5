package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what /proc counts CPU time in: Linux gives user space 100 a second on
// every architecture that Go runs on.
const tick = time.Second / 100

// procStat is what is read from /proc/PID/stat (proc(5)).
type procStat struct {
	pid, parent int
	cpu         time.Duration // its own, and that of its children that have ended
}

// parseStat reads one line. The command's name stands in brackets and may hold
// anything, brackets too.
func parseStat(line []byte) (procStat, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("malformed stat line %q", line)
	}
	fields := strings.Fields(string(line[end+1:])) // from the third on: state, ppid …
	if len(fields) < 15 {
		return procStat{}, fmt.Errorf("short stat line %q", line)
	}
	var numbers [6]int
	for i, text := range append([]string{strings.TrimSpace(string(line[:open])), fields[1]}, fields[11:15]...) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return procStat{}, fmt.Errorf("stat line: %w", err)
		}
		numbers[i] = n
	}
	ticks := numbers[2] + numbers[3] + numbers[4] + numbers[5] // utime, stime, cutime, cstime
	return procStat{pid: numbers[0], parent: numbers[1], cpu: time.Duration(ticks) * tick}, nil
}

// processTree is a process and all below it.
func processTree(root int) (list []procStat, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]procStat{}
	for _, name := range files {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parseStat(line)
		if err != nil {
			return nil, err
		}
		if s.pid == root {
			list = append(list, s)
		}
		children[s.parent] = append(children[s.parent], s)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("process %d has ended", root)
	}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i].pid]...)
	}
	return list, nil
}

// cpuTime is what a process and all below it have used since they began, those
// that have ended included: their parents count them.
func cpuTime(root int) (sum time.Duration, err error) {
	tree, err := processTree(root)
	for _, s := range tree {
		sum += s.cpu
	}
	return sum, err
}

// memory is what a process and all below it hold in memory, in bytes; what
// several share is counted once.
func memory(root int) (sum int64, err error) {
	tree, err := processTree(root)
	if err != nil {
		return 0, err
	}
	for _, s := range tree {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		n, _ := kilobytes(rollup, "Pss:") // absent for what is ending
		sum += n
	}
	return sum, nil
}

// peakMemory is the most that one process ever had in memory since it began or
// since resetPeak, in bytes.
func peakMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	n, ok := kilobytes(status, "VmHWM:")
	if !ok {
		return 0, fmt.Errorf("process %d: no VmHWM", pid)
	}
	return n, nil
}

// resetPeak makes peakMemory begin anew (proc(5), clear_refs).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// kilobytes reads a line such as "VmHWM:  123 kB"; the value is in bytes.
func kilobytes(text []byte, key string) (int64, bool) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) != 2 {
			return 0, false
		}
		n, err := strconv.ParseInt(string(fields[0]), 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// sampler watches the memory of a process tree: no peak is kept for a tree.
type sampler struct {
	stop chan struct{}
	peak chan int64
}

// sampleEvery is seldom enough to cost next to nothing.
const sampleEvery = 200 * time.Millisecond

func newSampler(root int) *sampler {
	s := &sampler{stop: make(chan struct{}), peak: make(chan int64, 1)}
	go func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		var peak int64
		for {
			if n, err := memory(root); err == nil {
				peak = max(peak, n)
			}
			select {
			case <-s.stop:
				s.peak <- peak
				return
			case <-ticker.C:
			}
		}
	}()
	return s
}

// end returns the largest sample.
func (s *sampler) end() int64 {
	close(s.stop)
	return <-s.peak
}
