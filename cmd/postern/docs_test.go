package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/alecthomas/kong"

	"postern/gateway/mail"
	"postern/scoring"
)

const repository = "../.."

// readPage is the text of a file of the repository.
func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages are the documentation's, by name from the top of the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		names, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			short, err := filepath.Rel(repository, name)
			if err != nil {
				t.Fatal(err)
			}
			found[short] = readPage(t, short)
		}
	}
	if len(found) < 15 {
		t.Fatalf("only %d pages found", len(found))
	}
	return found
}

var (
	codeBlock   = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading     = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fencedBlock = regexp.MustCompile("(?s)```.*?```")
)

// anchors are the fragments that a page's headings make.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(fencedBlock.ReplaceAllString(text, ""), -1) {
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, h[1])] = true
	}
	return found
}

// Each link within the repository leads to a file that is there, and to a heading
// in it.
func TestDocsLinks(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, l := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			file, fragment, _ := strings.Cut(l[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s: %s leads nowhere", page, l[1])
			} else if fragment != "" && !anchors(all[target])[fragment] {
				t.Errorf("%s: %s has no heading %q", page, l[1], fragment)
			}
		}
	}
}

// Each page below docs can be reached from docs/README.md.
func TestDocsIndex(t *testing.T) {
	index := readPage(t, "docs/README.md")
	for page := range pages(t) {
		short, below := strings.CutPrefix(page, "docs"+string(filepath.Separator))
		if below && short != "README.md" && !strings.Contains(index, "("+filepath.ToSlash(short)+")") {
			t.Errorf("docs/README.md does not name %s", short)
		}
	}
}

// docs/architecture.md names every package; the filters stand in it as one, as
// does the bench.
func TestDocsArchitecture(t *testing.T) {
	text := readPage(t, "docs/architecture.md")
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, "postern/")
		filter := strings.HasPrefix(name, "filters/") && floors[name] == 0
		if !filter && !strings.HasPrefix(name, "cmd/postern-bench/") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("docs/architecture.md does not say what %s is for", name)
		}
	}
}

var symbolRow = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([a-z]+|-?[0-9.]+) \\| .+ \\|$")

// docs/symbols.md describes every symbol that we report by ourselves, with the
// built-in weight or action, and no others.
func TestDocsSymbols(t *testing.T) {
	builtin := scoring.Builtin()
	described := map[string]bool{}
	for _, row := range symbolRow.FindAllStringSubmatch(readPage(t, "docs/symbols.md"), -1) {
		symbol, effect := row[1], row[2]
		if described[symbol] {
			t.Errorf("docs/symbols.md describes %s twice", symbol)
		}
		described[symbol] = true
		weight, known := builtin[symbol]
		if !known {
			if !strings.HasPrefix(symbol, "SPAMASSASSIN_") {
				t.Errorf("docs/symbols.md describes %s, which has no built-in weight", symbol)
			}
			continue
		}
		points, err := strconv.ParseFloat(effect, 64)
		switch {
		case err != nil && weight.Action.String() != effect:
			t.Errorf("docs/symbols.md: %s is %s, want %s", symbol, effect, weight.Action)
		case err == nil && (points != weight.Score || weight.Action != mail.Accept):
			t.Errorf("docs/symbols.md: %s is %s, want %v and %s", symbol, effect, weight.Score, weight.Action)
		}
	}
	// The facts of the header have these under names that SpamAssassin uses.
	described[mail.HeaderMissingFrom], described[mail.HeaderMissingDate] = true, true
	for _, symbol := range slices.Concat(slices.Sorted(maps.Keys(builtin)), mail.OdditySymbols()) {
		if !described[symbol] {
			t.Errorf("docs/symbols.md does not describe %s", symbol)
		}
	}
}

// commandLine is the command line's model.
func commandLine(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.Name("postern"), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// docs/commands.md has a section for each command, which names its flags, and
// none for others.
func TestDocsCommands(t *testing.T) {
	sections := map[string]string{}
	for _, section := range strings.Split(readPage(t, "docs/commands.md"), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(title, "`") {
			sections[strings.Trim(title, "`")] = text
		}
	}
	for _, command := range commandLine(t).Model.Leaves(true) {
		text, has := sections[command.FullPath()]
		delete(sections, command.FullPath())
		if !has {
			t.Errorf("docs/commands.md has no section `%s`", command.FullPath())
			continue
		}
		for _, flag := range command.Flags {
			if !strings.Contains(text, "--"+flag.Name) {
				t.Errorf("docs/commands.md: `%s` does not name --%s", command.FullPath(), flag.Name)
			}
		}
	}
	for command := range sections {
		t.Errorf("docs/commands.md describes `%s`, which is no command", command)
	}
}

var (
	shellBlock   = regexp.MustCompile("(?s)```sh\n(.*?)```")
	substitution = regexp.MustCompile(`\$\([^)]*\)`)
	anyCommand   = regexp.MustCompile(`(?:^|\| )(?:runuser -u postern -- )?(?:\./)?postern (.*)$`)
)

// Every command that the documentation shows is one.
func TestDocsShownCommands(t *testing.T) {
	shown := 0
	for page, text := range pages(t) {
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(block[1]) {
				m := anyCommand.FindStringSubmatch(strings.TrimSpace(substitution.ReplaceAllString(line, "DATE")))
				if m == nil {
					continue
				}
				shown++
				// What follows is the shell's.
				words := strings.Fields(strings.FieldsFunc(m[1]+" ", func(r rune) bool { return strings.ContainsRune("|<>#;&", r) })[0])
				if _, err := commandLine(t).Parse(words); err != nil {
					t.Errorf("%s: postern %s: %v", page, strings.Join(words, " "), err)
				}
			}
		}
	}
	if shown < 10 {
		t.Errorf("only %d commands found", shown)
	}
}

var metricName = regexp.MustCompile(`"(postern_[a-z_]+)"`)

// docs/operations.md names every metric.
func TestDocsMetrics(t *testing.T) {
	text := readPage(t, "docs/operations.md")
	found := 0
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "postern-bench") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range metricName.FindAllSubmatch(source, -1) {
			found++
			if !strings.Contains(text, "| `"+string(m[1])+"` |") {
				t.Errorf("docs/operations.md does not name %s (%s)", m[1], path)
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d metrics found: %v", found, err)
	}
}
