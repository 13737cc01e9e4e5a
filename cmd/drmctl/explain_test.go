package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// madeUp is an explanation that has everything.
func madeUp() drm.Explanation {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	lease := drm.Lease{ID: 0x7d1, Known: true, TTL: time.Minute, Left: 59 * time.Second}
	return drm.Explanation{
		Resource: "feed-42", Shard: 57, Revision: 8123, State: drm.StateActive, Expected: "m2",
		Entry: &drm.ExplainedEntry{
			Versions:   drm.Versions{Created: 12, Modified: 90, Writes: 3},
			FromSource: true, Allocated: true, Understood: true, Data: []byte(`{"id":"feed-42","password":"s3cret"}`),
		},
		Route: drm.Route{Shard: 57, Owner: "m2", Home: "m1", Steps: []drm.Step{
			{Kind: drm.StepPin, Member: "m3", Verdict: drm.VerdictDraining},
			{Kind: drm.StepException, Member: "m4", Verdict: drm.VerdictGone},
			{Kind: drm.StepSlot, Slot: 4, Verdict: drm.VerdictFree},
			{Kind: drm.StepSlot, Slot: 0, Member: "m1", Verdict: drm.VerdictFull},
			{Kind: drm.StepSlot, Slot: 4, Verdict: drm.VerdictFree},
			{Kind: drm.StepSlot, Slot: 1, Member: "m2", Verdict: drm.VerdictOwner, Taken: true},
		}},
		Rulings: []drm.Ruling{
			{
				Kind: drm.RulingPin, Member: "m3", By: "ann@ops", Reason: "its disk is fast", Since: at,
				Obstacle: drm.VerdictDraining, Versions: drm.Versions{Created: 70, Modified: 70, Writes: 1},
			},
			{
				Kind: drm.RulingException, Member: "m4", Then: "m5", Why: "bound", By: "m1", Since: at,
				Obstacle: drm.VerdictGone, Versions: drm.Versions{Created: 80, Modified: 81, Writes: 2},
			},
		},
		Members: []drm.Stand{
			{
				Member: "m1", State: "active", Verdict: drm.VerdictFull, Detail: "full (MaxResources)", Schema: 2,
				Shards: 400,
			},
			{Member: "m2", State: "active", Verdict: drm.VerdictOwner, Schema: 2, Shards: 600},
			{
				Member: "m3", State: "draining", Verdict: drm.VerdictDraining, Schema: 2, Shards: 24,
				Detail: "drained by ann@ops: a new kernel is installed on all machines of the rack, one by one",
			},
		},
		Claim: &drm.ExplainedClaim{
			Versions: drm.Versions{Created: 60, Modified: 61, Writes: 2}, Member: "m4", State: drm.StateActive,
			Since: at, Token: 60, Lease: lease, Understood: true,
		},
		Quarantine: &drm.Quarantine{At: at, Deaths: []drm.Death{
			{Member: "m8", At: at, Exit: "signal: killed"}, {Member: "m9", At: at},
		}},
		Begun: &drm.Begun{At: at, Alone: true},
		Reasons: []drm.Reason{
			{
				Code: "pin-not-in-force", Remedy: "`drmctl undrain m3`",
				Text: "the shard is pinned to m3 by ann@ops: its disk is fast, which is not in force: m3 is drained",
			},
			{
				Code: "lease-runs", Hinders: true, Text: "m4 is gone, and its claim lives on until its lease ends",
				Wait: &drm.Wait{
					Until: "the lease of m4's claim ends, and m2 can claim it", Left: 59 * time.Second, Of: time.Minute,
				},
				Remedy: "a shorter LeaseTTL (--lease-ttl) makes others take over sooner after the next death",
			},
		},
	}
}

// A table does not list a thousand members that only could take the shard.
func TestExplainOfALargeGroup(t *testing.T) {
	e := madeUp()
	for i := range 200 {
		e.Members = append(e.Members, drm.Stand{Member: fmt.Sprint("x", i), State: "active", Verdict: drm.VerdictTakes})
	}
	show := func(c *cli.Context) error { return showExplanation(c, e) }
	got := shown(t, "table", show)
	if strings.Contains(got, "x7 ") || !strings.Contains(got, "\n200 members more: ") ||
		!strings.Contains(got, "\nm3 ") {
		t.Errorf("%s", got)
	}
	if got := shown(t, "wide", show); !strings.Contains(got, "\nx7 ") || strings.Contains(got, "members more") {
		t.Errorf("wide: %s", got)
	}
}

