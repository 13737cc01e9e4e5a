package output

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Tone says what a text means to whoever looks for what is wrong. Where a Printer colours, it chooses the colour.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Good       // as it should be
	Warn       // it passes, or an operator wants it so
	Bad        // something is wrong
)

// Toned is a value with a tone, for a cell of a table. Other formats than tables have the value alone.
type Toned struct {
	Value any
	Tone  Tone
}

// toneOf returns the tone of a cell's value.
func toneOf(v any) Tone {
	if t, ok := v.(Toned); ok {
		return t.Tone
	}
	return Plain
}

// colours are the colours of the tones. They are among the eight that every terminal has, and that its user has chosen.
var colours = map[Tone]text.Color{Good: text.FgGreen, Warn: text.FgYellow, Bad: text.FgRed}

// colour colours a text that takes its final width, each line by itself, so that nothing is coloured behind it.
func (t Tone) colour(s string) string {
	c, ok := colours[t]
	if !ok || s == "" {
		return s
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = text.Escape(strings.TrimRight(line, " "), c.EscapeSeq())
	}
	return strings.Join(lines, "\n")
}
