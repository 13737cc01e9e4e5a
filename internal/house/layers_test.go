package house_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/distributed-resource-manager/drm"

// rootDir is the module's folder, relative to this one.
const rootDir = "../.."

var update = flag.Bool("update", false, "write the rules of depguard in .golangci.yml")

// layers are all packages of the module, from the bottom to the top; "." is the root package. A package may import only
// packages of the layers below its own. docs/design.md says what each package decides. Packages that do not exist do no
// harm here.
var layers = []struct {
	name     string
	packages []string
}{
	{"ground", []string{
		"shard", "internal/clock", "internal/embedded", "internal/excerpt", "internal/failures", "internal/health",
		"internal/hint", "internal/intake", "internal/journal", "internal/jsontext", "internal/leaselink",
		"internal/listen", "internal/lives", "internal/pace", "internal/procfs", "internal/ready", "internal/secrets",
		"internal/tlsfiles", "internal/usercode", "internal/wire",
	}},
	{"words", []string{
		"internal/deed", "internal/keys", "internal/login", "internal/logqueue", "internal/object", "internal/reach",
	}},
	{"values", []string{"internal/appconfig", "internal/claims", "internal/txn"}},
	{"mechanisms", []string{"lease", "internal/catalogue", "internal/core"}},
	{"followers", []string{"internal/follow", "internal/record"}},
	{"group", []string{"membership", "internal/etcd"}},
	{"parts", []string{
		"internal/backup", "internal/calls", "internal/events", "internal/outlook", "internal/picture",
		"internal/placement", "internal/reshard",
		"internal/source",
		"internal/supervise",
	}},
	{"member", []string{"internal/doctor", "internal/member", "internal/order", "internal/warnings"}},
	{"plans", []string{"internal/foresight"}},
	{"root", []string{"."}},
	{"adapters", []string{"handler", "httpapi", "retriever"}},
	{"benches", []string{"cmd/drmctl/internal/bench", "cmd/drmctl/internal/spread", "cmd/drmctl/internal/output"}},
	{"command", []string{"cmd/drmctl"}},
	{"schedules", []string{"internal/schedule"}}, // only tests, and what is for them, import these two
	{"models", []string{"internal/groupsim"}},
	{"tests", []string{ // only test files import these
		"internal/configdoc", "internal/embedded/embeddedtest", "internal/faultproxy",
		"internal/house", "internal/mutant", "internal/scenario", "internal/sim", "internal/tlsfiles/tlstest",
	}},
}

// forbidden are packages of lower layers that a package must do without. An empty list stands for all of them.
var forbidden = map[string][]string{
	"internal/core": {},                                                         // decides, and is pure
	"lease":         {"internal/keys", "internal/claims", "internal/appconfig"}, // knows keys, not what they stand for
}

// layerOf returns the number of a package's layer, and -1 if it has none.
func layerOf(pkg string) int {
	for n, l := range layers {
		if slices.Contains(l.packages, pkg) {
			return n
		}
	}
	return -1
}

// allowed returns what a package may import of this module.
func allowed(pkg string) []string {
	var all []string
	not, narrow := forbidden[pkg]
	for _, l := range layers[:max(layerOf(pkg), 0)] {
		for _, below := range l.packages {
			if !narrow || len(not) > 0 && !slices.Contains(not, below) {
				all = append(all, below)
			}
		}
	}
	slices.Sort(all)
	return all
}

// imports returns which packages of the module each of its packages imports, on any system and with any build tags.
// With tests, it looks at test files instead of the others.
func imports(t *testing.T, tests bool) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(rootDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, other := os.Stat(filepath.Join(path, "go.mod"))
			if path != rootDir && (other == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") != tests {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(rootDir, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		found[pkg] = append(found[pkg], own(file.Imports)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, list := range found {
		slices.Sort(list)
		found[pkg] = slices.Compact(list)
	}
	return found
}

