package output

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// gap is what stands between two columns.
const gap = "  "

// least is how narrow a column is made, at most, unless its title is longer, or its texts are shorter.
const least = 6

// grid prints rows of texts in columns. It aligns the rows that it gets at once, and makes no column narrower for those
// that come later.
type grid struct {
	out    io.Writer
	limit  int      // how wide a line may be; 0: any
	color  bool     // tones are shown as colours
	header []string // printed before the first rows; nil: there is none
	ranks  []rank   // by column; of one that has none, first
	wrap   bool     // the last column is wrapped, not cut
	widths []int    // the widest text of each column so far
	least  []int    // how narrow each column is made, at most
}

// write prints some rows, all of which have as many cells as there are columns.
func (g *grid) write(rows [][]field) error {
	header := g.header
	if g.header = nil; header == nil && len(rows) == 0 {
		return nil
	}
	if header != nil {
		for i, title := range header {
			g.measure(i, len(header), title)
		}
		for _, width := range g.widths { // which are those of the titles yet
			g.least = append(g.least, max(least, width))
		}
	}
	for _, row := range rows {
		for i, f := range row {
			g.measure(i, len(row), f.text)
		}
	}
	g.rankExact(rows)
	widths := g.fit()
	t := table.NewWriter()
	t.SetStyle(table.Style{Box: table.BoxStyle{PaddingRight: gap}})
	t.SuppressTrailingSpaces()
	t.SetColumnConfigs(columns(widths))
	if header != nil {
		titles := make(table.Row, len(header))
		for i, title := range header {
			titles[i] = g.shape(i, widths[i], field{text: title})
		}
		t.AppendHeader(titles)
	}
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, f := range row {
			cells[i] = g.shape(i, widths[i], f)
		}
		t.AppendRow(cells)
	}
	_, err := io.WriteString(g.out, t.Render()+"\n")
	return err
}

// rank says when a column is cut, if a line is too long.
type rank int

// The ranks.
const (
	first  rank = iota // before all others
	later              // where nothing of the first rank is left to cut
	last               // where nothing else is left to cut: a part of it would mislead
	nRanks             // how many there are
)

// rankExact gives the last rank to columns of numbers or times.
func (g *grid) rankExact(rows [][]field) {
	for i := range g.widths {
		if isExact(rows, i) {
			for len(g.ranks) <= i {
				g.ranks = append(g.ranks, first)
			}
			g.ranks[i] = last
		}
	}
}

// isExact reports whether a column has nothing but numbers, or times.
func isExact(rows [][]field, column int) bool {
	found := false
	for _, row := range rows {
		if f := row[column]; f.text != none {
			if found = f.exact; !found {
				return false
			}
		}
	}
	return found
}

// field is the text of a cell.
type field struct {
	text  string
	tone  Tone
	exact bool // it is a number or a time
}

func fieldOf(v any) field {
	f := field{text: Cell(v), tone: toneOf(v)}
	if t, ok := v.(Toned); ok {
		v = t.Value
	}
	switch v.(type) {
	case time.Time, int, int64:
		f.exact = true
	}
	return f
}

func (g *grid) measure(column, columns int, cell string) {
	if g.widths == nil {
		g.widths = make([]int, columns)
	}
	g.widths[column] = max(g.widths[column], text.StringWidthWithoutEscSequences(cell))
}

func columns(widths []int) []table.ColumnConfig {
	all := make([]table.ColumnConfig, len(widths))
	for i, width := range widths {
		all[i] = table.ColumnConfig{Number: i + 1, WidthMin: width}
	}
	return all
}

// shape cuts or wraps a text that is wider than its column, and colours what is left of it. The library measures texts
// without their colours.
func (g *grid) shape(column, width int, f field) string {
	made := f.text
	switch {
	case text.StringWidthWithoutEscSequences(made) <= width:
	case g.wrap && column == len(g.widths)-1:
		made = text.WrapSoft(made, width)
	default:
		made = cut(made, width)
	}
	if g.color {
		made = f.tone.colour(made)
	}
	return made
}

// cut shortens a text to a width, and marks that with an ellipsis.
func cut(s string, width int) string { return text.Snip(s, width, "…") }

