package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// eventLines reads JSON lines of events.
func eventLines(t *testing.T, text string) []eventJSON {
	t.Helper()
	var all []eventJSON
	for line := range strings.Lines(text) {
		var e eventJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// told is an event as a test expects it: the fields that are not empty must be the same.
type told struct{ kind, resource, member, by, why, detail string }

// tells reports whether there is such an event.
func (want told) tells(all []eventJSON) bool {
	return slices.ContainsFunc(all, func(e eventJSON) bool {
		about := want.resource == "" || want.resource == e.Resource || slices.Contains(e.Resources, want.resource)
		return e.Kind == want.kind && about && (want.member == "" || want.member == e.Member) &&
			(want.by == "" || want.by == e.By) && (want.why == "" || want.why == e.Why) &&
			(want.detail == "" || strings.Contains(e.Detail, want.detail))
	})
}

func TestEventsTellWhatHappensToLiveMembers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "a", "--create", "--shards", "8", "--data", `{"password":"swordfish"}`)
	for i := range 12 {
		l.ok("allocate", "--id", fmt.Sprintf("r%d", i))
	}
	lines, interrupt := begin(t, append(l.args(), "events", "--watch", "--since", "1", "-o", "json")...)
	var live []eventJSON
	await := func(wants ...told) {
		t.Helper()
		deadline := time.After(time.Minute)
		for _, want := range wants {
			for !want.tells(live) {
				select {
				case line, ok := <-lines:
					if !ok {
						t.Fatalf("the events have ended before %+v", want)
					}
					live = append(live, eventLines(t, line)...)
				case <-deadline:
					t.Fatalf("there was no %+v among %+v", want, live)
				}
			}
		}
	}
	_, stop := l.agent("m1", "--allocate-only", "--handler-log")
	await(told{kind: "app-created"}, told{kind: "resource-added", resource: "a", by: "allocation"},
		told{kind: "member-joined", member: "m1"}, told{kind: "member-active", member: "m1"},
		told{kind: "coordinator-elected", member: "m1"}, told{kind: "claimed", resource: "r7", member: "m1"},
		told{kind: "active", resource: "r7", member: "m1"})
	l.agent("m2", "--allocate-only", "--handler-log")
	await(told{kind: "member-active", member: "m2"})
	l.ok("drain", "m2", "--reason", "new kernel", "--by", "ann", "--for", "1h", "--wait")
	await(told{kind: "drained", member: "m2", by: "ann", why: "new kernel"})
	l.ok("undrain", "m2")
	await(told{kind: "undrained", member: "m2", by: "ann", detail: "taken back"})
	l.ok("allocate", "--id", "a", "--data", `{"password":"tuna"}`)
	await(told{kind: "resource-changed", resource: "a", by: "allocation"})
	l.ok("cordon", "m2", "--by", "bob")
	await(told{kind: "cordoned", member: "m2", by: "bob"})
	l.ok("uncordon", "m2")
	l.ok("pin", "r1", "m1", "--yes", "--by", "bob", "--reason", "near")
	await(told{kind: "uncordoned", member: "m2"}, told{kind: "pinned", member: "m1", why: "near"})
	l.ok("deallocate", "r2", "--wait")
	await(told{kind: "resource-removed", resource: "r2"}, told{kind: "released", resource: "r2"})

	// Of a quarantine there are a record, and an order to free the resource.
	etcd, layout := embeddedtest.Client(t, l.args()[1]), keys.New(drm.DefaultPrefix, "lab")
	death := claims.Quarantine{
		Data: core.Digest([]byte(`{"id":"r3"}`)), At: time.Now(),
		Deaths: []claims.Death{{Member: "m9", At: time.Now()}},
	}
	record := layout.Quarantine(shard.Of("r3", 8), "r3")
	if _, err := etcd.Put(t.Context(), record, string(death.Encode())); err != nil {
		t.Fatal(err)
	}
	await(told{kind: "accused", resource: "r3", member: "m9"})
	l.ok("retry", "r3")
	await(told{kind: "freed", resource: "r3"})

	// The end of a lease is no release.
	claim, err := etcd.Get(t.Context(), layout.Claim(shard.Of("r1", 8), "r1"))
	if err != nil || len(claim.Kvs) != 1 {
		t.Fatal(claim, err)
	}
	if _, err := etcd.Revoke(t.Context(), clientv3.LeaseID(claim.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	await(told{kind: "lost", resource: "r1", member: "m1"})
	if code := stop(); code != exitFine {
		t.Errorf("agent: exit code %d", code)
	}
	await(told{kind: "member-leaving", member: "m1"}, told{kind: "member-left", member: "m1"},
		told{kind: "coordinator-lost", member: "m1"})
	if code := interrupt(); code != exitFine {
		t.Errorf("events: exit code %d", code)
	}

	// History tells the same.
	history := l.ok("events", "--since", "1", "-o", "json")
	if strings.Contains(history, "swordfish") || strings.Contains(history, "tuna") {
		t.Error("an event has the data of a resource")
	}
	again := eventLines(t, history)
	for i, e := range live {
		if h := again[i]; h.Revision != e.Revision || h.Index != e.Index || h.Resource != e.Resource ||
			h.Kind != e.Kind && h.Kind != "released" {
			t.Fatalf("event %d: history has %+v, live was %+v", i, h, e)
		}
	}
	of := func(args ...string) []eventJSON {
		t.Helper()
		return eventLines(t, l.ok(append([]string{"events", "-o", "json"}, args...)...))
	}
	for _, e := range of("--kind", "drained,undrained", "--kind", "pinned") {
		if e.Kind != "drained" && e.Kind != "undrained" && e.Kind != "pinned" {
			t.Errorf("--kind: %+v", e)
		}
	}
	if some := of("--resource", "r1", "--resource", "r2"); !(told{kind: "pinned"}).tells(some) ||
		(told{resource: "r4", kind: "claimed"}).tells(some) || !(told{resource: "r2", kind: "claimed"}).tells(some) {
		t.Errorf("--resource: %+v", some)
	}
	if some := of("--member", "m2", "--since", "1h"); (told{kind: "member-joined", member: "m1"}).tells(some) ||
		!(told{kind: "member-joined", member: "m2"}).tells(some) {
		t.Errorf("--member: %+v", some)
	}
	table := l.ok("events", "--kind", "drained")
	if !strings.Contains(table, "new kernel") || !strings.Contains(table, "by ann") {
		t.Errorf("the table is %s", table)
	}
	if name := l.ok("events", "-o", "name", "--kind", "resource-removed"); name != "r2\n" {
		t.Errorf("names %q", name)
	}
}

func TestEventsTellOfAHandlerThatFails(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("--handler-exec is for Unix")
	}
	l, dir := newLab(t), t.TempDir()
	script, mended := filepath.Join(dir, "run.sh"), filepath.Join(dir, "mended")
	if err := os.WriteFile(script, []byte(`[ -e "$1" ] || exit 3; exec sleep 1000`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ok("allocate", "--id", "r", "--create")
	_, stop := l.agent("m1", "--allocate-only", "--log-level", "error",
		"--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, mended))
	await := func(want told) {
		t.Helper()
		eventually(t, func() error {
			if all := eventLines(t, l.ok("events", "-o", "json")); !want.tells(all) {
				return fmt.Errorf("there is no %+v among %+v", want, all)
			}
			return nil
		})
	}
	await(told{kind: "failed", resource: "r", member: "m1", detail: "exit status 3"})
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(told{kind: "recovered", resource: "r", member: "m1"})
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}

func TestEventsAfterACompaction(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "a", "--create")
	l.ok("allocate", "--id", "b")
	etcd := embeddedtest.Client(t, l.args()[1])
	resp, err := etcd.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	all := eventLines(t, l.ok("events", "--since", "1", "-o", "json"))
	if len(all) != 4 || all[0].Kind != "gap" || all[1].Kind != "listed" || all[1].State != "wanted" ||
		all[3].Kind != "list-end" || all[3].Cursor != resp.Header.Revision {
		t.Errorf("got %+v, want a gap, a list of two, and its end", all)
	}
	late := drmctl(t.Context(), append(l.args(), "events", "-o", "json")...)
	if all := eventLines(t, late.stdout); late.code != exitFine || len(all) != 0 { // a time is no promise
		t.Errorf("the last minutes: %+v", late)
	}
	if want := fmt.Sprintf("from revision %d on only", resp.Header.Revision+1); !strings.Contains(late.stderr, want) {
		t.Errorf("of the history that is gone it says %q, want %q", late.stderr, want)
	}
	l.fails(exitUsage, "events", "--since", "99999999")
	if got := l.ok("events", "--since", fmt.Sprint(resp.Header.Revision), "-o", "json"); got != "" {
		t.Errorf("after the last revision: %s", got)
	}
}

func TestEventsOfAnAppThatIsNotThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.fails(exitNotFound, "events")
	l.fails(exitNotFound, "events", "--watch")
}

func TestWrongUsageOfEvents(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"x"}, []string{"events takes no argument", `"x"`}},
		{[]string{"--since", "0"}, []string{"--since", "revision", "5m"}},
		{[]string{"--since=-5m"}, []string{"--since", `"-5m"`}},
		{[]string{"--since", "yesterday"}, []string{"--since", `"yesterday"`}},
		{[]string{"--kind", "claimed,lots"}, []string{"--kind", `"lots"`, "claimed, active, failed"}},
		{[]string{"--resource", "\x01"}, []string{"--resource"}},
		{[]string{"--member", "\x01"}, []string{"--member"}},
	} {
		got := drmctl(t.Context(), append([]string{"events", "--app", "a"}, tt.args...)...)
		if got.code != exitUsage {
			t.Errorf("%q: exit code %d", tt.args, got.code)
		}
		checkOneLine(t, got.stderr, tt.want...)
	}
}

// docs/events.md has a row for each kind.
func TestEveryKindOfEventIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range drm.EventKinds() {
		documented := false
		for line := range strings.Lines(string(text)) {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			documented = documented || strings.HasPrefix(line, "| ") && strings.Contains(first, "`"+string(k)+"`")
		}
		if !documented {
			t.Errorf("docs/events.md has no row for %s", k)
		}
	}
}
