package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"postern/cmd/postern-bench/traffic"
)

// report is what a run found.
type report struct {
	Machine machine     `json:"machine"`
	Mail    mailFacts   `json:"mail"`
	Rounds  int         `json:"rounds"`
	Reuse   int         `json:"messages_per_connection"`
	Rows    []row       `json:"rows,omitempty"`
	Memory  []footprint `json:"memory,omitempty"`
	Strays  int64       `json:"strays"` // messages at the sink that nobody sent, such as bounces
}

type machine struct {
	CPUs   int    `json:"cpus"`
	System string `json:"system"`
	Go     string `json:"go"`
}

type mailFacts struct {
	Distinct int     `json:"distinct"` // messages that differ
	Aside    int     `json:"aside"`    // that Postern refuses or holds, and that were not sent again
	PerRound int     `json:"per_round"`
	Mean     float64 `json:"mean_bytes"`
	P50      int     `json:"p50_bytes"`
	P95      int     `json:"p95_bytes"`
}

// row is one peer at one concurrency: medians of its rounds, but sums of what
// must be zero and the highest peak of memory.
type row struct {
	Peer        string  `json:"peer"`
	Concurrency int     `json:"concurrency"`
	Median      round   `json:"median"`
	Rounds      []round `json:"rounds"`
}

func newReport(b *bench) *report {
	return &report{
		Machine: machine{runtime.NumCPU(), kernel(), runtime.Version()},
		Mail:    mailFacts{PerRound: b.N}, Rounds: b.Rounds, Reuse: b.Reuse,
	}
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(release))
}

func (r *report) describeMail(list []traffic.Message) {
	sizes := make([]int, len(list))
	for i, m := range list {
		sizes[i] = m.Size
	}
	slices.Sort(sizes)
	r.Mail.Distinct, r.Mail.Mean = len(list), traffic.MeanSize(list)
	r.Mail.P50, r.Mail.P95 = percentile(sizes, 0.50), percentile(sizes, 0.95)
}

// add adds a round to its row.
func (r *report) add(peer string, c int, m round) {
	at := slices.IndexFunc(r.Rows, func(w row) bool { return w.Peer == peer && w.Concurrency == c })
	if at < 0 {
		r.Rows = append(r.Rows, row{Peer: peer, Concurrency: c})
		at = len(r.Rows) - 1
	}
	w := &r.Rows[at]
	w.Rounds = append(w.Rounds, m)
	w.Median = summary(w.Rounds)
}

// summary is one round that stands for all.
func summary(rounds []round) round {
	s := round{
		Rate: medianBy(rounds, func(r round) float64 { return r.Rate }),
		CPU:  medianBy(rounds, func(r round) float64 { return r.CPU }),
		Own:  medianBy(rounds, func(r round) float64 { return r.Own }),
	}
	s.Session = medianSpread(rounds, func(r round) spread { return r.Session })
	s.EndToEnd = medianSpread(rounds, func(r round) spread { return r.EndToEnd })
	for _, r := range rounds {
		s.Memory = max(s.Memory, r.Memory)
		s.Taken += r.Taken
		s.Refused += r.Refused
		s.Lost += r.Lost
		s.Doubled += r.Doubled
	}
	return s
}

// find is a peer's row at a concurrency, or nil.
func (r *report) find(peer string, c int) *row {
	for i := range r.Rows {
		if r.Rows[i].Peer == peer && r.Rows[i].Concurrency == c {
			return &r.Rows[i]
		}
	}
	return nil
}

// write is the report for people.
func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "machine  %d CPUs, %s, %s\n", r.Machine.CPUs, r.Machine.System, r.Machine.Go)
	if len(r.Rows) > 0 {
		r.writeRows(w)
	}
	if len(r.Memory) > 0 {
		writeMemory(w, r.Memory)
	}
}

func (r *report) writeRows(w io.Writer) {
	m := r.Mail
	fmt.Fprintf(w, "mail     %d messages a round out of %d, mean %.1f KB, median %.1f KB, 95 %% up to %.1f KB; %d set aside\n",
		m.PerRound, m.Distinct, m.Mean/1e3, float64(m.P50)/1e3, float64(m.P95)/1e3, m.Aside)
	fmt.Fprintf(w, "rounds   %d of each, medians; %s; session: until the final reply, end to end: until at the sink\n\n", r.Rounds, perConnection(r.Reuse))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "c\tpeer\tmessages/s\tsession ms p50\tp95\tp99\tend to end ms p50\tp95\tp99\tCPU s/1000\tpeak MB\trefused\tlost\tdoubled\t")
	for _, row := range r.Rows {
		m := row.Median
		fmt.Fprintf(t, "%d\t%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.0f\t%d\t%d\t%d\t\n", row.Concurrency, row.Peer, m.Rate,
			m.Session.P50, m.Session.P95, m.Session.P99, m.EndToEnd.P50, m.EndToEnd.P95, m.EndToEnd.P99,
			m.CPU, m.Memory, m.Refused, m.Lost, m.Doubled)
	}
	_ = t.Flush() // as all writing here: a report that can't be shown is seen to be missing
	r.writeRatios(w)
	if r.Strays > 0 {
		fmt.Fprintf(w, "\n%d messages came to the sink that nobody sent in that round\n", r.Strays)
	}
}

func perConnection(n int) string {
	if n == 1 {
		return "a new connection for each message"
	}
	return fmt.Sprintf("%d messages in a connection", n)
}

// writeRatios compares Postern with each of the others.
func (r *report) writeRatios(w io.Writer) {
	fmt.Fprintln(w)
	for i := range r.Rows {
		ours := &r.Rows[i]
		if ours.Peer != "postern" {
			continue
		}
		var parts []string
		if p := r.find("postfix", ours.Concurrency); p != nil && ours.Median.CPU > 0 {
			parts = append(parts, fmt.Sprintf("%.2f times the messages/s of bare Postfix at %.2f of its CPU",
				ours.Median.Rate/p.Median.Rate, ours.Median.CPU/p.Median.CPU))
		}
		if p := r.find("bare hop", ours.Concurrency); p != nil {
			parts = append(parts, fmt.Sprintf("%.0f %% of the bare hop", 100*ours.Median.Rate/p.Median.Rate))
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, "c=%-3d  postern: %s\n", ours.Concurrency, strings.Join(parts, ", "))
		}
	}
}

func writeMemory(w io.Writer, list []footprint) {
	fmt.Fprintf(w, "\n%-32s %8s %8s\n", "memory of postern", "peak MB", "target")
	for _, f := range list {
		target := ""
		if f.Target > 0 {
			target = fmt.Sprintf("%.0f", f.Target)
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-32s %8.0f %8s  %s", f.What, f.MB, target, f.Note), " "))
	}
}

// save writes the report as JSON.
func (r *report) save(name string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// fault is why the run as a whole has failed: Postern lost mail or doubled it.
func (r *report) fault() error {
	for _, row := range r.Rows {
		if row.Peer == "postern" && row.Median.Lost+row.Median.Doubled > 0 {
			return fmt.Errorf("postern lost %d messages and doubled %d at c=%d", row.Median.Lost, row.Median.Doubled, row.Concurrency)
		}
	}
	return nil
}
