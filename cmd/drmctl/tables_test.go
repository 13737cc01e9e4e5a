package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

var updateGolden = flag.Bool("update", false, "write testdata/golden anew")

// golden compares a text with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *updateGolden {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// shownAt is shown with a width of lines.
func shownAt(t *testing.T, width int, command func(c *cli.Context) error) string {
	t.Helper()
	return shown(t, "table", func(c *cli.Context) error {
		if err := c.Set(flagWidth, fmt.Sprint(width)); err != nil {
			return err
		}
		return command(c)
	})
}

// tables are all commands that print tables, with results that are made up, so that nothing in them changes by itself.
func tables() map[string]func(c *cli.Context) error {
	return map[string]func(c *cli.Context) error{
		"explain":           func(c *cli.Context) error { return showExplanation(c, madeUp()) },
		"describe-resource": func(c *cli.Context) error { return showResource(c, madeUpResource(), false) },
		"describe-member":   func(c *cli.Context) error { return showMember(c, madeUpMember()) },
		"describe-shard":    func(c *cli.Context) error { return showShard(c, madeUpShard()) },

		"members": func(c *cli.Context) error {
			g := madeUpGroup()
			return showMembers(c, g.Members, g.Orders)
		},
		"pins":         func(c *cli.Context) error { return showPins(c, madeUpPins()) },
		"assignments":  func(c *cli.Context) error { return showAssignments(c, madeUpAssignments()) },
		"lookup":       func(c *cli.Context) error { return showAssignment(c, madeUpAssignments()[1]) },
		"resources":    func(c *cli.Context) error { return showResources(c, madeUpResources()) },
		"status":       func(c *cli.Context) error { return showStatus(c, madeUpOverview()) },
		"plan":         func(c *cli.Context) error { return showPlan(c, madeUpPlan()) },
		"events":       func(c *cli.Context) error { return eventView().Follow(printer(c)).Add(madeUpEvents()...) },
		"doctor":       func(c *cli.Context) error { return checkView().List(printer(c), output.All(madeUpChecks())) },
		"apps":         func(c *cli.Context) error { return appView().List(printer(c), output.All(madeUpApps())) },
		"app-describe": func(c *cli.Context) error { return showApp(c, madeUpApp()) },
		"verify":       func(c *cli.Context) error { return showViolations(c, madeUpViolations()) },
	}
}

// TestTablesAreAsTheyWere compares tables with those that were looked at: go test ./cmd/drmctl -run AsTheyWere -update
// writes them anew.
func TestTablesAreAsTheyWere(t *testing.T) {
	for name, print := range tables() {
		for _, width := range []int{80, 200} {
			got := shownAt(t, width, print)
			golden(t, fmt.Sprintf("%s-%d.txt", name, width), got)
			for line := range strings.Lines(got) {
				if n := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("%s has a line of %d columns, in a terminal of %d: %s", name, n, width, line)
				}
			}
			if strings.Contains(got, "s3cret") {
				t.Errorf("%s tells a secret", name)
			}
		}
	}
	for name, print := range map[string]func(c *cli.Context) error{
		"explain":           tables()["explain"],
		"describe-resource": func(c *cli.Context) error { return showResource(c, madeUpResource(), true) },
		"describe-member":   tables()["describe-member"],
		"describe-shard":    tables()["describe-shard"],
	} {
		golden(t, name+".yaml", shown(t, "yaml", print))
	}
}
