package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table is text in columns.
type table [][]string

// write lines the columns up.
func (t table) write(w io.Writer) error {
	columns := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range t {
		for i, cell := range row {
			row[i] = harmlessText(cell)
		}
		fmt.Fprintln(columns, strings.TrimRight(strings.Join(row, "\t"), " \t"))
	}
	return columns.Flush()
}

// harmlessText keeps a sender's text from steering the terminal or the table.
func harmlessText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// writeJSON writes one object a line.
func writeJSON[T any](w io.Writer, items []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, item := range items {
		if err := encoder.Encode(item); err != nil {
			return err
		}
	}
	return nil
}

func short(t time.Time) string { return t.Local().Format("01-02 15:04") }

func long(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

// sender writes the null reverse-path as a person would look for it.
func sender(s string) string {
	if s == "" {
		return "<>"
	}
	return s
}

// short40 cuts a text for a column.
func short40(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:39]) + "…"
	}
	return s
}

// octets writes a size for people.
func octets(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 10_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d B", n)
}
