package screen

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Table is text in columns, row by row.
type Table [][]string

// Write lines the columns up; cells are made harmless. An error is w's.
func (t Table) Write(w io.Writer) error {
	columns := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range t {
		for i, cell := range row {
			row[i] = Harmless(cell)
		}
		fmt.Fprintln(columns, strings.TrimRight(strings.Join(row, "\t"), " \t"))
	}
	return columns.Flush()
}

// Harmless keeps a sender's text from steering the terminal or the table.
func Harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// WriteJSON writes one object a line. An error is w's, or an item's that is no JSON.
func WriteJSON[T any](w io.Writer, items []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, item := range items {
		if err := encoder.Encode(item); err != nil {
			return err
		}
	}
	return nil
}

// ShortTime is a time for a column: local, to the minute, without the year.
func ShortTime(t time.Time) string { return t.Local().Format("01-02 15:04") }

// LongTime is a time with all that belongs to it: local, to the second, with its
// offset from UTC.
func LongTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

// Sender writes the null reverse-path as a person would look for it.
func Sender(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}

// Brief cuts a text to 40 characters, for a column.
func Brief(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:39]) + "…"
	}
	return s
}

// Octets writes a size in octets for people.
func Octets(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 10_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d B", n)
}
