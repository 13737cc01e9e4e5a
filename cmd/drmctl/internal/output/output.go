// Package output prints what a command has found: as a table for people, as JSON or YAML for programs, or as bare names
// for other commands. A View says once how values of a type look; List prints many of them without holding them all,
// One prints one, and Follow prints them as they come. Report prints what is no list.
//
// The package decides how things are laid out, and not what is told.
package output

import (
	"io"
	"iter"
	"strings"
	"time"
)

// Format is how a command prints, the value of --output.
type Format string

// The formats.
const (
	Table Format = "table" // columns for people, cut to the width of the terminal
	Wide  Format = "wide"  // the same with all columns, and nothing cut
	JSON  Format = "json"  // one array or object, or one object in each line of what is followed
	YAML  Format = "yaml"  // the same data as JSON; one document each of what is followed
	Name  Format = "name"  // one name in each line, as it is
)

// Formats lists the formats, for errors and completion.
func Formats() []Format { return []Format{Table, Wide, JSON, YAML, Name} }

// Printer says where and how a command prints.
type Printer struct {
	Out    io.Writer
	Format Format
	Width  int  // of the lines of a table, in columns of the terminal; 0: any
	Color  bool // tables show tones as colours
}

// isTable reports whether a printer prints tables.
func (p *Printer) isTable() bool { return p.Format == Table || p.Format == Wide }

// width is how wide lines may be; 0: any.
func (p *Printer) width() int {
	if p.Format == Wide {
		return 0
	}
	return p.Width
}

// Column is a column of the table of values of a type.
type Column[T any] struct {
	Title string
	Cell  func(T) any // Cell of this package turns it into text
	Wide  bool        // only Wide shows it
	Whole bool        // it is cut only where no other column is left to cut but those that are exact
	Exact bool        // it is cut last of all, as columns of numbers and of times are: a part of it would mislead
	Spare bool        // it is left out where a line has no room for all columns
}

func (c *Column[T]) rank() rank {
	switch {
	case c.Exact:
		return last
	case c.Whole:
		return later
	default:
		return first
	}
}

// View says how values of a type are printed.
type View[T any] struct {
	Columns []Column[T]
	Object  func(T) any    // what JSON and YAML have of it
	Name    func(T) string // nil: the text of the first column
}

// List prints values as an array or a table. It prints the first ones before it has all, and holds a few hundred at a
// time. Where items yields an error, List prints what came before, leaves a JSON array open, and returns the error.
func (v View[T]) List(p *Printer, items iter.Seq2[T, error]) error {
	return v.print(v.sink(p, true), items)
}

// Stream is List for output that goes on after the list: JSON has one object in each line, and YAML a document each.
// Each call adds to what was printed before.
type Stream[T any] struct {
	view View[T]
	sink sink[T]
}

// Follow returns a Stream, which prints values as they come.
func (v View[T]) Follow(p *Printer) *Stream[T] { return &Stream[T]{v, v.sink(p, false)} }

// Add prints some values at once.
func (s *Stream[T]) Add(items ...T) error { return s.AddAll(All(items)) }

// AddAll prints the values of a sequence. Where that yields an error, AddAll prints what came before, and returns the
// error.
func (s *Stream[T]) AddAll(items iter.Seq2[T, error]) error { return s.view.print(s.sink, items) }

// One prints a single value, as an object or a table of one row.
func (v View[T]) One(p *Printer, item T) error {
	if p.isTable() || p.Format == Name {
		return v.List(p, All([]T{item}))
	}
	return writeObject(p, v.Object(item))
}

// All makes of a slice what List takes.
func All[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

const (
	// batch is how many values are printed at once, at most.
	batch = 256
	// patience is how long a value that has come may wait for others, to be printed with them. It ends with the next
	// value only, since nothing but that can be in the way of a batch.
	patience = 100 * time.Millisecond
)

// sink is what values of a type are printed to. One goroutine uses it.
type sink[T any] interface {
	write(items []T) error
	end() error // after all values of a list
}

// print prints all values of a sequence to a sink, a batch at a time.
func (v View[T]) print(to sink[T], items iter.Seq2[T, error]) error {
	waiting := make([]T, 0, batch)
	var since time.Time
	for item, err := range items {
		if err != nil {
			if failed := to.write(waiting); failed != nil {
				return failed
			}
			return err
		}
		if waiting = append(waiting, item); len(waiting) == 1 {
			since = time.Now()
		}
		if len(waiting) < batch && time.Since(since) < patience {
			continue
		}
		if err := to.write(waiting); err != nil {
			return err
		}
		clear(waiting)
		waiting = waiting[:0]
	}
	if err := to.write(waiting); err != nil {
		return err
	}
	return to.end()
}

// sink returns what a printer prints values to. whole says that they make up one list.
func (v View[T]) sink(p *Printer, whole bool) sink[T] {
	switch p.Format {
	case JSON:
		return &jsonSink[T]{out: p.Out, object: v.Object, whole: whole}
	case YAML:
		return &yamlSink[T]{out: p.Out, object: v.Object, whole: whole}
	case Name:
		return &nameSink[T]{out: p.Out, name: v.name}
	default:
		return newTableSink(p, v)
	}
}

func (v View[T]) name(item T) string {
	if v.Name == nil {
		return Cell(v.Columns[0].Cell(item))
	}
	return v.Name(item)
}

// nameSink prints a name in each line.
type nameSink[T any] struct {
	out  io.Writer
	name func(T) string
}

func (s *nameSink[T]) write(items []T) error {
	var b strings.Builder
	for _, item := range items {
		b.WriteString(s.name(item))
		b.WriteByte('\n')
	}
	return writeText(s.out, b.String())
}

func (s *nameSink[T]) end() error { return nil }

// writeText writes a text that is not empty.
func writeText(out io.Writer, text string) error {
	if text == "" {
		return nil
	}
	_, err := io.WriteString(out, text)
	return err
}