// explained waits until an explanation has reasons with these codes that hinder, and returns it.
func explained(l *lab, id string, codes ...string) explanationJSON {
	l.t.Helper()
	var e explanationJSON
	eventually(l.t, func() error {
		e = get[explanationJSON](l, "explain", id)
		for _, code := range codes {
			if !slices.ContainsFunc(e.Reasons, func(r reasonJSON) bool { return r.Code == code }) {
				return fmt.Errorf("reasons %+v, want %s; claim %+v, expected %q", e.Reasons, code, e.Claim, e.Expected)
			}
		}
		return nil
	})
	if e.Schema != 1 || e.Resource != id || e.Revision == 0 || e.Shard != e.shardOf(id) {
		l.t.Errorf("%+v", e)
	}
	return e
}

func (e explanationJSON) shardOf(id string) int { return shard.Of(id, drm.DefaultShards) }

func (e explanationJSON) reason(code string) reasonJSON {
	for _, r := range e.Reasons {
		if r.Code == code {
			return r
		}
	}
	return reasonJSON{}
}

func TestExplainFollowsAResourceThroughItsLife(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok("allocate", "--id", "r", "--create")
	if e := explained(l, "r", "no-member"); e.Fine || e.State != "unassigned" || e.Expected != "" ||
		!e.Entry.Allocated {
		t.Errorf("without a member: %+v", e)
	}

	l.agent("m1", "--allocate-only", "--handler-log")
	l.members(1)
	l.ok("allocate", "--id", "r", "--wait")
	e := get[explanationJSON](l, "explain", "r")
	if !e.Fine || e.State != "active" || e.Expected != "m1" || e.Claim.Member != "m1" || e.Claim.Token == 0 ||
		*e.Claim.Lease.TTL != 20 || *e.Claim.Lease.Left < 1 || len(e.Claim.Lease.ID) != 16 {
		t.Errorf("handled: %+v, claim %+v", e, e.Claim)
	}
	if last := e.Route.Steps[len(e.Route.Steps)-1]; last.Member != "m1" || !last.Taken || last.Kind != "slot" {
		t.Errorf("the route ends with %+v", last)
	}
	before := e.Revision

	// A resource that is not there is explained, and not found.
	got := drmctl(t.Context(), append(l.args(), "-o", "json", "explain", "nope")...)
	if got.code != exitNotFound || !strings.Contains(got.stdout, `"expected":"m1"`) ||
		!strings.Contains(got.stdout, `"not-in-catalogue"`) {
		t.Errorf("%+v", got)
	}
	checkOneLine(t, got.stderr, "nope", "not found")

	// A move to another member, and the past.
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	to := map[string]string{"m1": "m2", "m2": "m1"}[get[assignmentJSON](l, "lookup", "r").Expected]
	l.ok("pin", "r", to, "--yes", "--reason", "a test", "--by", "ann")
	eventually(t, func() error {
		if e = get[explanationJSON](l, "explain", "r"); !e.Fine || e.Expected != to {
			return fmt.Errorf("pinned to %s: %+v", to, e)
		}
		return nil
	})
	if r := e.Rulings[0]; r.Kind != "pin" || r.Member != to || r.By != "ann" || r.Reason != "a test" || !r.InForce ||
		r.Since == nil || r.Created == 0 {
		t.Errorf("ruling %+v", r)
	}
	past := get[explanationJSON](l, "explain", "r", "--at", fmt.Sprint(before))
	if !past.Past || past.Revision != before || past.Expected != "m1" || past.Claim.Lease.TTL != nil ||
		len(past.Rulings) != 0 || len(past.Members) != 1 {
		t.Errorf("at revision %d: %+v", before, past)
	}

	// The pin's member is drained: the pin is not in force, and the command says how to change that.
	l.ok("drain", to, "--at-once", "--by", "ann", "--reason", "new disk")
	e = explained(l, "r", "pin-not-in-force")
	if r := e.reason("pin-not-in-force"); r.Remedy != "`drmctl undrain "+to+"`" || r.Hinders {
		t.Errorf("%+v", r)
	}
	for _, m := range e.Members {
		if m.Member == to && (m.Verdict != "draining" || !strings.Contains(m.Detail, "drained by ann: new disk")) {
			t.Errorf("%+v", m)
		}
	}
	eventually(t, func() error {
		if e = get[explanationJSON](l, "explain", "r"); !e.Fine || e.Claim.Member == to {
			return fmt.Errorf("%s is drained: %+v", to, e)
		}
		return nil
	})
}