// own picks the imports of this module, as paths below its folder.
func own(specs []*ast.ImportSpec) []string {
	var list []string
	for _, spec := range specs {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // this cannot happen: the parser has accepted the path
		}
		if path == module {
			list = append(list, ".")
		} else if below, ok := strings.CutPrefix(path, module+"/"); ok {
			list = append(list, below)
		}
	}
	return list
}

func TestPackagesImportOnlyLayersBelowTheirs(t *testing.T) {
	for pkg, list := range imports(t, false) {
		if layerOf(pkg) < 0 {
			t.Errorf("%s has no place among the layers (layers_test.go)", pkg)
			continue
		}
		may := allowed(pkg)
		for _, imported := range list {
			if !slices.Contains(may, imported) {
				t.Errorf("%s, in the layer %q, imports %s, which it must not", pkg, layers[layerOf(pkg)].name, imported)
			}
		}
	}
}

// A test in a package below the root that needs the root is a test of the whole. It belongs to internal/scenario.
func TestNothingBelowTheRootIsTestedWithTheRoot(t *testing.T) {
	for pkg, list := range imports(t, true) {
		if layerOf(pkg) < layerOf(".") && slices.Contains(list, ".") {
			t.Errorf("tests of %s import the root package", pkg)
		}
	}
}

// These markers enclose the part of .golangci.yml that the test writes.
const (
	begin = "    # The layers, as internal/house has them: go test ./internal/house -update\n"
	end   = "    # The end of the layers.\n"
)

func TestTheLinterKnowsTheLayers(t *testing.T) {
	name := filepath.Join(rootDir, ".golangci.yml")
	config, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(config, []byte(begin))
	rules, after, ended := bytes.Cut(rest, []byte(end))
	if !ok || !ended {
		t.Fatalf("%s lacks one of the lines %q and %q", name, begin, end)
	}
	want := depguard()
	switch {
	case string(rules) == want:
	case *update:
		if err := os.WriteFile(name, slices.Concat(before, []byte(begin+want+end), after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the rules of depguard in %s are not those of the layers; run go test ./internal/house -update", name)
	}
}

// depguard renders the layers as settings of the linter depguard. There is a rule for each layer, which says that only
// the layers above it may import its packages, and a rule for each package that has forbidden imports.
func depguard() string {
	var b strings.Builder
	b.WriteString("    depguard:\n      rules:\n")
	for n, l := range layers {
		fmt.Fprintf(&b, "        above-%s-only:\n          files:\n            - \"!$test\"\n", l.name)
		for _, above := range layers[n+1:] {
			fmt.Fprintf(&b, "            - \"!%s\"\n", glob(above.packages))
		}
		b.WriteString("            - \"!${base-path}/examples/**\"\n") // the examples have a module of their own
		deny(&b, l.packages)
	}
	for _, pkg := range slices.Sorted(maps.Keys(forbidden)) {
		name := "not-in-" + strings.ReplaceAll(pkg, "/", "-")
		fmt.Fprintf(&b, "        %s:\n          files:\n            - \"!$test\"\n", name)
		fmt.Fprintf(&b, "            - \"%s\"\n", glob([]string{pkg}))
		list := forbidden[pkg]
		if len(list) == 0 {
			for _, below := range layers[:layerOf(pkg)] {
				list = append(list, below.packages...)
			}
		}
		deny(&b, list)
	}
	return b.String()
}

// glob renders a pattern for the files of packages.
func glob(packages []string) string {
	if len(packages) == 1 {
		return path.Join("${base-path}", packages[0], "*.go")
	}
	return path.Join("${base-path}", "{"+strings.Join(packages, ",")+"}", "*.go")
}

func deny(b *strings.Builder, packages []string) {
	b.WriteString("          deny:\n")
	for _, pkg := range packages {
		fmt.Fprintf(b, "            - pkg: %s$\n", path.Join(module, pkg))
	}
}
