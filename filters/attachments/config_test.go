package attachments

import (
	"strings"
	"testing"

	"postern/filters/filtertest"
)

func TestNew(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string // part of the error; "" is none
	}{
		"zero":           {Config{}, ""},
		"dots and case":  {Config{Extensions: []string{".EXE", "Js"}}, ""},
		"nothing":        {Config{Extensions: []string{}, Types: []string{}}, ""},
		"family":         {Config{Types: []string{"video/*"}}, ""},
		"empty":          {Config{Extensions: []string{""}}, `extensions: "" is no extension`},
		"only a dot":     {Config{AllowExtensions: []string{"."}}, `allowed extensions: "." is no extension`},
		"pattern":        {Config{Extensions: []string{"*.exe"}}, `"*.exe" is no extension`},
		"two extensions": {Config{Extensions: []string{"tar.gz"}}, `"tar.gz" is no extension`},
		"no type":        {Config{Types: []string{"pdf"}}, `types: "pdf" is no media type`},
		"all types":      {Config{Types: []string{"*/*"}}, `"*/*" is no media type`},
		"parameters":     {Config{Types: []string{"text/plain; charset=x"}}, `is no media type`},
	} {
		_, err := New(c.config)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestPolicy: want is the number of forbidden attachments.
func TestPolicy(t *testing.T) {
	program, script := string(peFile(0x80)), "#!/bin/sh\n"
	for name, c := range map[string]struct {
		config Config
		eml    string
		want   int
	}{
		"own list":                       {Config{Extensions: []string{"pdf"}}, attached("a.PDF", "x"), 1},
		"own list replaces":              {Config{Extensions: []string{"pdf"}}, attached("a.exe", "x"), 0},
		"own list, content still":        {Config{Extensions: []string{"pdf"}}, attached("a.exe", program), 1},
		"no lists at all":                {Config{Extensions: []string{}, Types: []string{}}, attached("a.exe", program), 0},
		"allowed":                        {Config{AllowExtensions: []string{"exe"}}, attached("a.exe", "x"), 0},
		"allowed, its content":           {Config{AllowExtensions: []string{"exe"}}, attached("a.exe", program), 0},
		"allowed, its content elsewhere": {Config{AllowExtensions: []string{"exe"}}, attached("a.pdf", program), 1},
		"allowed, other content":         {Config{AllowExtensions: []string{"pdf"}}, attached("a.pdf", program), 1},
		"allowed script":                 {Config{AllowExtensions: []string{"sh"}}, attached("a.sh", script), 0},
		"script":                         {Config{}, attached("a.sh", script), 1},
		"family of types":                {Config{Types: []string{"application/*"}}, attached("a.txt", "x"), 1},
		"true type":                      {Config{Types: []string{"application/pdf"}}, attached("a.txt", "%PDF-1.4\n"), 1},
	} {
		if got := count(check(t, c.config, c.eml), "ATTACHMENT_BLOCKED"); got != c.want {
			t.Errorf("%s: %d forbidden, want %d", name, got, c.want)
		}
	}
}

func BenchmarkText(b *testing.B) {
	benchmark(b, "Subject: x\r\nContent-Type: text/plain\r\n\r\n"+strings.Repeat("A line of an ordinary mail, as long as they are.\r\n", 400))
}

func BenchmarkAttachment(b *testing.B) {
	benchmark(b, attached("a.pdf", "%PDF-1.4\n"+strings.Repeat("0123456789abcdef", 64<<10)))
}

func benchmark(b *testing.B, eml string) {
	f, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	m := filtertest.Message(eml)
	b.SetBytes(int64(len(eml)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Check(b.Context(), m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