func TestExplainOfRevisionsThatEtcdDoesNotHave(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	l := &lab{t, []string{"--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "30s"}}
	client := embeddedtest.Client(t, server.Endpoint())
	if _, err := client.Put(t.Context(), "x", "y"); err != nil {
		t.Fatal(err)
	}
	l.ok("allocate", "--id", "r", "--create")
	at := func(revision int64) outcome {
		return drmctl(t.Context(), append(l.args(), "explain", "r", "--at", fmt.Sprint(revision))...)
	}
	now := get[explanationJSON](l, "explain", "r").Revision
	for _, tt := range []struct {
		revision int64
		want     string
	}{
		{now + 1000, fmt.Sprintf("etcd has not reached that revision yet; it is at revision %d now", now)},
		{2, "the app did not exist, or had another number of shards"},
	} {
		got := at(tt.revision)
		if got.code != exitFailed {
			t.Errorf("%d: %+v", tt.revision, got)
		}
		checkOneLine(t, got.stderr, fmt.Sprintf("revision %d", tt.revision), tt.want)
	}
	if _, err := client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	got := at(now - 1)
	if got.code != exitFailed {
		t.Errorf("compacted: %+v", got)
	}
	checkOneLine(t, got.stderr, "etcd has compacted that revision")

	// Without its config key the app's number of shards is not known.
	if _, err := client.Delete(t.Context(), keys.New("/drm", "lab").Config()); err != nil {
		t.Fatal(err)
	}
	got = drmctl(t.Context(), append(l.args(), "explain", "r")...)
	if got.code != exitFailed {
		t.Errorf("without a config: %+v", got)
	}
	checkOneLine(t, got.stderr, "the app's config key is gone", "drmctl verify")
	l.fails(exitNotFound, "--app", "other", "explain", "r")
}

func TestExplainTellsWhatAResourceWaitsFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		agent []string
		ids   []string // are allocated
		codes []string // those that one of them has
		text  string   // a part of the text or the remedy of the last one
	}{
		{
			"full",
			[]string{"--handler-log", "--max-resources", "1"},
			[]string{"a", "b"},
			[]string{"last-resort", "full"},
			"--max-resources",
		},
		{
			"a budget",
			[]string{"--handler-log", "--handle-rate", "0.001/1"},
			[]string{"a", "b", "c"},
			[]string{"beginning", "budget"},
			"--handle-rate",
		},
		{
			"unready",
			[]string{"--handler-log", "--ready-exec", "false"},
			[]string{"a"},
			[]string{"unready-ignored"},
			"--min-ready",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.agent("m1", append([]string{"--allocate-only", "--log-level", "error"}, tt.agent...)...)
			l.members(1)
			for _, id := range tt.ids {
				l.ok("allocate", "--id", id)
			}
			eventually(t, func() error {
				var all []reasonJSON
				for _, id := range tt.ids {
					e := get[explanationJSON](l, "explain", id)
					all = append(all, e.Reasons...)
					found := 0
					for _, code := range tt.codes {
						if r := e.reason(code); r.Code != "" {
							found++
						}
					}
					last := e.reason(tt.codes[len(tt.codes)-1])
					if found == len(tt.codes) && strings.Contains(last.Text+last.Remedy, tt.text) {
						return nil
					}
				}
				return fmt.Errorf("reasons %+v, want %q, with %q", all, tt.codes, tt.text)
			})
		})
	}
}

func TestExplainOfAMemberThatIsExpectedBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, stop := l.agent("m1", "--allocate-only", "--handler-log", "--rejoin", "1h")
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	id := ""
	for i := range 100 {
		name := fmt.Sprint("r", i)
		if l.ok("allocate", "--id", name, "--wait"); get[assignmentJSON](l, "lookup", name).Member == "m1" {
			id = name
			break
		}
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
	e := explained(l, id, "awaited")
	r := e.reason("awaited")
	if e.Expected != "m1" || r.Wait == nil || r.Wait.Of != 3600 || r.Wait.Left < 3000 ||
		!strings.Contains(r.Remedy, "`drmctl drain m1`") || !strings.Contains(r.Remedy, "--rejoin") {
		t.Errorf("%+v", r)
	}
	eventually(t, func() error { // its key goes after the reservation has come
		d := get[memberDetailJSON](l, "describe", "member", "m1")
		if d.Live || d.State != "absent" || d.Reservation == nil || !d.Reservation.InForce || len(d.Owned) == 0 ||
			*d.Reservation.Lease.TTL != 3600 || len(d.Slots) != 1 {
			return fmt.Errorf("m1: %+v", d)
		}
		return nil
	})
	l.ok("drain", "m1") // what the remedy says
	eventually(t, func() error {
		if e := get[explanationJSON](l, "explain", id); !e.Fine || e.Expected != "m2" {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
}

// A user who may only read what is below the app's prefix can explain and describe everything.
func TestExplainAndDescribeNeedNoMoreThanToReadTheApp(t *testing.T) {
	t.Parallel()
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	prefix := keys.New("/drm", "lab").Root()
	_, err := root.UserAdd(t.Context(), "reader", "s3cret")
	if err == nil {
		_, err = root.RoleAdd(t.Context(), "reader")
	}
	if err == nil {
		_, err = root.RoleGrantPermission(t.Context(), "reader", prefix, clientv3.GetPrefixRangeEnd(prefix),
			clientv3.PermissionType(clientv3.PermRead))
	}
	if err == nil {
		_, err = root.UserGrantRole(t.Context(), "reader", "reader")
	}
	if err != nil {
		t.Fatal(err)
	}
	global := []string{"--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "30s", "--user"}
	writer := &lab{t, append(slices.Clone(global), embeddedtest.User+":"+embeddedtest.Password)}
	reader := &lab{t, append(slices.Clone(global), "reader:s3cret")}
	writer.agent("m1", "--allocate-only", "--handler-log")
	writer.members(1)
	writer.ok("allocate", "--id", "r", "--data", `{"id":"r","password":"s3cret"}`, "--wait")

	e := explained(reader, "r")
	if !e.Fine || *e.Claim.Lease.TTL != 20 {
		t.Errorf("%+v", e)
	}
	if d := get[memberDetailJSON](reader, "describe", "member", "m1"); d.State != "active" || *d.Lease.TTL != 20 ||
		!d.Leads || len(d.Past) < 2 || !strings.HasPrefix(d.Past[0].Text, "active") ||
		!strings.HasPrefix(d.Past[len(d.Past)-1].Text, "joining") {
		t.Errorf("%+v", d)
	}
	d := get[shardDetailJSON](reader, "describe", "shard", fmt.Sprint(e.Shard))
	if d.Schema != 1 || d.Shard != e.Shard || d.Route.Owner != "m1" || d.Wanted != 1 || d.States["active"] != 1 ||
		d.Bytes == 0 || len(d.Claims) != 1 || d.Claims[0].Member != "m1" || d.Claims[0].States["active"] != 1 ||
		len(d.Changes) < 2 || d.Orphans != 0 || d.Misplaced != 0 {
		t.Errorf("%+v", d)
	}
	r := get[resourceDetailJSON](reader, "describe", "resource", "r")
	if string(r.Data) != "null" || !r.Fine || len(r.Entries) != 1 || len(r.Claims) < 1 || r.Entry.Bytes == 0 {
		t.Errorf("%+v", r)
	}
	r = get[resourceDetailJSON](reader, "describe", "resource", "r", "--with-data")
	if !strings.Contains(string(r.Data), "s3cret") {
		t.Errorf("--with-data prints %s", r.Data)
	}
	if got := reader.ok("describe", "resource", "r"); strings.Contains(got, "s3cret") {
		t.Errorf("without --with-data it prints %s", got)
	}
	for _, name := range []string{"explain r", "describe resource r"} {
		if got := reader.ok(append(strings.Fields(name), "-o", "name")...); got != "r\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, args := range [][]string{
		{"describe", "member", "m9"}, {"describe", "resource", "nope"},
	} {
		reader.fails(exitNotFound, args...)
	}
	for _, args := range [][]string{
		{"describe", "shard", "1024"},
		{"describe", "shard", "x"},
		{"describe", "shard"},
		{"describe", "mem", "m1"},
		{"explain"},
		{"explain", "r", "--at", "x"},
	} {
		reader.fails(exitUsage, args...)
	}
}
