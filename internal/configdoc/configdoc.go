// Package configdoc reads the table of docs/config.md, so that tests can compare it with the code.
package configdoc

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Row is one option as the table has it. All fields but Default and Range have the texts of code spans only.
type Row struct {
	Fields  []string
	Flags   []string
	Env     []string
	Default string
	Range   string
}

var code = regexp.MustCompile("`([^`]*)`")

// Read reads the table from the file at path.
func Read(path string) ([]Row, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for n, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| field |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			return nil, fmt.Errorf("%s:%d: %d cells, want 6", path, n+1, len(cells))
		}
		rows = append(rows, Row{
			Fields: spans(cells[0]), Flags: spans(cells[1]), Env: spans(cells[2]),
			Default: strings.TrimSpace(cells[3]), Range: strings.TrimSpace(cells[4]),
		})
	}
	return rows, nil
}

func spans(cell string) []string {
	var all []string
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}
