package filtertest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern/gateway/mail"
)

// harmless is a filter that keeps to the contract.
type harmless struct{}

func (harmless) Check(ctx context.Context, _ *mail.Message, _ []mail.Result) ([]mail.Result, error) {
	return []mail.Result{{Symbol: "HARMLESS", Evidence: "nothing"}}, nil
}

func TestRun(t *testing.T) { Run(t, func() Filter { return harmless{} }) }

func TestRepeated(t *testing.T) {
	for _, size := range []int64{0, 1, int64(len(repeatedHeader)), 1000, 300_000} {
		c := Repeated(size)
		var b bytes.Buffer
		if n, err := c.WriteTo(&b); err != nil || n != size || int64(b.Len()) != size {
			t.Errorf("%d octets: %d, %v", size, n, err)
		}
		if err := iotest.TestReader(mail.NewReader(c), b.Bytes()); err != nil {
			t.Errorf("%d octets: %v", size, err)
		}
		if _, err := c.ReadAt(make([]byte, 1), size); err != io.EOF {
			t.Errorf("%d octets: behind the end: %v", size, err)
		}
	}
	var b bytes.Buffer
	_, _ = Repeated(1000).WriteTo(&b)
	if !strings.Contains(b.String(), "\r\n\r\n00000000 the") || !strings.Contains(b.String(), "\r\n00000013 the") {
		t.Errorf("%q", b.String())
	}
}

func TestWellFormed(t *testing.T) {
	good := []mail.Result{
		{},
		{Symbol: "A_1", Evidence: "é"},
		{Symbol: "A", Points: 1, HasPoints: true},
		{Symbol: "A_LIMIT", Fault: mail.FaultMessage},
		{Symbol: "A_UNSCANNABLE", Fault: mail.FaultMessage},
		{Description: "only informs"},
	}
	WellFormed(t, good)
	bad := []mail.Result{
		{Symbol: "A B"},
		{Symbol: strings.Repeat("A", 129)},
		{HasPoints: true},
		{Symbol: "A", Points: 1},
		{Fault: mail.FaultEngine},
		{Fault: mail.FaultMessage},
		{Symbol: "A", Fault: mail.FaultMessage},
		{Symbol: "A", Evidence: "\n"},
		{Symbol: "A", Evidence: strings.Repeat("x", maxEvidence+1)},
		{Symbol: "A", Description: "\x1b"},
		{Symbol: "A", Description: strings.Repeat("x", maxDescription+1)},
	}
	for _, r := range bad {
		probe := &recorder{TB: t}
		WellFormed(probe, []mail.Result{r})
		if !probe.failed {
			t.Errorf("taken: %.200v", r)
		}
	}
}

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestTestStrings(t *testing.T) {
	if n := len(EICAR()); n != 68 || !strings.Contains(EICAR(), "STANDARD-ANTIVIRUS-TEST-FILE!") {
		t.Errorf("EICAR is %d octets", n)
	}
	if n := len(GTUBE()); n != 68 || strings.Contains(GTUBE(), "_") {
		t.Errorf("GTUBE is %d octets", n)
	}
}
