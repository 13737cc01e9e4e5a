package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"
)

// longID is an id that fits into no table of the width in which the test prints.
const longID = "feeds/of-a-customer-with-a-name-that-is-as-long-as-names-of-customers-may-be/and-then-the-number/12345"

// formatted is a command that is tried in each format.
type formatted struct {
	command string                     // as printed has it
	args    []string                   // what follows it
	app     string                     // the app that it is about, if it is another than that of the lab
	before  []string                   // a command that has it do the same each time
	shows   func(c *cli.Context) error // in place of the command, where that takes too long: it prints a made-up result
	code    int

	table string // a regular expression of the first line of a table
	names string // a regular expression of all lines of names
	lacks []string
}

const (
	anyNumber = `^\d+\n$`
	noName    = `^$`
)

// name is the regular expression of one name.
func name(id string) string { return `^` + regexp.QuoteMeta(id) + `\n$` }

// formattedCommands are all commands that print a result. Those that change something come last.
func formattedCommands(dump string) []formatted {
	order := []string{"--by", "ann", "--reason", "why"}
	return []formatted{
		{command: "allocate", args: []string{"--id", longID}, table: `^allocated `, names: name(longID)},
		{command: "assignments", table: `^RESOURCE +SHARD +STATE `, names: `^` + longID + "\nr\ns\n$"},
		{command: "resources", table: `^ID +SHARD +ORIGIN `, names: `^` + longID + "\nr\ns\n$"},
		{command: "lookup", args: []string{longID}, table: `^RESOURCE +SHARD `, names: name(longID)},
		{command: "explain", args: []string{longID}, table: `^RESOURCE +feeds/of`, names: name(longID)},
		{command: "describe member", args: []string{"m1"}, table: `^MEMBER +m1\n`, names: name("m1")},
		{command: "describe resource", args: []string{longID}, table: `^RESOURCE +feeds/`, names: name(longID)},
		{command: "describe shard", args: []string{"3"}, table: `^SHARD +3\n`, names: name("3")},
		{command: "members", table: `^ID +STATE +WEIGHT `, names: "^m1\nm2\n$"},
		{command: "status", table: `^app +lab\n`, names: name("lab")},
		{
			command: "verify", app: "still", args: []string{"--settle", "0"}, code: exitFailed,
			table: `^KIND +RESOURCE `, names: "^no-members\n" + "(.+\n)*$",
		},
		{command: "plan", table: `^revision +\d+\n`, names: noName},
		{
			command: "plan", args: []string{"--without", "m1"}, code: exitMoves,
			table: `^revision +\d+\n`, names: `^(\d+\n)+$`,
		},
		{
			command: "doctor", args: []string{"--only", "app"}, table: `^RESULT +CODE `,
			names: "^DRM191\nDRM192\nDRM193\n$",
		},
		{command: "events", args: []string{"--kind", "resource-added"}, table: `^TIME +REVISION `, names: `^(.+\n)+$`},
		{command: "apps", table: `^APP +STATE `, names: "^lab\nstill\n$"},
		{command: "app describe", table: `^app +lab\n`, names: name("lab")},
		{command: "schema", table: `^COMMAND\n`, names: `(?m)^source accept$`},
		{command: "schema", args: []string{"status"}, table: `^\{"\$schema":`, lacks: []string{"name"}},
		{command: "version", table: `^drmctl `, names: `^\S+\n$`},
		{
			command: "simulate", args: []string{"--members", "2", "--resources", "10", "--events", "1"},
			table: `^SHARE +MAX/AVG `, names: name("simulation"),
		},
		{
			command: "bench", table: `^BENCH +FIGURE `, names: name("claim"),
			shows: func(c *cli.Context) error {
				one := benchJSON{Bench: "claim", Figures: map[string]float64{"a second": 12345.6}, Reach: "10"}
				return showBench(c, []string{"claim"}, []benchJSON{one})
			},
		},
		{
			command: "debug", table: `^dump\.jsonl +ok\n`, names: name("out.tar.gz"),
			shows: func(c *cli.Context) error {
				return showDebug(c, debugJSON{
					File: "out.tar.gz", Schema: 1, Parts: []partJSON{{File: "dump.jsonl"}, {File: "x", Error: "gone"}},
				})
			},
		},
		{ // what it prints for people is a story, which TestDemo reads
			command: "demo", names: name("demo"), shows: func(c *cli.Context) error {
				return show(c, summary{Faults: []string{}}, "demo", nil)
			},
		},
		{
			command: "etcd", table: `^endpoint http://127\.0\.0\.1:2379\n`, names: name("http://127.0.0.1:2379"),
			shows: func(c *cli.Context) error { return showEndpoint(c, "http://127.0.0.1:2379") },
		},

		{command: "cordon", args: append(order, "m2"), table: `^cordoned m2\n`, names: name("m2")},
		{
			command: "uncordon", args: []string{"m2"}, before: []string{"cordon", "m2"},
			table: `^uncordoned m2\n`, names: name("m2"),
		},
		{command: "weight", args: append(order, "m2", "3"), table: `^m2 has the weight 3`, names: name("m2")},
		{command: "pin", args: append(order, "r", "m1", "--yes"), table: `^pinned shard \d+ to m1 `, names: anyNumber},
		{command: "pins", before: []string{"pin", "r", "m1", "--yes"}, table: `^SHARD +MEMBER `, names: anyNumber},
		{
			command: "unpin", args: []string{"r"}, before: []string{"pin", "r", "m1", "--yes"},
			table: `^unpinned shard \d+`, names: anyNumber,
		},
		{
			command: "move", args: []string{"r", "m1", "--yes"}, before: []string{"move", "r", "m1", "--yes"},
			table: `^shard \d+ is m1's already`, names: anyNumber,
		},
		{command: "rebalance", table: `^ordered\n`, names: name("lab")},
		{command: "drain", args: append(order, "m2"), table: `^drained m2\n`, names: name("m2")},
		{
			command: "undrain", args: []string{"m2"}, before: []string{"drain", "m2"},
			table: `^undrained m2\n`, names: name("m2"),
		},
		{command: "retry", args: []string{"--all-failed"}, table: `^nothing has failed\n`, names: noName},
		{command: "suspend", args: append(order, "s"), table: `^suspended s\n`, names: name("s")},
		{
			command: "resume", args: []string{"s"}, before: []string{"suspend", "s"},
			table: `^resumed s\n`, names: name("s"),
		},
		{command: "source accept", table: `^no removals are held\n`, names: noName},
		{command: "source fetch", table: `^ordered the source`, names: name("lab")},
		{command: "fetch", table: `^ordered the source`, names: name("lab")},
		{
			command: "deallocate", args: []string{longID}, before: []string{"allocate", "--id", longID},
			table: `^deallocated `, names: name(longID),
		},

		{command: "source drop", app: "still", table: `^dropped the source`, names: name("still")},
		{command: "forget-source", app: "still", table: `^dropped the source`, names: name("still")},
		{
			command: "reshard", app: "still", args: []string{"32"}, before: []string{"reshard", "16"},
			table: `^shards +32, were 16\n`, names: name("still"),
		},
		{
			command: "app create", app: "copy", before: []string{"app", "create"},
			table: `^copy is there, with \d+ shards\n`, names: name("copy"),
		},
		{
			command: "app delete", app: "copy", args: []string{"--yes"}, before: []string{"app", "create"},
			table: `^deleted copy: \d+ keys\n`, names: name("copy"),
		},
		{
			command: "load", app: "copy", args: []string{"--file", dump, "--dry-run"},
			table: `^would load copy: `, names: name("copy"),
		},
	}
}

