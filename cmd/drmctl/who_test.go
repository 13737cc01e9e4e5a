package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// whoStep is a command that changes something, and the event that tells of it.
type whoStep struct {
	args  []string
	event string
	again int // the exit code of the same command once more, which changes nothing; -1: it orders the same again
}

// recorded is an app whose keys a test writes itself beside the commands.
type recorded struct {
	*lab
	etcd   *clientv3.Client
	layout keys.Layout
	steps  int
}

func newRecorded(t *testing.T) *recorded {
	l := newLab(t)
	return &recorded{lab: l, etcd: embeddedtest.Client(t, l.args()[1]), layout: keys.New(drm.DefaultPrefix, "lab")}
}

func (r *recorded) put(key, value string) {
	r.t.Helper()
	if _, err := r.etcd.Put(r.t.Context(), key, value); err != nil {
		r.t.Fatal(err)
	}
}

func (r *recorded) remove(key string) {
	r.t.Helper()
	if _, err := r.etcd.Delete(r.t.Context(), key); err != nil {
		r.t.Fatal(err)
	}
}

func (r *recorded) revision() int64 {
	r.t.Helper()
	resp, err := r.etcd.Get(r.t.Context(), "none", clientv3.WithCountOnly())
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.Header.Revision
}

// does runs a command, each time with another reason, and checks that its change says who and why, and that the same
// command once more changes nothing.
func (r *recorded) does(step whoStep) {
	r.t.Helper()
	r.steps++
	why := fmt.Sprintf("reason %d", r.steps)
	before := r.revision()
	r.ok(append(slices.Clone(step.args), "--as", "ann", "--reason", why)...)
	after := r.revision()
	if step.event != "" {
		found := false
		history := r.ok("events", "--since", fmt.Sprint(before), "--kind", step.event, "-o", "json")
		for _, e := range eventLines(r.t, history) {
			found = found || e.Kind == step.event && e.OrderedBy == "ann" && e.OrderedWhy == why
		}
		if !found {
			r.t.Errorf("%v: no event %q says who and why: %s", step.args, step.event, history)
		}
	}
	if step.again < 0 {
		return
	}
	got := drmctl(r.t.Context(), append(r.args(), append(slices.Clone(step.args), "--as", "bob")...)...)
	if got.code != step.again {
		r.t.Errorf("%v once more: exit code %d, want %d: %s", step.args, got.code, step.again, got.stderr)
	}
	if now := r.revision(); now != after {
		r.t.Errorf("%v once more has written something: %s", step.args,
			r.ok("events", "--since", fmt.Sprint(after), "-o", "json"))
	}
}

func TestEveryCommandRecordsWhoAndWhy(t *testing.T) {
	t.Parallel()
	r := newRecorded(t)
	r.does(whoStep{[]string{"app", "create", "lab", "--shards", "8"}, "app-created", exitFine})
	member := r.layout.Member("m1")
	r.put(member, `{"state":"active","weight":1,"slots":[0],"started":"2026-01-02T03:04:05Z","source":true}`)
	r.put(r.layout.Slot(0), "m1")
	r.put(r.layout.Source(), `{"resources":1,"held":1,"held_removals":{"digest":"d","ids":["x"],`+
		`"since":"2026-01-02T03:04:05Z","joined":"2026-01-02T03:04:05Z"}}`)
	death := claims.Quarantine{At: time.Now(), Deaths: []claims.Death{{Member: "m9", At: time.Now()}}}
	for _, id := range []string{"q1", "q2"} {
		r.put(r.layout.Quarantine(shard.Of(id, 8), id), string(death.Encode()))
	}
	r.put(r.layout.Claim(shard.Of("f", 8), "f"), `{"member":"m1","state":"failed","since":"2026-01-02T03:04:05Z"}`)
	s := catalogue.Entry{FromSource: true, Data: json.RawMessage(`{"id":"s"}`)}
	r.put(r.layout.Resource(shard.Of("s", 8), "s"), string(s.Encode()))

	for _, step := range []whoStep{
		{[]string{"drain", "m1", "--force"}, "drained", -1},
		{[]string{"undrain", "m1"}, "undrained", exitFine},
		{[]string{"cordon", "m1"}, "cordoned", -1},
		{[]string{"uncordon", "m1"}, "uncordoned", exitFine},
		{[]string{"weight", "m1", "7"}, "weighed", exitFine},
		{[]string{"weight", "m1", "--reset"}, "unweighed", exitFine},
		{[]string{"pin", "--shard", "3", "m1", "--yes"}, "pinned", exitFine},
		{[]string{"unpin", "--shard", "3"}, "unpinned", exitNotFound},
		{[]string{"allocate", "--id", "x"}, "resource-added", exitFine},
		{[]string{"allocate", "--data", `{"id":"x","v":1}`}, "resource-changed", exitFine},
		{[]string{"suspend", "x"}, "suspended", exitFine},
		{[]string{"resume", "x"}, "resumed", exitFine},
		{[]string{"deallocate", "x"}, "resource-suspended", exitNotFound},
		{[]string{"retry", "q1"}, "freed", exitNotFound},
		{[]string{"retry", "--all-quarantined"}, "freed", exitFine},
		{[]string{"retry", "--all-failed"}, "retry-ordered", -1},
		{[]string{"fetch"}, "fetch-ordered", -1},
		{[]string{"source", "accept"}, "accept-ordered", -1},
	} {
		r.does(step)
	}
	for _, key := range []string{
		member, r.layout.FetchOrder(), r.layout.AcceptOrder(), r.layout.Claim(shard.Of("f", 8), "f"),
	} {
		r.remove(key)
	}
	r.does(whoStep{[]string{"forget-source"}, "resource-removed", exitFine})
	described := r.ok("events", "--since", "1", "--resource", "x", "-o", "json")
	if !strings.Contains(described, `"ordered_by":"ann"`) || strings.Contains(described, `"ordered_by":"bob"`) {
		t.Errorf("the events of one resource: %s", described)
	}
	r.does(whoStep{[]string{"reshard", "16"}, "app-created", exitFailed})
	file := filepath.Join(t.TempDir(), "dump")
	r.ok("dump", "--data", "--file", file)
	r.does(whoStep{[]string{"app", "delete", "--yes"}, "", exitNotFound})
	if resp, err := r.etcd.Get(t.Context(), r.layout.Root(), clientv3.WithPrefix()); err != nil || resp.Count > 0 {
		t.Errorf("of a deleted app is left: %v, %v", resp, err)
	}
	r.does(whoStep{[]string{"load", "--file", file}, "app-created", -1})
	whole := eventLines(t, r.ok("events", "--since", "1", "--kind", "app-deleted", "-o", "json"))
	why := fmt.Sprintf("reason %d", r.steps-1)
	byWhom := func(e eventJSON) bool { return e.OrderedBy == "ann" && e.OrderedWhy == why }
	if !slices.ContainsFunc(whole, byWhom) {
		t.Errorf("nobody has deleted the app: %+v", whole)
	}
}

func TestWhoAllocatesInBulkIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRecorded(t)
	r.ok("app", "create")
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprintf(`{"id":"r%d"}`, i))
	}
	for _, run := range []struct{ command, event string }{
		{"allocate", "resource-added"}, {"deallocate", "resource-removed"},
	} {
		before := r.revision()
		got := r.with(strings.Join(all, "\n"), run.command, "-", "--by", "ann", "--reason", "moved")
		if got.code != exitFine {
			t.Fatal(got.stderr)
		}
		told := eventLines(t, r.ok("events", "--since", fmt.Sprint(before), "--kind", run.event, "-o", "json"))
		for _, e := range told {
			if e.OrderedBy != "ann" || e.OrderedWhy != "moved" {
				t.Errorf("%+v", e)
			}
		}
		if len(told) != len(all) {
			t.Errorf("%s: %d events, want %d", run.command, len(told), len(all))
		}
		before = r.revision()
		r.with(strings.Join(all, "\n"), run.command, "-", "--by", "bob")
		if after := r.revision(); after != before {
			t.Errorf("%s of what is so already has written something", run.command)
		}
	}
	if got := r.ok("describe", "shard", "0", "-o", "json"); strings.Contains(got, "bob") {
		t.Errorf("who has changed nothing is shown: %s", got)
	}
}

func TestDescriptionsTellWhoHasMadeTheLastChanges(t *testing.T) {
	t.Parallel()
	r := newRecorded(t)
	r.ok("allocate", "--create", "--shards", "4", "--id", "x", "--by", "ann", "--reason", "for the demo")
	r.ok("allocate", "--data", `{"id":"x","v":1}`, "--by", "bob")
	var d struct {
		Entries []pastJSON   `json:"past_entries"`
		Changes []changeJSON `json:"changes"`
	}
	for _, args := range [][]string{
		{"describe", "resource", "x"}, {"describe", "shard", fmt.Sprint(shard.Of("x", 4))},
	} {
		if err := json.Unmarshal([]byte(r.ok(append(args, "-o", "json")...)), &d); err != nil {
			t.Fatal(err)
		}
		if page := r.ok(args...); !strings.Contains(page, "by bob") {
			t.Errorf("%v: %s", args, page)
		}
	}
	if len(d.Entries) != 2 || d.Entries[0].By != "bob" || d.Entries[1].By != "ann" ||
		d.Entries[1].Why != "for the demo" {
		t.Errorf("entries: %+v", d.Entries)
	}
	if len(d.Changes) != 1 || d.Changes[0].By != "bob" || d.Changes[0].Why != "" {
		t.Errorf("changes: %+v", d.Changes)
	}
	r.fails(exitUsage, "undrain", "m1", "--reason", strings.Repeat("x", 501))
}

// TestWhoIsToldLiveToWhoeverWatchesAFewKinds sees to it that the record is watched beside the keys of those kinds.
func TestWhoIsToldLiveToWhoeverWatchesAFewKinds(t *testing.T) {
	t.Parallel()
	r := newRecorded(t)
	r.ok("app", "create", "--shards", "4")
	lines, interrupt := begin(t, append(r.args(), "events", "--watch", "--since", "1", "-o", "json",
		"--kind", "drained,undrained,resource-added")...)
	await := func(kind, by string) {
		t.Helper()
		patience := time.After(time.Minute)
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					t.Fatalf("the events have ended before %s", kind)
				}
				if e := eventLines(t, line)[0]; e.Kind == kind && e.OrderedBy == by {
					return
				} else if e.Kind == kind {
					t.Fatalf("%s was ordered by %q, want %q", kind, e.OrderedBy, by)
				}
			case <-patience:
				t.Fatalf("there was no %s", kind)
			}
		}
	}
	for i := range 3 {
		r.ok("drain", "m1", "--absent", "--by", "ann")
		await("drained", "ann")
		r.ok("undrain", "m1", "--by", fmt.Sprint("bob", i))
		await("undrained", fmt.Sprint("bob", i))
		r.ok("allocate", "--id", fmt.Sprint("x", i), "--by", fmt.Sprint("eve", i))
		await("resource-added", fmt.Sprint("eve", i))
	}
	if code := interrupt(); code != exitFine {
		t.Errorf("events: exit code %d", code)
	}
}
