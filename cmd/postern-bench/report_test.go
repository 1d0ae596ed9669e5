package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern-bench/traffic"
)

// figures is a round that is easy to recognise.
func figures(rate, cpu float64) round {
	return round{
		Rate: rate, CPU: cpu, Memory: rate / 10,
		Outcome: traffic.Outcome{Taken: 100}, Session: spread{1, 2, 3}, EndToEnd: spread{4, 5, 6},
	}
}

func testReport() *report {
	r := &report{Machine: machine{2, "linux 6", "go1"}, Rounds: 3, Reuse: 1, Mail: mailFacts{PerRound: 100}}
	m1, _ := traffic.NewMessage([]byte("A: b\n"))
	m2, _ := traffic.NewMessage([]byte("A: bcdefgh\n"))
	r.describeMail([]traffic.Message{m1, m2})
	for _, rate := range []float64{900, 1200, 1000} {
		r.add("postern", 1, figures(rate, 0.5))
		r.add("postfix", 1, figures(rate/2, 2.5))
		r.add("bare hop", 1, figures(2*rate, 0.2))
		r.add("postern", 8, figures(rate, 0.5))
	}
	return r
}

func TestReport(t *testing.T) {
	r := testReport()
	var b bytes.Buffer
	r.write(&b)
	for _, want := range []string{
		"2 CPUs, linux 6, go1", "100 messages a round out of 2, mean 0.0 KB",
		"a new connection for each message",
		"2.00 times the messages/s of bare Postfix at 0.20 of its CPU, 50 % of the bare hop\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "c=8") {
		t.Errorf("a ratio to nothing:\n%s", &b)
	}
	var line []string
	for row := range strings.Lines(b.String()) {
		if f := strings.Fields(row); len(f) > 1 && f[0] == "1" && f[1] == "postern" {
			line = f
		}
	}
	if got := strings.Join(line, " "); got != "1 postern 1000 1.0 2.0 3.0 4.0 5.0 6.0 0.50 120 0 0 0" {
		t.Errorf("row: %s", got)
	}
	if r.Mail.Mean != 9 || r.Mail.P50 != 6 || r.Mail.P95 != 12 {
		t.Errorf("%+v", r.Mail)
	}
}

func TestReportMemory(t *testing.T) {
	var b bytes.Buffer
	(&report{Memory: []footprint{{What: "idle", MB: 31.6, Target: 100}, {What: "large", MB: 44, Note: "50 arrived"}}}).write(&b)
	for _, want := range []string{"idle 32 100", "large 44 50 arrived"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// What must be zero is summed, so that no median hides it.
func TestReportFault(t *testing.T) {
	r := testReport()
	if err := r.fault(); err != nil {
		t.Error(err)
	}
	lossy := figures(1000, 0.5)
	lossy.Lost = 1
	r.add("postfix", 1, lossy)
	if err := r.fault(); err != nil {
		t.Error(err)
	}
	r.add("postern", 8, lossy)
	if err := r.fault(); err == nil || !strings.Contains(err.Error(), "lost 1 messages and doubled 0 at c=8") {
		t.Error(err)
	}
}

func TestSave(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.json")
	if err := testReport().save(name); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Rows []struct {
			Peer   string
			Median map[string]any
			Rounds []map[string]any
		}
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	first := back.Rows[0]
	if first.Peer != "postern" || len(first.Rounds) != 3 || first.Median["messages_per_second"] != 1000.0 || first.Median["lost"] != 0.0 {
		t.Errorf("%+v", first)
	}
}
