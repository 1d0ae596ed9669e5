package house

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern/config"
)

// A door that can't be opened is said, and what was opened before is closed
// again: the next start finds all as it was.
func TestDoorsThatStayShut(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name   string
		change func(*config.Config)
		want   string
	}{
		{"mx", func(c *config.Config) { c.Listen.MX = append(c.Listen.MX, taken.Addr().String()) }, "address already in use"},
		{"metrics", func(c *config.Config) { c.Listen.Metrics = taken.Addr().String() }, "listen.metrics"},
		{"control", func(c *config.Config) { c.State = filepath.Join(c.State, strings.Repeat("x", 100)) }, "control socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "postern") // t.TempDir is too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			good := config.Default()
			good.Hostname, good.State = "mx.example.com", dir
			good.Listen = config.Listen{MX: []string{"127.0.0.1:0"}}
			bad := *good
			test.change(&bad)
			log := slog.New(slog.DiscardHandler)
			if _, err := Start(t.Context(), &bad, log); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			var hint Hint
			if _, err := Start(t.Context(), &bad, log); test.name == "mx" && !errors.As(err, &hint) {
				t.Errorf("no hint with %v", err)
			}
			d, err := Start(t.Context(), good, log)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.End(); err != nil {
				t.Error(err)
			}
		})
	}
}
