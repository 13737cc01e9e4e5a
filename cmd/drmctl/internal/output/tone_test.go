package output_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func toned() output.View[thing] {
	v := things()
	v.Columns[2].Cell = func(t thing) any { return output.Toned{Value: t.Text, Tone: output.Bad} }
	v.Columns = append(v.Columns, output.Column[thing]{Title: "STATE", Cell: func(thing) any {
		return output.Toned{Value: "fine", Tone: output.Good}
	}})
	return v
}

func TestColoursDoNotMoveAnything(t *testing.T) {
	for _, width := range []int{0, 24, 40, 200} {
		var plain, coloured strings.Builder
		for _, p := range []output.Printer{
			{Out: &plain, Format: output.Table, Width: width},
			{Out: &coloured, Format: output.Table, Width: width, Color: true},
		} {
			if err := toned().List(&p, output.All(some)); err != nil {
				t.Fatal(err)
			}
			err := output.Report(&p, nil, "", func(pg *output.Page) {
				pg.Row("name", output.Toned{Value: strings.Repeat("wrapped ", 10), Tone: output.Warn})
				pg.Rows([]string{"A", "B"}, [][]any{{"x", output.Toned{Value: some[1].Text, Tone: output.Good}}})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(plain.String(), escapes.ReplaceAllString(coloured.String(), "")); diff != "" {
			t.Errorf("width %d (-plain +coloured):\n%s", width, diff)
		}
		for line := range strings.Lines(coloured.String()) {
			on := 0
			for _, e := range escapes.FindAllString(line, -1) {
				if on++; e == "\x1b[0m" {
					on = 0
				}
			}
			if on != 0 {
				t.Errorf("width %d: a line ends in colour: %q", width, line)
			}
		}
		for _, want := range []string{"\x1b[32mfine\x1b[0m", "\x1b[31mlong", "\x1b[33mwrapped"} {
			if !strings.Contains(coloured.String(), want) {
				t.Errorf("width %d: no %q in\n%q", width, want, coloured.String())
			}
		}
		if strings.Contains(plain.String(), "\x1b") {
			t.Errorf("width %d: colours without being asked: %q", width, plain.String())
		}
	}
}

func TestOnlyTablesHaveColours(t *testing.T) {
	for _, format := range []output.Format{output.JSON, output.YAML, output.Name} {
		var b strings.Builder
		p := output.Printer{Out: &b, Format: format, Color: true}
		v := toned()
		v.Columns[0], v.Columns[2] = v.Columns[2], v.Columns[0] // the first one is the name
		if err := v.List(&p, output.All(some)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Errorf("%s: %q", format, b.String())
		}
	}
}

func TestWhatCouldControlATerminalIsWrittenOut(t *testing.T) {
	for text, want := range map[string]string{
		"plain é 日本 \\x":          "plain é 日本 \\x",
		"\x1b[31mred\x07":         `\x1b[31mred\a`,
		"c1 \u009b2J del \x7f":    `c1 \u009b2J del \x7f`,
		"turned \u202eback\u2066": `turned \u202eback\u2066`,
		"one\r\ntwo\rthree":       `one; two\rthree`,
		"no UTF-8: \xff":          "no UTF-8: \uFFFD",
	} {
		if got := output.Line(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if got := output.Cell(text); got != want {
			t.Errorf("cell %q: got %q, want %q", text, got, want)
		}
	}
}
