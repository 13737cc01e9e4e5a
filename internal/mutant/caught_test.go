package mutant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// simulation is a package that simulates schedules.
type simulation struct {
	name, pkg string
	number    string // the environment variable which says how many schedules are run
	most      int    // how many a fault may survive before it counts as one that is not noticed
	without   int    // how many are run without a fault
}

var (
	ofTheCore  = simulation{"simulation", "./internal/sim", "DRM_SIM_FIRST", 50_000, 2000}
	ofTheGroup = simulation{"simulation of the group", "./internal/groupsim", "DRM_GROUPSIM_FIRST", 3000, 500}
)

const (
	// firstFailure is the test of a simulation that looks for a schedule that goes wrong.
	firstFailure = "TestFirstFailure"
	// sideBySide is how many faults are tried at once, each with its share of the processors.
	sideBySide = 2
)

// TestEveryMutantIsCaught tries the faults that MUTANTS names ("all", or names with spaces between them), and prints
// what noticed them as a table. It runs for minutes, so it is skipped without MUTANTS. With OVERLAYS, the overlays stay
// in that directory.
func TestEveryMutantIsCaught(t *testing.T) {
	names := os.Getenv("MUTANTS")
	if names == "" {
		t.Skip("no names in MUTANTS")
	}
	mutants := chosen(t, names)
	b := newBench(t)
	fmt.Print("| mutant | what it breaks | caught by | after | what was reported |\n|---|---|---|---|---|\n")
	b.withoutFault(t, ofTheCore)
	b.withoutFault(t, ofTheGroup)

	found := make([]chan []finding, len(mutants))
	for i := range found {
		found[i] = make(chan []finding, 1)
	}
	next := make(chan int, len(mutants))
	for i := range mutants {
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	defer workers.Wait()
	for range sideBySide {
		workers.Go(func() {
			for i := range next {
				found[i] <- b.try(t.Context(), mutants[i])
			}
		})
	}
	for i, m := range mutants {
		for _, f := range <-found[i] {
			f.print(m.Name, m.Breaks)
			if f.err != nil {
				t.Errorf("%s: %v", m.Name, f.err)
			}
		}
	}
}

// chosen returns the faults that have these names.
func chosen(t *testing.T, names string) []mutant.Mutant {
	t.Helper()
	all := mutant.All()
	if names == "all" {
		return all
	}
	var some []mutant.Mutant
	for _, name := range strings.Fields(names) {
		n := len(some)
		for _, m := range all {
			if m.Name == name {
				some = append(some, m)
			}
		}
		if len(some) == n {
			t.Fatalf("MUTANTS has %q, want all, or names of mutants", name)
		}
	}
	return some
}

// finding is what one check found of a fault: a row of the table.
type finding struct {
	by, after, what string
	err             error // why the fault does not count as caught
}

func (f finding) print(name, breaks string) {
	by, what := f.by, f.what
	if f.err != nil {
		by = "**nothing** (" + by + ")"
	}
	if r := []rune(what); len(r) > 110 {
		what = string(r[:110]) + "…"
	}
	fmt.Printf("| %s | %s | %s | %s | %s |\n", name, breaks, by, f.after, strings.ReplaceAll(what, "|", `\|`))
}

// bench is where faults are tried.
type bench struct {
	root string // the root of the module
	dir  string // has what is built, and the overlays
	env  []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("OVERLAYS")
	if dir == "" {
		dir = t.TempDir()
	} else if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	share := max(1, runtime.GOMAXPROCS(0)/sideBySide)
	return &bench{root: top, dir: dir, env: append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(share))}
}

// withoutFault checks that a simulation reports nothing when there is nothing to report.
func (b *bench) withoutFault(t *testing.T, s simulation) {
	t.Helper()
	dir := t.TempDir()
	binary, err := b.build(t.Context(), dir, s.pkg)
	if err != nil {
		t.Fatal(err)
	}
	if f := b.simulate(t.Context(), dir, binary, s, s.without); !errors.Is(f.err, errSurvived) {
		t.Fatalf("without any fault: %s: %s: %s; error %v", s.name, f.after, f.what, f.err)
	}
	finding{by: "nothing", after: plural(s.without, "schedule")}.print("none", "nothing")
}

