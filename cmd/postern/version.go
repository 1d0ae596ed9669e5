package main

import (
	"fmt"
	"runtime/debug"
)

// version is this Postern's.
const version = "0.1.0"

type versionCommand struct{}

// Run prints the version, and the commit where the build knows it.
func (versionCommand) Run(t terminal) error {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				commit = " (" + s.Value[:12] + ", " + info.GoVersion + ")"
			}
		}
	}
	_, err := fmt.Fprintf(t.out, "postern %s%s\n", version, commit)
	return err
}
