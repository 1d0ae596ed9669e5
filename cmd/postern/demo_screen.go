package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"postern/gateway/mail"
)

// screen is where the demonstration is shown: lines that fit, and colour where a
// person looks.
type screen struct {
	w      io.Writer
	width  int // columns
	colour bool
}

// The widths that a screen is written for. What is no terminal gets the wider.
const (
	narrow = 80
	wide   = 100
)

// newScreen looks whether w is a terminal, and how wide. NO_COLOR is honoured, as
// https://no-color.org has it.
func newScreen(w io.Writer) screen {
	s := screen{w: w, width: wide}
	f, isFile := w.(*os.File)
	if !isFile {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.width = min(max(int(size.Col), narrow), wide)
	s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// style is an SGR parameter of ECMA-48.
type style string

const (
	plain   style = ""
	bold    style = "1"
	dim     style = "2"
	red     style = "1;31"
	green   style = "1;32"
	yellow  style = "1;33"
	magenta style = "1;35"
	cyan    style = "1;36"
)

// styles of the verdicts.
var styles = map[mail.Action]style{
	mail.Accept: green, mail.Tag: yellow, mail.Strip: cyan, mail.Defer: yellow, mail.Quarantine: magenta, mail.Reject: red,
}

func (s screen) paint(st style, text string) string {
	if !s.colour || st == plain || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

func (s screen) print(text string) { fmt.Fprint(s.w, text) }

// line writes indented text, cut to the width.
func (s screen) line(indent int, st style, text string) {
	text = cut(harmlessText(text), s.width-indent)
	s.print(strings.TrimRight(strings.Repeat(" ", indent)+s.paint(st, text), " ") + "\n")
}

// heading begins a section; beside it stands the command that shows the same.
func (s screen) heading(title, command string) {
	s.print("\n" + s.paint(bold, title))
	if command != "" {
		s.print("  " + s.paint(dim, "$ postern "+command))
	}
	s.print("\n")
}

// Columns of the table of verdicts.
const (
	titleWidth   = 30
	verdictWidth = 10
	whoWidth     = 12
)

// announce begins a message's row: what comes now.
func (s screen) announce(n int, title string) {
	s.print(fmt.Sprintf("%2d  %s  ", n, s.paint(bold, pad(title, titleWidth))))
}

// verdict ends it.
func (s screen) verdict(a mail.Action, reply string) {
	reply = cut(harmlessText(reply), s.width-4-titleWidth-2-verdictWidth-2)
	s.print(s.paint(styles[a], pad(a.String(), verdictWidth)) + "  " + reply + "\n")
}

// explain adds a reason to the row, folded between its pieces. Without anybody to
// say it, it stands where they would.
func (s screen) explain(who string, pieces []string) {
	indent := 4 + whoWidth + 2
	if who == "" {
		s.line(4, dim, strings.Join(pieces, " "))
		return
	}
	for _, line := range fold(pieces, s.width-indent) {
		s.print("    " + s.paint(dim, pad(who, whoWidth)+"  "+line) + "\n")
		who = ""
	}
}

// fault says that the demonstration itself went wrong.
func (s screen) fault(text string) { s.line(4, red, text) }

// rows writes a table, its first row as the head. Where it is too wide, the
// column elastic gives way.
func (s screen) rows(elastic int, t table) {
	widths := make([]int, len(t[0]))
	total := 2
	for i := range widths {
		for _, row := range t {
			row[i] = harmlessText(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	widths[elastic] = max(10, widths[elastic]-max(0, total-2-s.width))
	for n, row := range t {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(pad(cut(cell, widths[i]), widths[i]) + "  ")
		}
		st := plain
		if n == 0 {
			st = dim
		}
		s.line(2, st, strings.TrimRight(b.String(), " "))
	}
}

// pad fills a text up to a column's width; every character counts as one.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:max(0, width-1)]) + "…"
	}
	return text
}

// fold puts pieces on lines, and breaks none but what is longer than a line.
func fold(pieces []string, width int) (lines []string) {
	line := ""
	for _, piece := range pieces {
		piece = harmlessText(piece)
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

// words are the pieces of a sentence.
func words(text string) []string { return strings.Split(text, " ") }
