package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each command that prints JSON prints what its schema says. lab.ok holds the output of each to its schema.
func TestWhatEachCommandPrintsConforms(t *testing.T) {
	t.Parallel()
	l, source := newLab(t), filepath.Join(t.TempDir(), "source.json")
	if err := os.WriteFile(source, []byte(`{"data":[{"id":"a"},{"id":"b","n":[1,null]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ok("allocate", "--id", "r", "--data", `{"x":"<&>"}`, "--create")
	_, stop1 := l.agent("m1", "--source-file", source, "--poll", "0", "--handler-log")
	_, stop2 := l.agent("m2", "--source-file", source, "--poll", "0", "--handler-log", "--weight", "40")
	l.members(2)

	// Others than lab.ok hold what these print to the schema.
	seen := []string{"bench", "demo", "doctor", "etcd"}
	for _, args := range [][]string{
		{"allocate", "--id", "s"},
		{"allocate", "--id", "s", "--wait"},
		{"lookup", "s"},
		{"assignments"},
		{"resources"},
		{"members"},
		{"status"},
		{"status", "--check"},
		{"verify"},
		{"version"},
		{"schema"},
		{"schema", "status"},
		{"cordon", "m1", "--reason", "why"},
		{"members"},
		{"status"},
		{"uncordon", "m1"},
		{"drain", "m1", "--wait"},
		{"members"},
		{"status"},
		{"undrain", "m1", "--wait"},
		{"weight", "m1", "2"},
		{"weight", "m1", "--reset"},
		{"pin", "s", "m2", "--yes"},
		{"pins"},
		{"status"},
		{"unpin", "s"},
		{"move", "s", "m1", "--yes"},
		{"status"},
		{"explain", "s"},
		{"describe", "member", "m1"},
		{"describe", "resource", "s"},
		{"describe", "shard", "3"},
		{"apps"},
		{"app", "describe"},
		{"plan", "--cordon", "m1"},
		{"rebalance"},
		{"retry", "--all-quarantined"},
		{"source", "accept"},
		{"source", "fetch", "--wait"},
		{"fetch"},
		{"suspend", "s", "--wait"},
		{"resources"},
		{"resume", "s", "--wait"},
		{"debug", "--file", filepath.Join(t.TempDir(), "debug.tar.gz")},
		{"deallocate", "s"},
		{"deallocate", "r", "--wait"},
		{"simulate", "--members", "2", "--resources", "10", "--events", "1"},
	} {
		l.ok(append([]string{"-o", "json"}, args...)...)
		command := args[0]
		if command == "source" || command == "describe" || command == "app" {
			command += " " + args[1]
		}
		seen = append(seen, command)
	}
	for line := range strings.Lines(l.ok("events", "-o", "json")) {
		conforms(t, "events", line)
	}
	seen = append(seen, "events")
	for _, stop := range []func() int{stop1, stop2} {
		if code := stop(); code != exitFine {
			t.Errorf("an agent: exit code %d", code)
		}
	}
	l.ok("-o", "json", "source", "drop", "--dry-run")
	l.ok("-o", "json", "forget-source", "--dry-run")
	l.ok("-o", "json", "reshard", "64")
	l.ok("-o", "json", "status")
	dump := filepath.Join(t.TempDir(), "dump")
	l.ok("dump", "--data", "--file", dump)
	l.global = append(l.global, "--app", "other")
	l.ok("-o", "json", "app", "create", "--shards", "16")
	l.ok("-o", "json", "app", "delete", "--yes")
	l.ok("-o", "json", "load", "--file", dump)
	seen = append(seen, "source drop", "forget-source", "reshard", "app create", "app delete", "load")
	got := drmctl(t.Context(), "bench", "claim", "--scale", "0.0001", "-o", "json") // whether it is fast, or not
	conforms(t, "bench", got.stdout)
	for _, command := range withSchema() {
		if !slices.Contains(seen, command) {
			t.Errorf("no test holds what %s prints to its schema: add it here", command)
		}
	}
}
