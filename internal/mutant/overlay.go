package mutant

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Apply returns the text of each file that the Mutant changes, by the file's name in Change. It gets the text as it is
// from read. The error says which Change does not fit, and why.
func (m Mutant) Apply(read func(file string) ([]byte, error)) (map[string]string, error) {
	byFile := map[string][]Change{}
	for _, c := range m.Changes {
		byFile[c.File] = append(byFile[c.File], c)
	}
	changed := map[string]string{}
	for file, changes := range byFile {
		text, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		if changed[file], err = replace(string(text), changes); err != nil {
			return nil, fmt.Errorf("mutant %s: %s: %w", m.Name, file, err)
		}
	}
	return changed, nil
}

// replace makes all changes of one file.
func replace(text string, changes []Change) (string, error) {
	type span struct {
		from, to int
		by       string
	}
	var spans []span
	for _, c := range changes {
		found := pattern(c.Old).FindAllStringIndex(text, -1)
		if len(found) != 1 {
			return "", fmt.Errorf("this text occurs %d times, want once:\n%s", len(found), c.Old)
		}
		spans = append(spans, span{found[0][0], found[0][1], c.New})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	at := 0
	for _, s := range spans {
		if s.from < at {
			return "", fmt.Errorf("two changes overlap, the second of which writes:\n%s", s.by)
		}
		out.WriteString(text[at:s.from])
		out.WriteString(s.by)
		at = s.to
	}
	out.WriteString(text[at:])
	return out.String(), nil
}

// pattern matches a text in whatever way its lines are indented.
func pattern(old string) *regexp.Regexp {
	lines := strings.Split(strings.TrimSpace(old), "\n")
	for i, line := range lines {
		lines[i] = regexp.QuoteMeta(strings.TrimSpace(line))
	}
	return regexp.MustCompile(strings.Join(lines, `\n[ \t]*`))
}

// Overlay writes the changed files, and the JSON file for the go command's flag -overlay, to a directory that exists.
// It returns the name of that JSON file. Root is the root of the module. Both directories must be absolute paths.
func (m Mutant) Overlay(root, dir string) (string, error) {
	changed, err := m.Apply(func(file string) ([]byte, error) {
		return os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	})
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range changed {
		by := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(by, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("mutant %s: write what replaces %s: %w", m.Name, file, err)
		}
		overlay.Replace[filepath.Join(root, filepath.FromSlash(file))] = by
	}
	text, err := json.MarshalIndent(overlay, "", "\t")
	if err != nil {
		return "", fmt.Errorf("mutant %s: encode the overlay: %w", m.Name, err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return "", fmt.Errorf("mutant %s: write the overlay: %w", m.Name, err)
	}
	return name, nil
}
