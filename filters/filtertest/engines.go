//go:build integration

package filtertest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What clamd finds beside EICAR in StartClamd's signatures. clamd adds
// ".UNOFFICIAL" to the name of each signature that is not out of a signed
// database, so only names of test files count as the engine's own.
const (
	MarkTestFile   = "POSTERN-MARK-TEST-FILE" // Postern.Test-File: CLAMAV_VIRUS
	MarkUnofficial = "POSTERN-MARK-MALWARE"   // Postern.Malware: CLAMAV_UNOFFICIAL
	MarkPUA        = "POSTERN-MARK-UNWANTED"  // PUA.Postern.Tool: CLAMAV_PUA
	MarkHeuristic  = "POSTERN-MARK-STRANGE"   // Heuristics.Postern.Shape: CLAMAV_HEURISTIC
)

// Clamd says what is special about a clamd of a test. The zero Clamd is the
// usual one.
type Clamd struct {
	StreamMaxLength string   // "1M"; "" is 100M
	Lines           []string // more of clamd.conf
}

// StartClamd starts a real clamd with a small signature database of its own, and
// waits until it answers.
func StartClamd(tb testing.TB, c Clamd) *Daemon {
	tb.Helper()
	d := newDaemon(tb, "clamd")
	database := filepath.Join(d.folder, "db")
	if err := os.Mkdir(database, 0o755); err != nil {
		tb.Fatal(err)
	}
	write(tb, filepath.Join(database, "test.ndb"), signatures())
	if c.StreamMaxLength == "" {
		c.StreamMaxLength = "100M"
	}
	host, port, _ := strings.Cut(d.tcp(), ":")
	lines := append([]string{
		"Foreground yes", "User " + user(), "DatabaseDirectory " + database,
		"TemporaryDirectory " + d.folder, "LocalSocket " + d.unix(), "FixStaleSocket yes",
		"TCPAddr " + host, "TCPSocket " + port, "MaxThreads 10",
		"StreamMaxLength " + c.StreamMaxLength,
		"DetectPUA yes", "AlertExceedsMax yes", "ExtendedDetectionInfo yes",
	}, c.Lines...)
	config := filepath.Join(d.folder, "clamd.conf")
	write(tb, config, strings.Join(lines, "\n")+"\n")
	d.args = []string{"--foreground", "--config-file=" + config}
	d.ask = func(network, address string) error { return exchange(network, address, "zPING\x00", "PONG\x00") }
	d.Start()
	return d
}

// signatures are lines of an .ndb database: name, any type of file, any offset,
// octets.
func signatures() string {
	var b strings.Builder
	for _, s := range []struct{ name, octets string }{
		{"Eicar-Signature", EICAR()},
		{"Postern.Test-File", MarkTestFile},
		{"Postern.Malware", MarkUnofficial},
		{"PUA.Postern.Tool", MarkPUA},
		{"Heuristics.Postern.Shape", MarkHeuristic},
	} {
		fmt.Fprintf(&b, "%s:0:*:%s\n", s.name, hex.EncodeToString([]byte(s.octets)))
	}
	return b.String()
}

// StartSpamd starts a real spamd with two children, without DNS, and waits until
// it answers.
func StartSpamd(tb testing.TB) *Daemon {
	tb.Helper()
	d := newDaemon(tb, "spamd")
	// spamd's children may be another user's.
	if err := os.Chmod(d.folder, 0o777); err != nil {
		tb.Fatal(err)
	}
	d.args = []string{
		"--local", "--listen=" + d.tcp(), "--listen=" + d.unix(), "--socketmode=0666",
		"--max-children=2", "--min-children=2", "--nouser-config", "--syslog=stderr",
		"--helper-home-dir=" + d.folder, "--cf=use_bayes 0",
	}
	d.ask = func(network, address string) error {
		return exchange(network, address, "PING SPAMC/1.5\r\n\r\n", "SPAMD/1.5 0 PONG\r\n")
	}
	d.Start()
	return d
}

// user is who the daemons run as: root, or whoever runs the tests.
func user() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}
