package main

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas has the compiled schema of each command whose output a test has checked.
var schemas sync.Map

// compiled returns the schema of what a command prints, as drmctl prints it.
func compiled(t *testing.T, command string) *jsonschema.Schema {
	t.Helper()
	if s, known := schemas.Load(command); known {
		return s.(*jsonschema.Schema)
	}
	got := drmctl(t.Context(), append([]string{"schema"}, strings.Fields(command)...)...)
	if got.code != exitFine {
		t.Fatalf("schema %s: exit code %d: %s", command, got.code, got.stderr)
	}
	text, err := jsonschema.UnmarshalJSON(strings.NewReader(got.stdout))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("schema.json", text); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("the schema of %s: %v", command, err)
	}
	schemas.Store(command, s)
	return s
}

// checkConforms holds what a command has printed to the schema of its output, if it was to print JSON.
func checkConforms(t *testing.T, args []string, stdout string) {
	t.Helper()
	app := newApp(nil, io.Discard, io.Discard)
	tokens, err := scan(app, args)
	if err != nil {
		t.Fatal(err)
	}
	asked := slices.ContainsFunc(tokens, func(k token) bool {
		return (k.flag == flagOutput || k.flag == "o") && strings.HasSuffix(k.text, "=json")
	})
	path, _, help, err := takeCommand(app, tokens)
	if err != nil || help || !asked || len(path) == 0 {
		return
	}
	command := strings.Join(namesOf(path), " ")
	if slices.Contains(unprinted(), command) {
		return
	}
	conforms(t, command, stdout)
}

// conforms holds values in JSON to the schema of what a command prints.
func conforms(t *testing.T, command, text string) {
	t.Helper()
	schema := compiled(t, command)
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for {
		var v any
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Fatalf("%s printed no JSON: %v: %s", command, err, text)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("what %s printed is not what drmctl schema %s says: %v\n%s", command, command, err, text)
		}
	}
}

// Each command either has a schema, or prints no JSON.
func TestEachCommandHasASchema(t *testing.T) {
	all := map[string]bool{}
	for _, path := range commandPaths(newApp(nil, io.Discard, io.Discard)) {
		if len(path[len(path)-1].Subcommands) > 0 {
			continue
		}
		command := strings.Join(namesOf(path), " ")
		all[command] = true
		_, has := printed()[command]
		if none := slices.Contains(unprinted(), command); has == none {
			t.Errorf("%s: has a schema %t, prints no JSON %t; add it to printed or unprinted", command, has, none)
		}
		if has {
			compiled(t, command)
		}
	}
	for _, command := range append(withSchema(), unprinted()...) {
		if !all[command] {
			t.Errorf("there is no command %s", command)
		}
	}
}

func TestSchemasAreStrict(t *testing.T) {
	const assigned = `{"resource":"r","shard":1,"expected":"a","member":"a","state":"active","token":1,"error":"",`
	for text, ok := range map[string]bool{
		assigned + `"since":null}`:                  true,
		assigned + `"since":"x"}`:                   false,
		`{"resource":"r","allocated":true}`:         true,
		`{"resource":"r","allocated":true,"x":1}`:   false,
		`{"resource":"r"}`:                          false,
		`{"resource":1,"allocated":true}`:           false,
		`{"resource":"r","allocated":null}`:         false,
		`[{"resource":"r","allocated":true}]`:       false,
		`{"resource":"r","shard":1,"expected":"a"}`: false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled(t, "allocate").Validate(v); (err == nil) != ok {
			t.Errorf("%s: %v, want it accepted %t", text, err, ok)
		}
	}
	got := drmctl(t.Context(), "schema", "lookpu")
	if got.code != exitUsage || !strings.Contains(got.stderr, "did you mean lookup?") {
		t.Errorf("a command that there is not: %+v", got)
	}
	got = drmctl(t.Context(), "schema", "-o", "name")
	if got.code != exitFine || !strings.Contains(got.stdout, "source accept\n") {
		t.Errorf("names: %+v", got)
	}
}
