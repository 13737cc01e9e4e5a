package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const formatWords = "table, wide, json, yaml or name"

// checkOutput refuses a value of --output before the command does anything whose outcome could not be printed.
func checkOutput(c *cli.Context) error {
	format := c.String(flagOutput)
	if !slices.Contains(output.Formats(), output.Format(format)) {
		return badFlag(flagOutput, format, formatWords)
	}
	if color := c.String(flagColor); !slices.Contains(colorWords, color) {
		return badFlag(flagColor, color, "auto, always or never")
	}
	return numberInRange(c, flagWidth, 0, 10_000)
}

// formatOf is the format that a command prints.
func formatOf(c *cli.Context) output.Format { return output.Format(c.String(flagOutput)) }

// isTable reports whether a command prints for people.
func isTable(c *cli.Context) bool { return formatOf(c) == output.Table || formatOf(c) == output.Wide }

// printer returns what a command prints with.
func printer(c *cli.Context) *output.Printer {
	p := &output.Printer{
		Out: c.App.Writer, Format: formatOf(c), Width: c.Int(flagWidth), Color: inColor(c, c.App.Writer),
	}
	if file, ok := c.App.Writer.(interface{ Fd() uintptr }); ok && p.Width == 0 && term.IsTerminal(int(file.Fd())) {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			p.Width = width
		}
	}
	return p
}

// The values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

var colorWords = []string{colorAuto, colorAlways, colorNever}

// inColor reports whether what people read on w is coloured. Where nobody has asked for colours, only terminals get
// them that have some, unless the user wants none of any program (https://no-color.org).
func inColor(c *cli.Context, w io.Writer) bool {
	switch c.String(flagColor) {
	case colorAlways:
		return true
	case colorNever:
		return false
	}
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// show prints an object that is no list: its JSON, its name, or what tell writes for people.
func show(c *cli.Context, object any, name string, tell func(*output.Page)) error {
	return output.Report(printer(c), object, name, tell)
}

// note prints a line on stderr that is not an error.
func note(c *cli.Context, format string, args ...any) {
	fmt.Fprintf(c.App.ErrWriter, "drmctl: %s\n", output.Line(fmt.Sprintf(format, args...)))
}

// cell is output.Cell, for a text that is a part of a line.
func cell(v any) string { return output.Cell(v) }

// utc returns a time as the JSON contract has it: RFC 3339 in UTC, or null for no time. A time that RFC 3339 cannot
// express, which somebody may have put into etcd, counts as no time.
func utc(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}
