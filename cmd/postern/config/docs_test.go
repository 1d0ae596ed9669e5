package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

const docs = "../../../docs"

// keysOf lists the keys below a struct, dotted; the tables of a map's elements
// stand below "*".
func keysOf(t reflect.Type, prefix string) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := strings.TrimPrefix(prefix+"."+f.Tag.Get("toml"), ".")
		switch {
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type, key)...)
		case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type.Elem(), key+".*")...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

var (
	tableHeading = regexp.MustCompile("^#+ `?\\[(.+?)\\]`?$")
	keyRow       = regexp.MustCompile("^\\| `([a-z0-9_.]+)` \\| (.+?) \\| .+ \\|$")
)

// described reads docs/configuration.md: a heading "[limits]" is the table of the
// rows below it, and a row is "| `key` | `default` | meaning |".
func described(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, table := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			table = ""
			if h := tableHeading.FindStringSubmatch(line); h != nil {
				table = strings.ReplaceAll(h[1], `"example.com"`, "*") + "."
			}
			continue
		}
		row := keyRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		if _, twice := rows[table+row[1]]; twice {
			t.Errorf("%s%s is described twice", table, row[1])
		}
		rows[table+row[1]] = row[2]
	}
	return rows
}

// Every key stands in docs/configuration.md, and nothing else does.
func TestDocsNameEveryKey(t *testing.T) {
	rows := described(t)
	keys := keysOf(reflect.TypeFor[Config](), "")
	for _, key := range keys {
		if _, has := rows[key]; !has {
			t.Errorf("docs/configuration.md does not describe %s", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if !slices.Contains(keys, key) {
			t.Errorf("docs/configuration.md describes %s, which is no key", key)
		}
	}
}

// The defaults in docs/configuration.md, read as a configuration, are the
// defaults. A default that is no value of TOML ("–", "as in [score]") means that
// the key is empty.
func TestDocsSayTheDefaults(t *testing.T) {
	var file strings.Builder
	rows := described(t)
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		value, isCode := strings.CutPrefix(rows[key], "`")
		if isCode && !strings.Contains(key, "*") {
			file.WriteString(key + " = " + strings.TrimSuffix(value, "`") + "\n")
		}
	}
	got := &Config{}
	if err := toml.Unmarshal([]byte(file.String()), got); err != nil {
		t.Fatalf("the defaults are no TOML: %v\n%s", err, file.String())
	}
	empty := cmp.Transformer("empty", func(list []string) []string {
		if len(list) == 0 {
			return nil
		}
		return list
	})
	none := cmp.Transformer("none", func(m map[string]float64) map[string]float64 {
		if len(m) == 0 {
			return nil
		}
		return m
	})
	if diff := cmp.Diff(Default(), got, empty, none); diff != "" {
		t.Errorf("docs/configuration.md differs from the defaults (-code +docs):\n%s", diff)
	}
}

var tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")

// examples are the configurations that the documentation shows, by where they
// stand.
func examples(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range []string{filepath.Join(docs, ".."), docs, filepath.Join(docs, "filters")} {
		pages, err := filepath.Glob(filepath.Join(dir, "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range tomlBlock.FindAllSubmatchIndex(text, -1) {
				where := fmt.Sprintf("%s:%d", filepath.Base(page), 1+bytes.Count(text[:at[0]], []byte("\n")))
				found[where] = string(text[at[2]:at[3]])
			}
		}
	}
	if len(found) < 5 {
		t.Fatalf("only %d examples found", len(found))
	}
	return found
}

// Every example could stand in a file: it is put behind the smallest one, where
// it is not a whole file itself, and read with all checks.
func TestDocsExamplesAreGood(t *testing.T) {
	t.Setenv("INSIDE", "mail.internal")
	for where, example := range examples(t) {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "postern.toml")
			if err := os.WriteFile(file, []byte(whole(t, dir, example)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(file); err != nil {
				t.Errorf("%v\n%s", err, example)
			}
		})
	}
}

// whole completes an example: it gets a hostname and a domain where it has none,
// and the files that it names exist.
func whole(t *testing.T, dir, example string) string {
	t.Helper()
	list := filepath.Join(dir, "recipients")
	if err := os.WriteFile(list, []byte("anna@example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	example = strings.ReplaceAll(example, `"/etc/postern/recipients"`, `"`+list+`"`)
	if !strings.Contains(example, "hostname") {
		example = "hostname = \"mx.example.com\"\n" + example
	}
	if !strings.Contains(example, "deliver_to") {
		example += "\n[domains.\"example.org\"]\ndeliver_to = [\"mail.internal:25\"]\n"
	}
	return example
}