// fit returns how wide the columns are made: as wide as their texts, and where the line would be too long, the widest
// ones narrower, in the order of their ranks.
func (g *grid) fit() []int {
	widths := append([]int(nil), g.widths...)
	if g.limit <= 0 {
		return widths
	}
	over := len(gap)*(len(widths)-1) - g.limit
	for _, w := range widths {
		over += w
	}
	for now := range nRanks {
		for over > 0 {
			widest := -1
			for i, w := range widths {
				if g.rankOf(i) == now && w > g.narrowest(i) && (widest < 0 || w > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
			over--
		}
	}
	return widths
}

func (g *grid) rankOf(column int) rank {
	if column < len(g.ranks) {
		return g.ranks[column]
	}
	return first
}

// narrowest is how narrow a column is made, at most.
func (g *grid) narrowest(column int) int {
	if column < len(g.least) {
		return g.least[column]
	}
	return least
}

// tableSink prints values as rows of a table.
type tableSink[T any] struct {
	columns []Column[T]
	grid    grid
}

func newTableSink[T any](p *Printer, v View[T]) *tableSink[T] {
	s := &tableSink[T]{grid: grid{out: p.Out, limit: p.width(), color: p.Color}}
	for _, c := range v.Columns {
		if c.Wide && p.Format != Wide {
			continue
		}
		s.columns = append(s.columns, c)
		s.grid.header = append(s.grid.header, c.Title)
		s.grid.ranks = append(s.grid.ranks, c.rank())
	}
	return s
}

func (s *tableSink[T]) write(items []T) error {
	if len(items) == 0 {
		return nil
	}
	rows := make([][]field, len(items))
	for i, item := range items {
		rows[i] = make([]field, len(s.columns))
		for j, c := range s.columns {
			rows[i][j] = fieldOf(c.Cell(item))
		}
	}
	if s.grid.header != nil { // the columns stay what they are from then on
		rows = s.leaveOut(rows)
	}
	return s.grid.write(rows)
}

// leaveOut leaves out spare columns, the last one first, until a line has room for the others: for what should stay
// whole, and for the titles. It returns the rows without them.
func (s *tableSink[T]) leaveOut(rows [][]field) [][]field {
	need := -len(gap)
	room := make([]int, len(s.columns))
	for i, c := range s.columns {
		room[i] = text.StringWidthWithoutEscSequences(c.Title)
		for _, row := range rows {
			width := text.StringWidthWithoutEscSequences(row[i].text)
			if c.rank() != first || isExact(rows, i) || width < least {
				room[i] = max(room[i], width)
			} else {
				room[i] = max(room[i], least)
			}
		}
		need += room[i] + len(gap)
	}
	for i, c := range slices.Backward(s.columns) {
		if !c.Spare || s.grid.limit == 0 || need <= s.grid.limit {
			continue
		}
		need -= room[i] + len(gap)
		s.columns = slices.Delete(slices.Clone(s.columns), i, i+1)
		s.grid.header, s.grid.ranks = slices.Delete(s.grid.header, i, i+1), slices.Delete(s.grid.ranks, i, i+1)
		for j := range rows {
			rows[j] = slices.Delete(rows[j], i, i+1)
		}
	}
	return rows
}

// end prints the header of a table without rows.
func (s *tableSink[T]) end() error { return s.grid.write(nil) }

// none is the text of a cell without a value.
const none = "-"

// Cell turns a value into the text of a cell. An empty value becomes "-", so that columns keep their places for awk and
// for the eye; a text takes one line, and nothing in it can control a terminal, since errors contain what handlers and
// sources have said. Times are RFC 3339 in UTC.
func Cell(v any) string {
	made := ""
	switch v := v.(type) {
	case Toned:
		return Cell(v.Value)
	case time.Time:
		if !v.IsZero() {
			made = v.UTC().Format(time.RFC3339)
		}
	default:
		made = Line(fmt.Sprint(v))
	}
	if made == "" {
		return none
	}
	return made
}

// Escaped writes out, as Go does in strings, what could control a terminal or turn the direction of what follows:
// "\x1b", "\u202e".
func Escaped(s string) string {
	if !strings.ContainsFunc(s, controls) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s { // a byte that is no UTF-8 comes as utf8.RuneError
		if controls(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// controls reports whether a character does something to a terminal, or to the text around it.
func controls(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// Line makes one line of a text that may come from anywhere, for other places than cells: messages, and questions.
func Line(s string) string { return Escaped(OneLine(strings.ReplaceAll(s, "\t", " "))) }

// OneLine turns a text of many lines, such as that of errors.Join, into one line.
func OneLine(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