// TestEveryCommandPrintsEveryFormat tries each command that prints a result in each format, with one group.
func TestEveryCommandPrintsEveryFormat(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	source, dump := filepath.Join(dir, "source.json"), filepath.Join(dir, "dump")
	if err := os.WriteFile(source, []byte(`{"data":[{"id":"s"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ok("allocate", "--id", "r", "--create", "--shards", "16")
	l.ok("allocate", "--id", "x", "--create", "--shards", "32", "--app", "still")
	l.ok("dump", "--data", "--file", dump)
	for _, id := range []string{"m1", "m2"} {
		l.agent(id, "--source-file", source, "--poll", "0", "--handler-log")
	}
	l.members(2)
	l.ok("source", "fetch", "--wait")
	l.ok("allocate", "--id", longID, "--wait")

	var tried []string
	for _, f := range formattedCommands(dump) {
		tried = append(tried, f.command)
		t.Run(f.command, func(t *testing.T) { f.try(&lab{t, l.global}) })
	}
	for _, command := range withSchema() {
		if !slices.Contains(tried, command) {
			t.Errorf("no row of formattedCommands tries drmctl %s: add one", command)
		}
	}
}

// try runs the command in each format.
func (f formatted) try(l *lab) {
	t := l.t
	if f.table != "" {
		for _, format := range []string{"table", "wide"} {
			if got := f.print(l, format, "200"); !regexp.MustCompile(f.table).MatchString(got) {
				t.Errorf("-o %s begins otherwise than %q:\n%s", format, f.table, got)
			}
		}
	}
	asJSON := f.print(l, "json", "20")
	conforms(t, f.command, asJSON)
	eventually(t, func() error { // a group at rest says the same in both formats
		asJSON, asYAML := f.print(l, "json", "20"), f.print(l, "yaml", "20")
		if diff := cmp.Diff(values(t, asJSON), documents(t, asYAML)); diff != "" {
			return errors.New("(-json +yaml):\n" + diff)
		}
		return nil
	})
	if slices.Contains(f.lacks, "name") {
		return
	}
	names := f.print(l, "name", "20")
	if !regexp.MustCompile(f.names).MatchString(names) || strings.Contains(names, "…") {
		t.Errorf("names are\n%swant %q", names, f.names)
	}
}

// print returns what the command prints.
func (f formatted) print(l *lab, format, width string) string {
	l.t.Helper()
	if f.shows != nil {
		return shown(l.t, format, f.shows)
	}
	global := append(l.args(), "--width", width)
	if f.app != "" {
		global = append(global, "--app", f.app)
	}
	if f.before != nil {
		if got := drmctl(l.t.Context(), append(slices.Clone(global), f.before...)...); got.code != exitFine {
			l.t.Fatalf("%q: exit code %d: %s", f.before, got.code, got.stderr)
		}
	}
	args := slices.Concat(global, []string{"-o", format}, strings.Fields(f.command), f.args)
	got := drmctl(l.t.Context(), args...)
	if got.code != f.code {
		l.t.Fatalf("-o %s: exit code %d, want %d: %s", format, got.code, f.code, got.stderr)
	}
	return got.stdout
}

// passing are fields of which a command prints another value a moment later.
var passing = []string{
	"revision", "cursor", "at", "time", "took_ms", "left", "lease_left_ms", "age_seconds", "latency_ms",
	"database_bytes", "in_use_bytes", "view", "view_behind", "modified", "writes", "decision_ms", "decision_max_ms",
	"balance_ms", "balance_max_ms",
}

// still removes from a value what is another one a moment later.
func still(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range passing {
			delete(v, key)
		}
		for key := range v {
			v[key] = still(v[key])
		}
	case []any:
		for i := range v {
			v[i] = still(v[i])
		}
	}
	return v
}

// values are the values in JSON that a command has printed.
func values(t *testing.T, text string) (all []any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, still(v))
	}
}

// documents are the documents in YAML that a command has printed.
func documents(t *testing.T, text string) (all []any) {
	t.Helper()
	for part := range strings.SplitSeq(text, "\n---\n") {
		var v any
		if err := yaml.UnmarshalStrict([]byte(part), &v); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, still(v))
	}
	return all
}

// A command that has no such format says so, and which ones it has.
func TestACommandWithoutAFormatSaysSo(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"schema", "status", "-o", "name"}, `--output: got "name", want json or yaml: `},
		{[]string{"dump", "--app", "a", "-o", "wide"}, `--output: got "wide", want json: a dump is lines of JSON`},
		{[]string{"man", "drain", "-o", "json"}, "--output does not go with man, "},
		{[]string{"completion", "bash", "-o", "name"}, "--output does not go with completion, "},
		{[]string{"run", "-o", "json", "--", "true"}, "--output does not go with run, "},
		{
			[]string{"agent", "--app", "a", "--allocate-only", "--handler-log", "-o", "yaml"},
			"--output does not go with agent, ",
		},
		{[]string{"man", "drain", "-o", "csv"}, `--output: got "csv", want table, wide, json, yaml or name`},
	} {
		got := drmctl(t.Context(), test.args...)
		if got.code != exitUsage || got.stdout != "" {
			t.Errorf("%q: %+v", test.args, got)
		}
		checkOneLine(t, got.stderr, test.want)
	}
	t.Setenv("DRM_OUTPUT", "name") // which is for all commands
	for _, args := range [][]string{{"schema", "status"}, {"man", "drain"}, {"completion", "bash"}} {
		if got := drmctl(t.Context(), args...); got.code != exitFine || got.stdout == "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for _, command := range unprinted() {
		if !slices.Contains([]string{"agent", "completion", "dump", "man", "run", completeName, namesName}, command) {
			t.Errorf("no test tries drmctl %s -o json: add it here", command)
		}
	}
}
