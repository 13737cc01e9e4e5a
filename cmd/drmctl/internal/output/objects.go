package output

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

// jsonSink prints an array, or an object in each line.
type jsonSink[T any] struct {
	out    io.Writer
	object func(T) any
	whole  bool
	begun  bool
}

func (s *jsonSink[T]) write(items []T) error {
	var b bytes.Buffer
	for _, item := range items {
		text, err := jsontext.Marshal(s.object(item))
		if err != nil {
			return err
		}
		switch {
		case !s.whole:
		case s.begun:
			b.WriteByte(',')
		default:
			b.WriteByte('[')
		}
		s.begun = true
		b.Write(text)
		if !s.whole {
			b.WriteByte('\n')
		}
	}
	return writeText(s.out, b.String())
}

func (s *jsonSink[T]) end() error {
	switch {
	case !s.whole:
		return nil
	case s.begun:
		return writeText(s.out, "]\n")
	default:
		return writeText(s.out, "[]\n")
	}
}

// yamlSink prints a list, or a document for each value.
type yamlSink[T any] struct {
	out    io.Writer
	object func(T) any
	whole  bool
	begun  bool
}

func (s *yamlSink[T]) write(items []T) error {
	var b strings.Builder
	for _, item := range items {
		text, err := toYAML(s.object(item))
		if err != nil {
			return err
		}
		if s.whole {
			text = "- " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
		} else if s.begun {
			b.WriteString("---\n")
		}
		s.begun = true
		b.WriteString(text)
	}
	return writeText(s.out, b.String())
}

func (s *yamlSink[T]) end() error {
	if s.whole && !s.begun {
		return writeText(s.out, "[]\n")
	}
	return nil
}

// writeObject prints one object as JSON or YAML.
func writeObject(p *Printer, object any) error {
	if p.Format == YAML {
		text, err := toYAML(object)
		if err != nil {
			return err
		}
		return writeText(p.Out, text)
	}
	text, err := jsontext.Marshal(object)
	if err != nil {
		return err
	}
	return writeText(p.Out, string(text)+"\n")
}

// toYAML turns a value into YAML by way of its JSON, so that both have the same fields. A reader of YAML takes most
// JSON, and not all: no escaped surrogates (which is how many programs write emoji), and not every character. So the
// JSON is read as JSON.
func toYAML(object any) (string, error) {
	text, err := jsontext.Marshal(object)
	if err != nil {
		return "", err
	}
	reader := json.NewDecoder(bytes.NewReader(text))
	reader.UseNumber()
	var value any
	if err := reader.Decode(&value); err != nil {
		return "", err
	}
	made, err := yaml.Marshal(withNumbers(value))
	return string(made), err
}

// withNumbers replaces the numbers in what was read of JSON by those that YAML is made of. Whole ones stay exact.
func withNumbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			v[name] = withNumbers(v[name])
		}
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n
		}
		n, _ := v.Float64() // one that is too large is infinite, as for other readers of YAML and JSON
		return n
	}
	return value
}
