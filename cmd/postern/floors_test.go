package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// floors says on which floor of docs/architecture.md a package stands; "/*" is
// every folder below. A package that stands nowhere is a fault: it has no place
// yet.
var floors = map[string]int{
	"gateway/mail": 0, "gateway/mail/mime": 0, "gateway/mail/text": 0, "gateway/mail/unpack": 0, "gateway/dns": 0, "gateway/store": 0, "gateway/health": 0,
	"gateway": 1, "gateway/smtpd": 1, "gateway/spool": 1, "gateway/relay": 1, "gateway/relay/*": 1, "gateway/spool/*": 1, "gateway/record": 1, "gateway/compose": 1,
	"gateway/control": 1, "gateway/recipients": 1, "gateway/relaytest": 1, "gateway/accounts": 1, "gateway/pop": 1, "gateway/outbound": 1,
	"filters/engine": 1, "filters/filtertest": 2, "filters/*": 2, "rules": 2, "scoring": 2, "quarantine": 2,
	"filters": 3, "quarantine/console": 3,
	"cmd/*": 4,
}

// neighbours are the arrows that are allowed on one floor.
var neighbours = []struct{ from, to string }{
	{"gateway", "gateway/*"}, // its own sub-packages; none of them knows it
	{"gateway/relay", "gateway/relay/*"},
	{"gateway/spool", "gateway/spool/*"},
	{"gateway/mail", "gateway/mail/mime"},
	{"gateway/mail/*", "gateway/mail"},
	{"gateway/dns", "gateway/mail"},
	{"gateway/mail/unpack", "gateway/mail/text"},
	{"cmd/*", "cmd/*"},
}

// dependency is one package as the go command lists it.
type dependency struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) (list []dependency) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "postern/...")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var d dependency
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
}

// matches says whether a package is meant by a pattern.
func matches(pattern, name string) bool {
	if base, has := strings.CutSuffix(pattern, "/*"); has {
		return strings.HasPrefix(name, base+"/")
	}
	return pattern == name
}

func floorOf(name string) (floor int, placed bool) {
	for p := name; ; p = path.Dir(p) {
		if floor, placed = floors[p]; placed && p == name {
			return floor, true
		}
		if floor, placed = floors[p+"/*"]; placed && p != name {
			return floor, true
		}
		if p == "." || p == "/" {
			return 0, false
		}
	}
}

// An arrow runs down only; packages of one floor don't know each other but where
// the architecture says so.
func TestFloors(t *testing.T) {
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, "postern/")
		floor, placed := floorOf(from)
		if !placed {
			t.Errorf("%s stands on no floor", from)
			continue
		}
		for _, to := range p.Imports {
			to, ours := strings.CutPrefix(to, "postern/")
			if !ours {
				continue
			}
			below, _ := floorOf(to)
			allowed := below < floor || below == floor && slices.ContainsFunc(neighbours, func(n struct{ from, to string }) bool {
				return matches(n.from, from) && matches(n.to, to)
			})
			if !allowed {
				t.Errorf("%s (floor %d) knows %s (floor %d)", from, floor, to, below)
			}
		}
	}
}

// The top level holds these folders of Go and no others.
func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "gateway", "filters", "scoring", "quarantine", "rules"}
	for _, p := range listPackages(t) {
		top, _, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, "postern/"), "/")
		if !slices.Contains(allowed, top) {
			t.Errorf("%s: no Go belongs in the folder %s", p.ImportPath, top)
		}
	}
}
