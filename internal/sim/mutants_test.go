//go:build mutant

package sim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// mutantSchedules is how many schedules a fault may survive before it is taken for one that the simulation does not see.
const mutantSchedules = 50_000

// TestEveryMutantIsCaught puts each fault in force in turn, and prints what noticed it, as a table.
func TestEveryMutantIsCaught(t *testing.T) {
	sum := explore(1, upTo(2000))
	if sum.failed != nil {
		t.Fatalf("without any fault: %s", sum.failed.report())
	}
	breaks := explanations(t)
	binaries := &binaries{dir: t.TempDir()}
	row := func(m mutant.Mutant, by, after, what string) {
		if r := []rune(what); len(r) > 110 {
			what = string(r[:110]) + "…"
		}
		fmt.Printf("| %s | %s | %s | %s | %s |\n", m, breaks[m], by, after, strings.ReplaceAll(what, "|", `\|`))
	}
	fmt.Print("| mutant | what it breaks | caught by | after | what was reported |\n|---|---|---|---|---|\n")
	row("none", "nothing", plural(sum.runs, "schedule"), "")
	for _, k := range mutant.All {
		if k.Simulated {
			mutant.Set(k.Mutant)
			sum := explore(1, upTo(mutantSchedules))
			mutant.Set("")
			if sum.failed != nil {
				what, _, _ := strings.Cut(sum.failed.err.Error(), "\n")
				row(k.Mutant, "simulation", plural(int(sum.failed.seed), "schedule"), what)
			} else {
				row(k.Mutant, "**nothing**", plural(sum.runs, "schedule"), "")
				t.Errorf("%s survives %d schedules", k.Mutant, sum.runs)
			}
		}
		if k.Test != "" {
			what, err := binaries.fail(t, k)
			if err != nil {
				row(k.Mutant, "**nothing**", "`"+k.Test+"`", "")
				t.Errorf("%s: %v", k.Mutant, err)
			} else {
				row(k.Mutant, "`"+k.Test+"`", "", what)
			}
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// explanations reads what the documentation of package mutant says of each.
func explanations(t *testing.T) map[mutant.Mutant]string {
	text, err := os.ReadFile("../mutant/mutant.go")
	if err != nil {
		t.Fatal(err)
	}
	said := map[mutant.Mutant]string{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\S+) +(.*)$`).FindAllStringSubmatch(string(text), -1) {
		said[mutant.Mutant(m[1])] = m[2]
	}
	return said
}

// binaries builds the tests of packages, each once.
type binaries struct{ dir string }

// place is where a test says that something is wrong.
var place = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)

// fail runs the test that is to notice a fault, and returns what it says; an error if it passes, or does not run.
func (b *binaries) fail(t *testing.T, k mutant.Known) (string, error) {
	binary := filepath.Join(b.dir, filepath.Base(k.Package)+".test")
	if _, err := os.Stat(binary); err != nil {
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "mutant", "-o", binary, k.Package)
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the tests of %s: %w\n%s", k.Package, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.timeout=2m", "-test.v", "-test.run=^"+k.Test+"$")
	cmd.Dir = b.dir // where rapid may leave what failed
	cmd.Env = append(os.Environ(), "DRM_MUTANT="+string(k.Mutant))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return "", fmt.Errorf("%s passes", k.Test)
	case !bytes.Contains(out, []byte("--- FAIL: "+k.Test)):
		return "", fmt.Errorf("%s did not run: %w\n%s", k.Test, err, out)
	}
	if found := place.FindSubmatch(out); found != nil {
		return string(found[1]), nil
	}
	return "it failed", nil
}
