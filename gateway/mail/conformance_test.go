//go:build conformance

package mail

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shared is where the public test vectors lie.
func shared() string {
	if dir := os.Getenv("SHARED"); dir != "" {
		return dir
	}
	return "../../../shared"
}

var treeTag = regexp.MustCompile(`<(/?)(message|multipart|body-part)>`)

// mime4jTree is the tree that Apache James's mime4j gives a message.
func mime4jTree(xml string) string {
	var b strings.Builder
	for _, tag := range treeTag.FindAllStringSubmatch(xml, -1) {
		if tag[1] == "" {
			b.WriteString(tag[2] + "(")
		} else {
			b.WriteString(")")
		}
	}
	return b.String()
}

// ourTree is ours, in the same words.
func ourTree(parts []Part, i int, word string) string {
	p := &parts[i]
	inner := ""
	for _, c := range p.Children {
		if p.isMultipart() {
			inner += ourTree(parts, c, "body-part")
		} else {
			inner += ourTree(parts, c, "message")
		}
	}
	if p.isMultipart() {
		inner = "multipart(" + inner + ")"
	}
	return word + "(" + inner + ")"
}

// differs are the messages that we read otherwise than mime4j, and why.
var differs = map[string]string{
	"ending-boundaries":       "a line that goes on behind the boundary is none",
	"very-long-boundary":      "blanks at a boundary's end don't count",
	"very-very-long-boundary": "blanks at a boundary's end don't count",
	"weird-boundary":          "blanks at a boundary's end don't count",
}

func TestConformanceMime4j(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(shared(), "suites/mime4j/core/src/test/resources/*/*.msg"))
	if len(files) < 70 {
		t.Fatalf("%d messages under %s", len(files), shared())
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			describeAll(t, content)
			xml, err := os.ReadFile(strings.TrimSuffix(name, ".msg") + "_decoded.xml")
			if err != nil {
				t.Fatal(err)
			}
			_, parts, oddities := Read(Bytes(content), DefaultLimits)
			want, got := mime4jTree(string(xml)), ourTree(parts, 0, "message")
			why, known := differs[strings.TrimSuffix(filepath.Base(name), ".msg")]
			if (want != got) != known {
				t.Errorf("%s\nmime4j %s\nours   %s\n%v", why, want, got, oddities)
			}
		})
	}
}
