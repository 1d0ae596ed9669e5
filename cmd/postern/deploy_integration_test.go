//go:build integration

package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// composeLoader is the reference reader of compose files: it checks them against
// their schema.
const composeLoader = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"

func TestIntegrationComposeFile(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", composeLoader, filepath.Join(repository, "docker-compose.yml")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
