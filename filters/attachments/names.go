package attachments

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of names. What lies between head and tail of a longer name is not
// looked at: no file system takes a hundredth of it.
const (
	maxName    = 32 << 10
	maxDisplay = 255 // octets of a name that is shown
)

// readings is every file name that clients and systems make of one that was
// sent, in lower case: they cut at control characters, at the colon of an
// alternate stream, at slashes, drop what can't be seen and trailing dots.
func readings(sent string) []string {
	if len(sent) > maxName {
		sent = sent[:maxName/2] + sent[len(sent)-maxName/2:]
	}
	forms := []string{sent}
	if i := strings.IndexFunc(sent, cutsName); i > 0 {
		forms = append(forms, sent[:i])
	}
	var names []string
	for _, form := range forms {
		name := base(visible(form))
		names = append(names, name)
		if file, _, stream := strings.Cut(name, ":"); stream {
			names = append(names, trimTail(file))
		}
	}
	return names
}

// cutsName is what ends a name in some client: controls, and octets that are no
// text.
func cutsName(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }

// visible is the name without what can't be seen or can't stand in a file name,
// in the compatibility form (NFKC: full-width letters and dots become ASCII),
// in lower case.
func visible(s string) string {
	if !isASCII(s) {
		s = norm.NFKC.String(s)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case cutsName(r), strings.ContainsRune(`"<>|?*`, r), r >= utf8.RuneSelf && invisible(r):
			return -1
		case r == '\\':
			return '/'
		}
		return unicode.ToLower(r)
	}, s)
}

// invisible is what changes the look of a name without being seen: the overrides
// of writing direction among them.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// base is the last element of a path.
func base(s string) string {
	s = strings.TrimRight(s, "/ .")
	return s[strings.LastIndexByte(s, '/')+1:]
}

// trimTail takes off what Windows takes off.
func trimTail(s string) string { return strings.TrimRight(s, " .") }

// extension is what follows the last dot; "" where there is none.
func extension(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return strings.TrimSpace(name[i+1:])
}

// stem is the name without its extension and what pads it.
func stem(name string) string {
	return strings.TrimRight(name[:max(0, strings.LastIndexByte(name, '.'))], " ._-")
}

// classID finds a class identifier as extension, ".{8-4-4-4-12}": Windows hides
// it and opens the file by it.
func classID(name string) bool {
	const digits = len("00000000-0000-0000-0000-000000000000")
	for {
		i := strings.Index(name, ".{")
		if i < 0 {
			return false
		}
		name = name[i+2:]
		if len(name) > digits && name[digits] == '}' && strings.Trim(name[:digits], "0123456789abcdef-") == "" {
			return true
		}
	}
}

// display is a name that can be shown: printable, without tricks of direction,
// bounded so that its extension stays.
func display(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case cutsName(r), unicode.In(r, unicode.Zl, unicode.Zp):
			return '_'
		case invisible(r):
			return -1
		}
		return r
	}, s)
	if len(s) <= maxDisplay {
		return s
	}
	head, tail := s[:maxDisplay-64], s[len(s)-60:]
	return strings.ToValidUTF8(head, "") + "…" + strings.ToValidUTF8(tail, "")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
