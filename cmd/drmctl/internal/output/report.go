package output

import (
	"fmt"
	"strings"
)

// Report prints what is no list: an object, its name (several are separated by newlines; "" for none), or a page for
// people that tell writes.
func Report(p *Printer, object any, name string, tell func(*Page)) error {
	switch {
	case p.Format == Name && name == "":
		return nil
	case p.Format == Name:
		return writeText(p.Out, name+"\n")
	case !p.isTable():
		return writeObject(p, object)
	}
	page := &Page{p: p}
	tell(page)
	page.flush()
	return page.err
}

// Event is Report for one of many objects that are printed one after the other: YAML has a document each.
func Event(p *Printer, object any, name string, tell func(*Page)) error {
	if p.Format == YAML {
		if err := writeText(p.Out, "---\n"); err != nil {
			return err
		}
	}
	return Report(p, object, name, tell)
}

// Sheet is Report for a page that has names and values only, one in each line.
func Sheet(p *Printer, object any, name string, rows func(row func(name string, value any))) error {
	return Report(p, object, name, func(page *Page) { rows(func(name string, value any) { page.Row(name, value) }) })
}

// Page is what Report prints for people: lines, names with values, and tables, one below the other. After an error of
// the output, its methods do nothing.
type Page struct {
	p    *Printer
	rows [][]field // names and values that are to be aligned with those that follow
	err  error
}

// IsWide reports whether everything is to be shown.
func (pg *Page) IsWide() bool { return pg.p.Format == Wide }

// Row writes a name and its value. Rows that follow one another are aligned. A value that is too long for the line is
// wrapped.
func (pg *Page) Row(name, value any) {
	pg.rows = append(pg.rows, []field{fieldOf(name), fieldOf(value)})
}

// Line writes a line, which is neither cut nor wrapped, and may be empty. It keeps spaces at the beginning.
func (pg *Page) Line(format string, args ...any) {
	pg.flush()
	if pg.err != nil {
		return
	}
	said := fmt.Sprintf(format, args...)
	indent := len(said) - len(strings.TrimLeft(said, " "))
	_, pg.err = fmt.Fprintln(pg.p.Out, said[:indent]+Line(said))
}

// Rows writes a table with a header. The first column is cut only where nothing else is left to cut.
func (pg *Page) Rows(header []string, rows [][]any) {
	pg.flush()
	fields := make([][]field, len(rows))
	for i, row := range rows {
		for _, v := range row {
			fields[i] = append(fields[i], fieldOf(v))
		}
	}
	pg.write(&grid{
		out: pg.p.Out, limit: pg.p.width(), color: pg.p.Color, header: header, ranks: []rank{later},
	}, fields)
}

// flush writes the names and values that wait for others.
func (pg *Page) flush() {
	rows := pg.rows
	pg.rows = nil
	pg.write(&grid{
		out: pg.p.Out, limit: pg.p.width(), color: pg.p.Color, ranks: []rank{later}, wrap: true,
	}, rows)
}

func (pg *Page) write(g *grid, rows [][]field) {
	if pg.err == nil {
		pg.err = g.write(rows)
	}
}
