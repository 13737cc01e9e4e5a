package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAppsAreCreatedDescribedAndDeleted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if got := l.ok("apps"); !strings.HasPrefix(got, "APP") || strings.Count(got, "\n") != 1 {
		t.Errorf("no apps: %q", got)
	}
	l.fails(exitNotFound, "app", "describe", "lab")
	l.fails(exitNotFound, "app", "delete", "lab", "--yes")
	l.global = slices.Clone(l.global[:2]) // without --app
	l.prints(`{"app":"lab","shards":8,"created":true}`, "app", "create", "lab", "--shards", "8")
	l.prints(`{"app":"lab","shards":8,"created":false}`, "app", "create", "lab", "--shards", "8")
	l.prints(`{"app":"lab","shards":8,"created":false}`, "app", "create", "--app", "lab")
	l.fails(exitUsage, "app", "create", "lab", "--shards", "16")
	l.fails(exitUsage, "app", "create", "lab", "--app", "other")
	l.fails(exitUsage, "app", "delete", "lab") // there is no terminal to ask on
	l.ok("app", "create", "a/b")
	apps := get[[]appJSON](l, "apps")
	if len(apps) != 2 || apps[0].Name != "a/b" || apps[0].Shards != 1024 || apps[1].State != "usable" ||
		apps[1].Created == 0 {
		t.Errorf("apps: %+v", apps)
	}
	if got := l.ok("-o", "name", "apps"); got != "a/b\nlab\n" {
		t.Errorf("names: %q", got)
	}
	l.global = append(l.global, "--app", "lab", "--command-timeout", "30s")
	_, stop := l.agent("m1", "--allocate-only", "--handler-log")
	l.members(1)
	l.ok("allocate", "--id", "r", "--wait")
	d := get[map[string]any](l, "app", "describe")
	for field, want := range map[string]any{
		"name": "lab", "state": "usable", "shards": 8.0, "members": 1.0, "resources": 1.0, "claims": 1.0,
		"coordinator": "m1", "standing_orders": 0.0, "has_source": false,
	} {
		if d[field] != want {
			t.Errorf("%s is %v, want %v", field, d[field], want)
		}
	}
	got := drmctl(t.Context(), append(l.args(), "app", "delete", "--yes")...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "members are live, and have to be stopped first: m1") {
		t.Errorf("with a live member: %+v", got)
	}
	if code := stop(); code != exitFine {
		t.Errorf("agent: exit code %d", code)
	}
	if got := l.ok("app", "delete", "--yes"); !strings.HasPrefix(got, "deleted lab: ") {
		t.Errorf("deleted: %q", got)
	}
	l.fails(exitNotFound, "app", "describe")
	l.fails(exitNotFound, "resources")
	if got := l.ok("-o", "name", "apps"); got != "a/b\n" {
		t.Errorf("names: %q", got)
	}
}

// unread reads what nobody else does, so that the agent that prints it goes on.
func unread(lines <-chan string) {
	for range lines {
	}
}

// placesOf says which member has which resource.
func placesOf(l *lab) map[string]string {
	l.t.Helper()
	places := map[string]string{}
	eventually(l.t, func() error {
		clear(places)
		for _, a := range get[[]assignmentJSON](l, "assignments") {
			if a.State != "active" || a.Member != a.Expected {
				return fmt.Errorf("%+v is not settled", a)
			}
			places[a.Resource] = a.Member
		}
		return nil
	})
	return places
}

// An app that is loaded elsewhere is the same: members with the same ids get the same resources, and orders stand.
func TestADumpIsLoadedIntoAnotherEtcd(t *testing.T) {
	t.Parallel()
	from, to := newLab(t), newLab(t)
	to.global = append(to.global, "--prefix", "/elsewhere", "--app", "copy")
	var lines strings.Builder
	for i := range 200 {
		fmt.Fprintf(&lines, `{"id":"r%d","secret":"s%d"}`+"\n", i, i)
	}
	if got := from.with(lines.String(), "allocate", "-", "--create", "--shards", "32"); got.code != exitFine {
		t.Fatalf("%+v", got)
	}
	members := []string{"m1", "m2", "m3"}
	var stops []func() int
	for _, id := range members { // one after the other, so that they have different slots
		lines, stop := from.agent(id, "--allocate-only", "--handler-log")
		go unread(lines)
		stops = append(stops, stop)
		from.members(len(stops))
	}
	from.ok("pin", "--shard", "3", "m2", "--yes", "--reason", "a test")
	from.ok("cordon", "m3")
	before := placesOf(from)

	dir := t.TempDir()
	file, redacted := filepath.Join(dir, "lab.dump"), from.ok("dump")
	if strings.Contains(redacted, "secret") || !strings.Contains(redacted, `"drm_dump_end":true`) {
		t.Errorf("a dump without data: %s", redacted)
	}
	from.fails(exitUsage, "dump", "-o", "yaml")
	got := drmctl(t.Context(), append(from.args(), "dump", "--data", "-f", file)...)
	if got.code != exitFine || got.stdout != "" || !strings.HasPrefix(got.stderr, "drmctl: dumped ") {
		t.Errorf("dump: %+v", got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v, want the dump only", files, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	for name, bad := range map[string][]byte{"--data": []byte(redacted), "a part is missing": text[:len(text)/2]} {
		got := to.with(string(bad), "load")
		if got.code != exitFailed || !strings.Contains(got.stderr, name) {
			t.Errorf("load of what is no good: %+v", got)
		}
		to.fails(exitNotFound, "app", "describe")
	}
	got = drmctl(t.Context(), append(from.args(), "load", "-f", file)...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "not empty") {
		t.Errorf("load over an app: %+v", got)
	}
	would := to.ok("load", "-f", file, "--dry-run")
	to.fails(exitNotFound, "app", "describe")
	loaded := to.ok("load", "-f", file)
	if strings.Replace(would, "would load", "loaded", 1) != loaded ||
		!strings.HasPrefix(loaded, "loaded copy: a dump of lab at revision") {
		t.Errorf("loaded %s, and a dry run %s", loaded, would)
	}
	if same := to.ok("dump", "--data"); !bytes.Contains([]byte(same), []byte(`"secret":"s7"`)) {
		t.Error("the data are not there")
	}
	if pins := get[[]orderJSON](to, "pins"); len(pins) != 1 || pins[0].Member != "m2" || pins[0].Why != "a test" {
		t.Errorf("pins: %+v", pins)
	}
	for _, id := range slices.Backward(members) {
		lines, _ := to.agent(id, "--allocate-only", "--handler-log", "--min-members", "3")
		go unread(lines)
	}
	to.members(3)
	after := placesOf(to)
	if len(after) != len(before) {
		t.Errorf("%d resources, want %d", len(after), len(before))
	}
	for id, member := range before {
		if after[id] != member {
			t.Errorf("%s is with %s, and was with %s", id, after[id], member)
		}
	}
	if got := to.ok("-o", "json", "verify"); got != "[]\n" {
		t.Errorf("verify: %s", got)
	}
	for _, stop := range stops {
		stop()
	}
}
