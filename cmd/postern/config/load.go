package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Fault is something wrong in the configuration.
type Fault struct {
	File string
	Line int    // 0 where the fault is that something is missing
	Key  string // "limits.message_size"
	Text string // what is wrong and what to write instead
}

// Error implements error.
func (f Fault) Error() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Key == "" {
		return where + ": " + f.Text
	}
	return where + ": " + f.Key + ": " + f.Text
}

// Faults are all that is wrong.
type Faults []Fault

// Error implements error, a line each.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// place is where a key stands.
type place struct {
	file string
	line int
}

// loader reads the file and what it includes into one Config.
type loader struct {
	path   string
	config *Config
	places map[string]place // by dotted key
	faults Faults

	// halfRead says that a file's grammar or an environment variable is at fault:
	// what is missing then says nothing.
	halfRead bool
}

// Load reads path and the files that it includes over the defaults. The error is
// Faults, complete, unless a file could not be read at all.
func Load(path string) (*Config, error) {
	l := &loader{path: path, config: Default(), places: map[string]place{}}
	if err := l.read(path); err != nil {
		return nil, err
	}
	for _, pattern := range slices.Clone(l.config.Include) {
		if err := l.include(path, pattern); err != nil {
			return nil, err
		}
	}
	l.expandAll(reflect.ValueOf(l.config).Elem(), "")
	if !l.halfRead {
		l.check()
	}
	if len(l.faults) > 0 {
		slices.SortStableFunc(l.faults, func(a, b Fault) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
		})
		return l.config, l.faults
	}
	return l.config, nil
}

// include reads the files that pattern names, relative to the file it stands in.
func (l *loader) include(path, pattern string) error {
	pattern, err := expand(pattern)
	if err != nil {
		l.fault("include", err.Error())
		return nil
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(path), pattern)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		l.fault("include", fmt.Sprintf("%q is no pattern of file names", pattern))
		return nil
	}
	if len(files) == 0 && !strings.ContainsAny(pattern, "*?[") {
		l.fault("include", pattern+" does not exist")
	}
	for _, file := range files {
		l.config.Include = nil
		if err := l.read(file); err != nil {
			return err
		}
		if l.config.Include != nil {
			l.fault("include", "stands in a file that is itself included: name its files in "+l.path)
		}
	}
	return nil
}

// read decodes one file. A value of the wrong kind ends the library's reading;
// it is noted, its line is blanked, and the reading starts again, so that one run
// says every fault.
func (l *loader) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	l.index(path, text)
	for range 100 {
		decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
		err := decoder.Decode(l.config)
		var unknown *toml.StrictMissingError
		var wrong *toml.DecodeError
		switch {
		case errors.As(err, &unknown):
			for _, e := range unknown.Errors {
				l.unknownKey(path, e)
			}
			return nil
		case errors.As(err, &wrong):
			line, _ := wrong.Position()
			l.faults = append(l.faults, Fault{path, line, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: ")})
			var again bool
			if text, again = blank(text, line); !again || len(wrong.Key()) == 0 {
				l.halfRead = true
				return nil
			}
		case err != nil:
			l.faults = append(l.faults, Fault{File: path, Text: err.Error()})
			return nil
		default:
			return nil
		}
	}
	return nil
}

func (l *loader) unknownKey(path string, e toml.DecodeError) {
	line, _ := e.Position()
	l.faults = append(l.faults, Fault{path, line, strings.Join(e.Key(), "."), "unknown key; docs/configuration.md lists every key"})
}

// blank empties a line of text, and says whether there was anything to empty.
func blank(text []byte, line int) ([]byte, bool) {
	lines := bytes.Split(text, []byte("\n"))
	if line < 1 || line > len(lines) || len(bytes.TrimSpace(lines[line-1])) == 0 {
		return text, false
	}
	lines = slices.Clone(lines)
	lines[line-1] = nil
	return bytes.Join(lines, []byte("\n")), true
}

// index notes where each key stands. A domain that stands in two files is a
// fault: one would silently win.
func (l *loader) index(path string, text []byte) {
	p := unstable.Parser{}
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		var key []string
		for it := e.Key(); it.Next(); {
			key = append(key, string(it.Node().Data))
		}
		line := 0
		if it := e.Key(); it.Next() {
			line = p.Shape(it.Node().Raw).Start.Line
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = key
			l.place(path, line, table)
		case unstable.KeyValue:
			l.place(path, line, append(slices.Clone(table), key...))
		}
	}
}

func (l *loader) place(path string, line int, key []string) {
	dotted := strings.Join(key, ".")
	if len(key) >= 2 && key[0] == "domains" {
		domain := "domains." + strings.ToLower(key[1])
		if old, known := l.places[domain]; known && old.file != path {
			l.faults = append(l.faults, Fault{path, line, dotted, "the domain stands in " + old.file + " too"})
		} else if !known {
			l.places[domain] = place{path, line}
		}
	}
	l.places[dotted] = place{path, line}
}

// fault notes what is wrong with key; where the key is absent, with the nearest
// table around it.
func (l *loader) fault(key, text string) {
	at := place{file: l.path}
	for k := key; k != ""; {
		if found, known := l.places[k]; known {
			at = found
			break
		}
		dot := strings.LastIndexByte(k, '.')
		k = k[:max(dot, 0)]
	}
	l.faults = append(l.faults, Fault{at.file, at.line, key, text})
}

// expandAll puts the environment's values into every text.
func (l *loader) expandAll(v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.String:
		text, err := expand(v.String())
		if err != nil {
			l.fault(key, err.Error())
			l.halfRead = true
		} else if v.CanSet() {
			v.SetString(text)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			l.expandAll(v.Elem(), key)
		}
	case reflect.Slice:
		for i := range v.Len() {
			l.expandAll(v.Index(i), key)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			l.expandAll(v.Field(i), strings.TrimPrefix(key+"."+name, "."))
		}
	case reflect.Map:
		l.expandMap(v, key)
	case reflect.Interface:
		l.expandAny(v, key)
	}
}

// expandMap replaces each element, since a map's elements can't be set in place.
func (l *loader) expandMap(v reflect.Value, key string) {
	for _, k := range v.MapKeys() {
		element := reflect.New(v.Type().Elem()).Elem()
		element.Set(v.MapIndex(k))
		l.expandAll(element, key+"."+k.String())
		v.SetMapIndex(k, element)
	}
}

// expandAny serves domains.*.recipients: a text, or a list of texts.
func (l *loader) expandAny(v reflect.Value, key string) {
	switch value := v.Interface().(type) {
	case string:
		text := reflect.New(reflect.TypeFor[string]()).Elem()
		text.SetString(value)
		l.expandAll(text, key)
		v.Set(text)
	case []any:
		l.expandAll(reflect.ValueOf(value), key)
	}
}
