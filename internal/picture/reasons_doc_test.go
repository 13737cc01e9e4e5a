package picture

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Users look the codes up, so docs/cli.md has all of them.
func TestTheCodesOfReasonsAreDocumented(t *testing.T) {
	code, err := os.ReadFile("reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tReason\w+ += "([a-z-]+)"`).FindAllSubmatch(code, -1)
	if len(found) < 30 {
		t.Fatalf("found %d codes", len(found))
	}
	for _, m := range found {
		if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
			t.Errorf("docs/cli.md has no %s", m[1])
		}
	}
}
