package mutant_test

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// root is the root of the module.
const root = "../.."

func read(file string) ([]byte, error) { return os.ReadFile(filepath.Join(root, file)) }

func TestEveryMutantFits(t *testing.T) {
	for _, m := range mutant.All() {
		if len(m.Changes) == 0 {
			t.Errorf("%s changes nothing", m.Name)
		}
		changed, err := m.Apply(read)
		if err != nil {
			t.Error(err)
			continue
		}
		for file, text := range changed {
			if was, err := read(file); err != nil || string(was) == text {
				t.Errorf("%s: %s stays as it is (error %v)", m.Name, file, err)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s: it is not Go: %v", m.Name, err)
			}
		}
	}
}

func TestEveryMutantIsExplainedAndIsToBeNoticed(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutant.All() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(m.Name) {
			t.Errorf("the name %q is not of words with hyphens", m.Name)
		}
		if seen[m.Name] {
			t.Errorf("there are two mutants %s", m.Name)
		}
		seen[m.Name] = true
		if m.Breaks == "" || strings.Contains(m.Breaks, "\n") {
			t.Errorf("%s: what it breaks is %q, want one line", m.Name, m.Breaks)
		}
		if !m.Simulated && !m.Grouped && m.Test == "" {
			t.Errorf("nothing is to notice %s", m.Name)
		}
		if (m.Test == "") != (m.Package == "") {
			t.Errorf("%s: test %q of package %q", m.Name, m.Test, m.Package)
		}
		if m.Test != "" && !hasTest(t, m.Package, m.Test) {
			t.Errorf("%s: package %s has no test %s", m.Name, m.Package, m.Test)
		}
	}
	for _, s := range []simulation{ofTheCore, ofTheGroup} {
		if !hasTest(t, s.pkg, firstFailure) {
			t.Errorf("package %s has no test %s", s.pkg, firstFailure)
		}
	}
}

// hasTest reports whether a package has a test of that name.
func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

func TestTheGuaranteesSayHowManyFaultsThereAre(t *testing.T) {
	text, err := read("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("takes away %d rules,", len(mutant.All())); !strings.Contains(string(text), want) {
		t.Errorf("docs/guarantees.md does not say %q", want)
	}
}

func TestAChangeFitsOnceOrNotAtAll(t *testing.T) {
	const text = "a\n\tif b {\n\t\tc()\n\t}\n\tif b || d {\n\t\tc()\n\t}\n"
	with := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	type changes = []mutant.Change
	for name, tc := range map[string]struct {
		changes changes
		want    string
		err     string
	}{
		"part of a line": {changes{{Old: "if b {", New: "if e {"}}, with("if b {", "if e {"), ""},
		"indented otherwise": {
			changes{{Old: "if b {\n\t\t\t\tc()\n}", New: "e()"}},
			with("if b {\n\t\tc()\n\t}", "e()"), "",
		},
		"two in one file": {
			changes{{Old: "b || d", New: "b"}, {Old: "a", New: "e"}},
			with("a", "e", "b || d", "b"), "",
		},
		"the one writes what the other replaces": {
			changes{{Old: "a", New: "if b {"}, {Old: "if b {", New: "e"}},
			with("a", "if b {", "if b {", "e"), "",
		},
		"not there":   {changes{{Old: "if e {"}}, "", "m: f: this text occurs 0 times, want once:\nif e {"},
		"there twice": {changes{{Old: "c()"}}, "", "m: f: this text occurs 2 times, want once:\nc()"},
		"overlapping": {
			changes{{Old: "if b {"}, {Old: "b {\nc()", New: "y"}},
			"", "two changes overlap, the second of which writes:\ny",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range tc.changes {
				tc.changes[i].File = "f"
			}
			m := mutant.Mutant{Name: "m", Changes: tc.changes}
			got, err := m.Apply(func(string) ([]byte, error) { return []byte(text), nil })
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil || got["f"] != tc.want {
				t.Fatalf("error %v, text\n%s\nwant\n%s", err, got["f"], tc.want)
			}
		})
	}
	m := mutant.Mutant{Name: "m", Changes: []mutant.Change{{File: "none.go", Old: "a"}}}
	if _, err := m.Apply(read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}
