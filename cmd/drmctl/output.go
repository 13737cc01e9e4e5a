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

// checkOutput is for before anything is done whose outcome could not be printed then.
func checkOutput(c *cli.Context) error {
	switch o := c.String(flagOutput); o {
	case outputTable, outputJSON:
		return nil
	default:
		return badFlag(flagOutput, o, "table or json")
	}
}

// show prints v as JSON, or what lines writes: rows of cells that end in tabs, to be aligned.
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

// note prints a line on stderr that is no error of the command's.
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

// cell shows a value in a table: nothing as "-", so that columns keep their places for awk and the eye, and never
// more than one line.
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

// printable replaces what would do something to a terminal: errors are what handlers and sources said.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// utc is a time as the JSON contract has it: RFC 3339 in UTC, null where there is none. One that RFC 3339 cannot have,
// such as somebody may have put into etcd, is none.
func utc(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}
