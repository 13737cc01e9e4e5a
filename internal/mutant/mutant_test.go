//go:build !mutant

package mutant_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

func TestNormalBuildsHaveNoFault(t *testing.T) {
	for _, k := range mutant.All {
		t.Setenv("DRM_MUTANT", string(k.Mutant))
		if mutant.Is(k.Mutant) {
			t.Errorf("%s is in force", k.Mutant)
		}
	}
}

func TestTheGuaranteesSayHowManyFaultsThereAre(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("takes away %d rules,", len(mutant.All)); !strings.Contains(string(text), want) {
		t.Errorf("docs/guarantees.md does not say %q", want)
	}
}

func TestEveryFaultIsListedAndExplainedAndIsToBeNoticed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "mutant.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[mutant.Mutant]bool{}
	for _, k := range mutant.All {
		listed[k.Mutant] = true
		if !k.Simulated && k.Test == "" {
			t.Errorf("nothing is to notice %s", k.Mutant)
		}
		if (k.Test == "") != (k.Package == "") {
			t.Errorf("%s: test %q of package %q", k.Mutant, k.Test, k.Package)
		}
	}
	named := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			named++
			name := strings.Trim(lit.Value, `"`)
			if !listed[mutant.Mutant(name)] {
				t.Errorf("%s is not in All", name)
			}
			if !strings.Contains(file.Doc.Text(), "\t"+name+" ") {
				t.Errorf("%s is not explained", name)
			}
		}
		return true
	})
	if named != len(mutant.All) {
		t.Errorf("%d names, %d in All", named, len(mutant.All))
	}
}
