package house_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A table of the documents that has two rows for one thing says two things of it. That comes about where two changes
// of one row are merged into both of them, which no other check notices.
func TestNoTableOfADocumentHasTwoRowsForOneThing(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 10 {
		t.Fatalf("only %d documents were found", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for row, lines := range twiceInOneTable(string(text)) {
			t.Errorf("%s: line %d and line %d of one table are both about %s", file, lines[0], lines[1], row)
		}
	}
}

// twiceInOneTable returns the first cells that two rows of a table have, with the numbers of the lines.
func twiceInOneTable(text string) map[string][2]int {
	twice := map[string][2]int{}
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			clear(seen)
			continue
		}
		cell, _, _ := strings.Cut(line[1:], " |")
		if cell = strings.TrimSpace(cell); !strings.HasPrefix(cell, "`") && !isNumber(cell) {
			continue // not a name: a table may well say two things of members that leave
		}
		if first, ok := seen[cell]; ok {
			twice[cell] = [2]int{first, i + 1}
		}
		seen[cell] = i + 1
	}
	return twice
}

// isNumber tells of an exit code, for instance.
func isNumber(cell string) bool {
	_, err := strconv.Atoi(cell)
	return err == nil
}
