package house_test

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// public are the packages that other modules import.
var public = []string{".", "handler", "lease", "membership", "retriever", "shard"}

// If an exported name mentions a type of an internal package, callers cannot name that type, and go doc does not show
// its methods and fields.
func TestPublicPackagesMentionNoInternalType(t *testing.T) {
	load := loader(t)
	for _, pkg := range public {
		loaded, err := load(path.Join(module, pkg))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range mentions(loaded) {
			t.Errorf("package %s: %s", pkg, found)
		}
	}
}

func TestMentionsAreFoundWhereverTheyAre(t *testing.T) {
	hidden := types.NewPackage(module+"/internal/hidden", "hidden")
	named := types.NewTypeName(token.NoPos, hidden, "Type", nil)
	secret := types.NewNamed(named, types.NewStruct(nil, nil), nil)
	result := types.NewTuple(types.NewVar(token.NoPos, hidden, "", secret))
	method := types.NewSignatureType(types.NewVar(token.NoPos, hidden, "", secret), nil, nil, nil, result, false)
	secret.AddMethod(types.NewFunc(token.NoPos, hidden, "Method", method))
	hidden.Scope().Insert(named)
	hidden.MarkComplete()
	imports := importerFunc(func(string) (*types.Package, error) { return hidden, nil })

	for code, want := range map[string]int{
		"func F(hidden.Type) {}":                                           1,
		"func F() (int, *hidden.Type) { panic(0) }":                        1,
		"func F(map[string][]func(chan hidden.Type)) {}":                   1,
		"func F[T interface{ M(hidden.Type) }]() {}":                       1,
		"func F() interface{ M() [2]hidden.Type } { panic(0) }":            1,
		"func F(...struct{ A hidden.Type }) {}":                            1,
		"var V hidden.Type":                                                1,
		"type T struct { A int; B hidden.Type }":                           1,
		"type T struct { hidden.Type }":                                    2, // the field and its method
		"type T = hidden.Type":                                             1,
		"type T []hidden.Type":                                             1,
		"type T interface { M(hidden.Type) }":                              1,
		"type T int; func (*T) M() hidden.Type { panic(0) }":               1,
		"type G[A any] struct{}; type T struct { A G[hidden.Type] }":       1,
		"type t struct { A hidden.Type }; func F() t { panic(0) }":         1,
		"type t int; func (t) M(hidden.Type) {}; type T struct{ t }":       1,
		"type A = t; type t = hidden.Type":                                 1,
		"func f(hidden.Type) {}":                                           0,
		"type t struct { A hidden.Type }; type T struct { a t; b []t }":    0,
		"type T int; func (T) m(hidden.Type) {}":                           0,
		"func F() error { return error(nil) }; var v hidden.Type; var _=v": 0,
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "code.go",
			"package code\nimport \""+hidden.Path()+"\"\nvar _ hidden.Type\n"+code, 0)
		if err != nil {
			t.Fatal(err)
		}
		config := types.Config{Importer: imports}
		pkg, err := config.Check(module+"/code", fset, []*ast.File{file}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if found := mentions(pkg); len(found) != want {
			t.Errorf("%s: %d found, want %d: %q", code, len(found), want, found)
		}
	}
}

type importerFunc func(string) (*types.Package, error)

func (f importerFunc) Import(path string) (*types.Package, error) { return f(path) }

// loader returns a function that reads what packages export from the compiler's export data.
func loader(t *testing.T) func(path string) (*types.Package, error) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}")
	for _, pkg := range public {
		list.Args = append(list.Args, "./"+pkg)
	}
	list.Dir = rootDir
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", list, err, stderr.Bytes())
	}
	files := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		pkg, file, _ := strings.Cut(lines.Text(), "\t")
		files[pkg] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(pkg string) (io.ReadCloser, error) {
		if files[pkg] == "" {
			return nil, fmt.Errorf("go list has told nothing of %s", pkg)
		}
		return os.Open(files[pkg])
	}).Import
}