// try builds a fault into the tests that must notice it, and returns what each of them found.
func (b *bench) try(ctx context.Context, m mutant.Mutant) []finding {
	dir := filepath.Join(b.dir, m.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return []finding{{err: err}}
	}
	overlay, err := m.Overlay(b.root, dir)
	if err != nil {
		return []finding{{by: "it does not fit", err: err}}
	}
	var found []finding
	check := func(by, pkg string, run func(binary string) finding) {
		binary, err := b.build(ctx, dir, pkg, "-overlay", overlay)
		if err != nil {
			found = append(found, finding{by: "it does not compile", err: err})
			return
		}
		defer func() { _ = os.Remove(binary) }() // there are many binaries, and they are large
		f := run(binary)
		f.by = by
		found = append(found, f)
	}
	for s, notices := range map[simulation]bool{ofTheCore: m.Simulated, ofTheGroup: m.Grouped} {
		if notices {
			check(s.name, s.pkg, func(binary string) finding { return b.simulate(ctx, dir, binary, s, s.most) })
		}
	}
	if m.Test != "" {
		check("`"+m.Test+"`", m.Package, func(binary string) finding { return b.test(ctx, dir, binary, m.Test) })
	}
	return found
}

// build builds the tests of a package into a file of dir, which it returns.
func (b *bench) build(ctx context.Context, dir, pkg string, flags ...string) (string, error) {
	binary := filepath.Join(dir, "a.test")
	args := append([]string{"test", "-c", "-ldflags=-s -w", "-o", binary}, flags...) // linking less takes less time
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir, cmd.Env = b.root, b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

var (
	// errSurvived is why a fault counts as one that nothing notices.
	errSurvived = errors.New("it survives")
	// failed is what the test of the simulation says of the schedule that went wrong.
	failed = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: seed (\d+): (.*)$`)
	// place is where a test says that something is wrong.
	place = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
)

// simulate runs up to n schedules.
func (b *bench) simulate(ctx context.Context, dir, binary string, s simulation, n int) finding {
	out, err := b.run(ctx, dir, binary, firstFailure, 20*time.Minute, s.number+"="+strconv.Itoa(n))
	if err != nil {
		return finding{after: plural(n, "schedule"), err: err}
	}
	if seed := failed.FindSubmatch(out); seed != nil {
		after, err := strconv.Atoi(string(seed[1]))
		return finding{after: plural(after, "schedule"), what: string(seed[2]), err: err}
	}
	return finding{err: fmt.Errorf("no seed in what the simulation says:\n%s", out)}
}

// test runs a test that must fail.
func (b *bench) test(ctx context.Context, dir, binary, name string) finding {
	out, err := b.run(ctx, dir, binary, name, 6*time.Minute) // those of scenarios may wait for 2 minutes more than once
	if err != nil {
		return finding{err: err}
	}
	if said := place.FindSubmatch(out); said != nil {
		return finding{what: string(said[1])}
	}
	return finding{what: "it failed"}
}

// run runs a test that must fail, and returns its output. The error is errSurvived if the test passes. If it neither
// passes nor fails, the error has its output.
func (b *bench) run(
	ctx context.Context, dir, binary, test string, limit time.Duration, env ...string,
) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, "-test.timeout="+limit.String(), "-test.v", "-test.run=^"+test+"$")
	cmd.Dir = dir // rapid may leave what failed there
	cmd.Env = append(b.env[:len(b.env):len(b.env)], env...)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && !bytes.Contains(out, []byte("--- PASS: "+test)):
		return nil, fmt.Errorf("%s did not run:\n%s", test, out)
	case err == nil:
		return nil, fmt.Errorf("%w: %s passes", errSurvived, test)
	case !bytes.Contains(out, []byte("--- FAIL: "+test)):
		return nil, fmt.Errorf("%s did not end: %w\n%s", test, err, out)
	}
	return out, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
