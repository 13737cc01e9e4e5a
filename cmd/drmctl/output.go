package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// checkOutput refuses a value of --output before the command does anything whose outcome could not be printed.
func checkOutput(c *cli.Context) error {
	switch o := c.String(flagOutput); o {
	case outputTable, outputJSON:
		return nil
	default:
		return badFlag(flagOutput, o, "table or json")
	}
}

// show prints v as JSON, or as the table that lines writes: rows whose cells end in tabs, which show aligns.
func show(c *cli.Context, v any, lines func(w io.Writer)) error {
	if c.String(flagOutput) == outputJSON {
		e := json.NewEncoder(c.App.Writer)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	lines(w)
	return w.Flush()
}

// note prints a line on stderr that is not an error.
func note(c *cli.Context, format string, args ...any) {
	fmt.Fprintf(c.App.ErrWriter, "drmctl: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// row prints the cells of one line of a table.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = cell(c)
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
}

// cell prepares a value for a table. An empty value becomes "-", so that columns keep their places for awk and for the
// eye; a value never takes more than one line.
func cell(v any) string {
	text := ""
	switch v := v.(type) {
	case time.Time:
		if !v.IsZero() {
			text = v.UTC().Format(time.RFC3339)
		}
	default:
		text = strings.Map(printable, oneLine(strings.ReplaceAll(fmt.Sprint(v), "\t", " ")))
	}
	if text == "" {
		return "-"
	}
	return text
}

// printable replaces characters that would control a terminal, since errors contain what handlers and sources said.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// utc returns a time as the JSON contract has it: RFC 3339 in UTC, or null for no time. A time that RFC 3339 cannot
// express, which somebody may have put into etcd, counts as no time.
func utc(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}
