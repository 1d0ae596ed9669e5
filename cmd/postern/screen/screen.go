// Package screen is what commands show in a terminal: tables, one JSON object a
// line, sizes and times, and the colours and widths of the demonstration.
//
// It follows ECMA-48 for colour. A sender's text is made harmless here before it
// reaches a terminal; what is said, and to whom, is left to the commands.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"postern/gateway/mail"
)

// Screen is where the demonstration is shown: lines that fit, and colour where a
// person looks.
type Screen struct {
	Out    io.Writer
	Width  int // columns
	Colour bool
}

// The widths that a screen is written for. What is no terminal gets the wider.
const (
	Narrow = 80
	Wide   = 100
)

// New looks whether w is a terminal, and how wide. NO_COLOR is honoured, as
// https://no-color.org has it.
func New(w io.Writer) Screen {
	s := Screen{Out: w, Width: Wide}
	f, isFile := w.(*os.File)
	if !isFile {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.Width = min(max(int(size.Col), Narrow), Wide)
	s.Colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// Style is an SGR parameter of ECMA-48.
type Style string

// The styles that are used; the colours are bold ones.
const (
	Plain   Style = ""
	Bold    Style = "1"
	Dim     Style = "2"
	Red     Style = "1;31"
	Green   Style = "1;32"
	Yellow  Style = "1;33"
	Magenta Style = "1;35"
	Cyan    Style = "1;36"
)

// styles of the verdicts.
var styles = map[mail.Action]Style{
	mail.Accept: Green, mail.Tag: Yellow, mail.Strip: Cyan, mail.Defer: Yellow, mail.Quarantine: Magenta, mail.Reject: Red,
}

// Paint puts a text in a style where there is colour.
func (s Screen) Paint(st Style, text string) string {
	if !s.Colour || st == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

// Print writes a text as it is: it must be harmless already.
func (s Screen) Print(text string) { fmt.Fprint(s.Out, text) }

// Line writes indented text, cut to the width.
func (s Screen) Line(indent int, st Style, text string) {
	text = cut(Harmless(text), s.Width-indent)
	s.Print(strings.TrimRight(strings.Repeat(" ", indent)+s.Paint(st, text), " ") + "\n")
}

// Heading begins a section; beside it stands the command that shows the same.
func (s Screen) Heading(title, command string) {
	s.Print("\n" + s.Paint(Bold, title))
	if command != "" {
		s.Print("  " + s.Paint(Dim, "$ postern "+command))
	}
	s.Print("\n")
}

// Columns of the table of verdicts.
const (
	titleWidth   = 30
	verdictWidth = 10
	whoWidth     = 12
)

// VerdictHead stands above the table of verdicts.
func (s Screen) VerdictHead(title, verdict, reply string) {
	s.Line(4, Dim, Pad(title, titleWidth)+"  "+Pad(verdict, verdictWidth)+"  "+reply)
}

// Announce begins a message's row in it: what comes now.
func (s Screen) Announce(n int, title string) {
	s.Print(fmt.Sprintf("%2d  %s  ", n, s.Paint(Bold, Pad(title, titleWidth))))
}

// Verdict ends the row.
func (s Screen) Verdict(a mail.Action, reply string) {
	reply = cut(Harmless(reply), s.Width-4-titleWidth-2-verdictWidth-2)
	s.Print(s.Paint(styles[a], Pad(a.String(), verdictWidth)) + "  " + reply + "\n")
}

// Explain adds a reason to the row, folded between its pieces. Without anybody to
// say it, it stands where they would.
func (s Screen) Explain(who string, pieces []string) {
	indent := 4 + whoWidth + 2
	if who == "" {
		s.Line(4, Dim, strings.Join(pieces, " "))
		return
	}
	for _, line := range Fold(pieces, s.Width-indent) {
		s.Print("    " + s.Paint(Dim, Pad(who, whoWidth)+"  "+line) + "\n")
		who = ""
	}
}

// Filter says of one filter that it is there, or not.
func (s Screen) Filter(label, name, text string) {
	s.Print("  " + Pad(label, 7) + "  " + Pad(name, whoWidth) + "  " + text + "\n")
}

// Fault says that the demonstration itself went wrong.
func (s Screen) Fault(text string) { s.Line(4, Red, text) }

// Rows writes a table, its first row as the head. Where it is too wide, the
// column elastic gives way.
func (s Screen) Rows(elastic int, t Table) {
	widths := make([]int, len(t[0]))
	total := 2
	for i := range widths {
		for _, row := range t {
			row[i] = Harmless(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	widths[elastic] = max(10, widths[elastic]-max(0, total-2-s.Width))
	for n, row := range t {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(Pad(cut(cell, widths[i]), widths[i]) + "  ")
		}
		st := Plain
		if n == 0 {
			st = Dim
		}
		s.Line(2, st, strings.TrimRight(b.String(), " "))
	}
}

// Pad fills a text up to a column's width; every character counts as one.
func Pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:max(0, width-1)]) + "…"
	}
	return text
}

// Fold puts pieces on lines, and breaks none but what is longer than a line.
func Fold(pieces []string, width int) (lines []string) {
	line := ""
	for _, piece := range pieces {
		piece = Harmless(piece)
		switch {
		case line == "":
			line = piece
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(piece) <= width:
			line += " " + piece
		default:
			lines, line = append(lines, cut(line, width)), piece
		}
	}
	return append(lines, cut(line, width))
}

// Words are the pieces of a sentence.
func Words(text string) []string { return strings.Split(text, " ") }