// mentions returns where exported names of a package mention types of internal packages of this module.
func mentions(pkg *types.Package) []string {
	m := &mentioned{pkg: pkg, seen: map[types.Type]bool{}}
	for _, name := range pkg.Scope().Names() {
		if obj := pkg.Scope().Lookup(name); obj.Exported() {
			m.object(obj)
		}
	}
	slices.Sort(m.found)
	return slices.Compact(m.found)
}

type mentioned struct {
	pkg   *types.Package
	seen  map[types.Type]bool // named types that inside has looked at
	found []string
}

func (m *mentioned) object(obj types.Object) {
	name, isType := obj.(*types.TypeName)
	if !isType {
		m.typ(obj.Name(), obj.Type())
		return
	}
	if alias, ok := name.Type().(*types.Alias); ok {
		m.typ(obj.Name(), alias.Rhs())
		return
	}
	m.inside(obj.Name(), name.Type().(*types.Named))
}

// inside looks at the parts of a type of the package that a caller can use.
func (m *mentioned) inside(where string, named *types.Named) {
	if m.seen[named] {
		return
	}
	m.seen[named] = true
	m.params(where, named.TypeParams())
	m.typ(where, named.Underlying())
	// The method set of the pointer has all methods, also those of embedded fields.
	methods := types.NewMethodSet(types.NewPointer(named))
	for i := range methods.Len() {
		if method := methods.At(i).Obj(); method.Exported() {
			m.typ(where+"."+method.Name(), method.Type())
		}
	}
}

func (m *mentioned) params(where string, params *types.TypeParamList) {
	for i := range params.Len() {
		m.typ(where, params.At(i).Constraint())
	}
}

// typ looks at a type, and at the types that it is made of.
func (m *mentioned) typ(where string, typ types.Type) {
	switch typ := typ.(type) {
	case *types.Alias:
		if m.judge(where, typ.Obj()) {
			m.typ(where, typ.Rhs())
		}
	case *types.Named:
		for arg := range typ.TypeArgs().Types() {
			m.typ(where, arg)
		}
		if m.judge(where, typ.Obj()) && typ.Obj().Pkg() == m.pkg && !typ.Obj().Exported() {
			m.inside(where+"("+typ.Obj().Name()+")", typ.Origin())
		}
	case *types.Pointer:
		m.typ(where, typ.Elem())
	case *types.Slice:
		m.typ(where, typ.Elem())
	case *types.Array:
		m.typ(where, typ.Elem())
	case *types.Chan:
		m.typ(where, typ.Elem())
	case *types.Map:
		m.typ(where, typ.Key())
		m.typ(where, typ.Elem())
	case *types.Signature:
		m.params(where, typ.TypeParams())
		m.typ(where, typ.Params())
		m.typ(where, typ.Results())
	case *types.Tuple:
		for v := range typ.Variables() {
			m.typ(where, v.Type())
		}
	case *types.Struct:
		for field := range typ.Fields() {
			if field.Exported() {
				m.typ(where+"."+field.Name(), field.Type())
			}
		}
	case *types.Interface:
		for method := range typ.Methods() {
			m.typ(where+"."+method.Name(), method.Type())
		}
		for embedded := range typ.EmbeddedTypes() {
			m.typ(where, embedded)
		}
	case *types.Union:
		for term := range typ.Terms() {
			m.typ(where, term.Type())
		}
	}
}

// judge notes a type if it belongs to an internal package, and returns true if it does not.
func (m *mentioned) judge(where string, name *types.TypeName) bool {
	if name.Pkg() == nil || !strings.HasPrefix(name.Pkg().Path(), module+"/internal/") {
		return true
	}
	m.found = append(m.found, fmt.Sprintf("%s mentions %s.%s", where, name.Pkg().Path(), name.Name()))
	return false
}

func TestExamplesOfPublicPackagesImportNothingInternal(t *testing.T) {
	for _, pkg := range public {
		names, err := filepath.Glob(filepath.Join(rootDir, pkg, "example*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			t.Errorf("package %s has no examples", pkg)
		}
		for _, name := range names {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file.Name.Name, "_test") {
				t.Errorf("%s is in package %s: want an external one", name, file.Name.Name)
			}
			for _, imported := range own(file.Imports) {
				if strings.HasPrefix(imported, "internal/") {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
	}
}
