package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/config"
)

// settings are the lines "name value" or "name = value" of a file, comments left
// out.
func settings(t *testing.T, name string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(readPage(t, name)) {
		key, value, has := strings.Cut(strings.TrimSpace(strings.Replace(line, "=", " ", 1)), " ")
		if has && !strings.HasPrefix(key, "#") {
			found[key] = strings.TrimSpace(value)
		}
	}
	return found
}

// octetsOf reads "100M" as clamd does, and a plain number.
func octetsOf(t *testing.T, text string) int64 {
	t.Helper()
	number, isMega := strings.CutSuffix(text, "M")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Errorf("%q is no size", text)
	}
	if isMega {
		n <<= 20
	}
	return n
}

// composeConfig is the gateway's configuration in the containers.
func composeConfig(t *testing.T) *config.Config {
	t.Helper()
	c, err := config.Load(filepath.Join(repository, "deploy/compose/postern.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The gateway speaks to services that are there, and listens where the ports
// lead.
func TestComposeNames(t *testing.T) {
	compose, c := readPage(t, "docker-compose.yml"), composeConfig(t)
	var services []string
	_, rest, _ := strings.Cut(compose, "\nservices:\n")
	rest, _, _ = strings.Cut(rest, "\nnetworks:\n")
	for _, m := range regexp.MustCompile(`(?m)^  (\w+):$`).FindAllStringSubmatch(rest, -1) {
		services = append(services, m[1])
	}
	if want := []string{"gateway", "clamav", "spamassassin", "inside"}; !slices.Equal(services, want) {
		t.Fatalf("services %v, want %v", services, want)
	}
	hosts := []string{c.Filters.ClamAV.Address, c.Filters.SpamAssassin.Address}
	for _, d := range c.Domains {
		hosts = append(hosts, d.DeliverTo...)
	}
	for _, h := range hosts {
		name, _, _ := strings.Cut(strings.TrimPrefix(h, "tcp:"), ":")
		if !slices.Contains(services, name) {
			t.Errorf("%s is no service", h)
		}
	}
	for _, address := range append(c.Listen.MX, c.Listen.Metrics) {
		_, port, _ := strings.Cut(address, ":")
		if !strings.Contains(compose, ":"+port+`"`) {
			t.Errorf("port %s is not published", port)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)- (\./\S+?):`).FindAllStringSubmatch(compose, -1) {
		readPage(t, m[1])
	}
}

// What the gateway takes, the engine scans and the server inside takes.
func TestComposeLimits(t *testing.T) {
	c := composeConfig(t)
	size := int64(c.Limits.MessageSize)
	clamd, inside := settings(t, "deploy/compose/clamd.conf"), settings(t, "deploy/compose/inside/main.cf")
	for name, limit := range map[string]string{
		"StreamMaxLength": clamd["StreamMaxLength"], "MaxFileSize": clamd["MaxFileSize"], "MaxScanSize": clamd["MaxScanSize"],
		"message_size_limit": inside["message_size_limit"],
	} {
		if octetsOf(t, limit) <= size {
			t.Errorf("%s %s is not over a message of %d octets", name, limit, size)
		}
	}
	if clamd["AlertExceedsMax"] != "yes" {
		t.Error("clamd passes what it did not scan as clean")
	}
	if octetsOf(t, clamd["MaxThreads"]) < int64(c.Filters.ClamAV.Connections) {
		t.Errorf("clamd has %s threads for %d connections", clamd["MaxThreads"], c.Filters.ClamAV.Connections)
	}
}

// Who stops the gateway waits until it has drained.
func TestStopTimes(t *testing.T) {
	for name, pattern := range map[string]string{"docker-compose.yml": `stop_grace_period: (\S+)`, "deploy/postern.service": `TimeoutStopSec=(\S+)`} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(readPage(t, name))
		if found == nil {
			t.Errorf("%s says no time", name)
			continue
		}
		if grace, err := time.ParseDuration(found[1]); err != nil || grace < 40*time.Second {
			t.Errorf("%s waits %s", name, found[1])
		}
	}
}
