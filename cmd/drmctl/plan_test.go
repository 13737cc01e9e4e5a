package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// plans runs a command that prints a plan, and must end with that exit code and say nothing on stderr.
func (l *lab) plans(code int, args ...string) (p planJSON) {
	l.t.Helper()
	got := drmctl(l.t.Context(), append(append(l.args(), "-o", "json"), args...)...)
	if got.code != code || got.stderr != "" {
		l.t.Fatalf("%s: exit code %d, want %d: %s", strings.Join(args, " "), got.code, code, got.stderr)
	}
	if err := json.Unmarshal([]byte(got.stdout), &p); err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, got.stdout)
	}
	return p
}

// planLab has three members with labels, and some resources that all have come to rest.
func planLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	for i, zone := range []string{"a", "b", "b"} {
		l.agent(fmt.Sprintf("m%d", i+1), "--allocate-only", "--handler-log", "--label", "zone="+zone, "--shards", "32")
	}
	l.members(3)
	for i := range 40 {
		l.ok("allocate", "--id", fmt.Sprintf("r%d", i), "--wait")
	}
	l.rests()
	return l
}

// rests waits until nothing is going to move.
func (l *lab) rests() {
	l.t.Helper()
	eventually(l.t, func() error {
		got := drmctl(l.t.Context(), append(l.args(), "plan", "-o", "json")...)
		var p planJSON
		if err := json.Unmarshal([]byte(got.stdout), &p); err != nil {
			return fmt.Errorf("plan: %+v", got)
		}
		for _, m := range p.Members { // all have said what they have
			if len(p.Moves) > 0 || m.Before.Load != float64(m.Before.Resources) {
				return fmt.Errorf("plan: %+v", p)
			}
		}
		return nil
	})
}

func TestPlanTellsWhatWouldMoveAndChangesNothing(t *testing.T) {
	t.Parallel()
	l := planLab(t)
	now := l.plans(exitFine, "plan")
	if len(now.Moves) != 0 || len(now.Members) != 3 || now.Revision == 0 || now.Before != now.After {
		t.Errorf("a plan without changes: %+v", now)
	}
	for name, c := range map[string]struct {
		args []string
		ok   func(p planJSON) bool
	}{
		"drain": {[]string{"--drain", "m1"}, func(p planJSON) bool {
			return p.share("m1").Shards == 0 && p.share("m1").State == "draining"
		}},
		"without": {[]string{"--without", "m1"}, func(p planJSON) bool { return p.share("m1").State == "" }},
		"stop":    {[]string{"--stop=m1"}, func(p planJSON) bool { return p.share("m1").State == "" }},
		"label": {[]string{"--without-label", "zone=b"}, func(p planJSON) bool {
			return p.share("m1").Resources == 40 && p.share("m2").Shards+p.share("m3").Shards == 0
		}},
		"join": {[]string{"--join", "m4,2", "--join=m,5"}, func(p planJSON) bool {
			return p.share("m4").Shards > 0 && p.share("m4").Weight == 2 && p.share("m").Weight == 5
		}},
		"weight": {[]string{"--weight", "m2=3"}, func(p planJSON) bool {
			return p.share("m2").Weight == 3 && p.share("m2").Resources > 15
		}},
		"cordon beside a drain": {[]string{"--cordon", "m2", "--drain", "m1"}, func(p planJSON) bool {
			return p.share("m2").Shards == p.before("m2").Shards && p.share("m1").Shards == 0
		}},
		"dry run of drain": {[]string{"drain", "m1", "--dry-run"}, func(p planJSON) bool {
			return p.share("m1").Shards == 0
		}},
		"dry run of weight": {[]string{"weight", "m1", "0", "--dry-run"}, func(p planJSON) bool {
			return p.share("m1").Shards == 0
		}},
		"dry run of move": {[]string{"move", "r0", l.other("r0"), "--dry-run"}, func(p planJSON) bool {
			return p.moves(get[assignmentJSON](l, "lookup", "r0").Shard, l.other("r0"))
		}},
		"dry run of pin": {[]string{"pin", "r0", l.other("r0"), "--dry-run"}, func(p planJSON) bool {
			return p.moves(get[assignmentJSON](l, "lookup", "r0").Shard, l.other("r0"))
		}},
	} {
		args := c.args
		if strings.HasPrefix(args[0], "-") {
			args = append([]string{"plan"}, args...)
		}
		p := l.plans(exitMoves, args...)
		if !c.ok(p) {
			t.Errorf("%s: %+v", name, p)
		}
		resources := 0
		for _, m := range p.Members {
			resources += m.After.Resources
		}
		if resources != 40 || p.After == 0 || len(p.Moves) == 0 || len(p.Unplaced) != 0 {
			t.Errorf("%s: %d resources in the end: %+v", name, resources, p)
		}
	}
	for _, args := range [][]string{
		{"plan", "--undrain", "m1"},
		{"plan", "--cordon", "m1"},
		{"cordon", "m1", "--dry-run"},
		{"rebalance", "--dry-run"},
		{"weight", "m1", "--reset", "--dry-run"},
		{"plan", "--weight", "m1=1"},
	} {
		if p := l.plans(exitFine, args...); len(p.Moves) != 0 {
			t.Errorf("%q: %+v", args, p)
		}
	}
	all := l.plans(exitMoves, "plan", "--without", "m1", "--without", "m2", "--without", "m3")
	if len(all.Unplaced) == 0 || all.After != 0 || all.Unplaced[0].Member != "" {
		t.Errorf("nobody is left: %+v", all)
	}
	if after := l.plans(exitFine, "plan"); len(after.Moves) != 0 || len(get[[]orderJSON](l, "pins")) != 0 {
		t.Errorf("the plans have changed something: %+v", after)
	}
}

func (p planJSON) member(id string) (found plannedMember) {
	for _, m := range p.Members {
		if m.ID == id {
			found = m
		}
	}
	return found
}

func (p planJSON) share(id string) plannedShare  { return p.member(id).After }
func (p planJSON) before(id string) plannedShare { return p.member(id).Before }

func (p planJSON) moves(shard int, to string) bool {
	for _, m := range p.Moves { // others may move for balance
		if m.Shard == shard && m.To == to && m.Resources > 0 {
			return true
		}
	}
	return false
}

// other returns a member that does not have a resource.
func (l *lab) other(resource string) string {
	l.t.Helper()
	if get[assignmentJSON](l, "lookup", resource).Member == "m2" {
		return "m3"
	}
	return "m2"
}

func TestAPlanIsRefusedWhereTheOrderWouldBe(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.says(exitNotFound, []string{`no such app "lab"`}, "plan")
	l.agent("m1", "--allocate-only", "--handler-log", "--shards", "32")
	l.members(1)
	for _, c := range []struct {
		code int
		want []string
		args []string
	}{
		{exitFailed, []string{"--force"}, []string{"drain", "m1", "--dry-run"}},
		{exitFailed, []string{"every other member"}, []string{"plan", "--drain", "m1"}},
		{exitFailed, []string{`"m1" is there already`}, []string{"plan", "--join", "m1"}},
		{exitNotFound, []string{`"m9"`, "--absent"}, []string{"drain", "m9", "--dry-run"}},
		{exitNotFound, []string{`"m9"`, "drmctl members"}, []string{"plan", "--drain", "m9"}},
		{exitNotFound, []string{`it does not live`}, []string{"plan", "--without", "m9"}},
		{exitNotFound, []string{`it does not live`}, []string{"plan", "--stop", "m9"}},
		{exitNotFound, []string{"zone=a"}, []string{"plan", "--without-label", "zone=a"}},
		{exitUsage, []string{"--shard", "0 to 31"}, []string{"move", "--shard", "99", "m1", "--dry-run"}},
		{exitNotFound, []string{`"r0"`}, []string{"move", "r0", "m1", "--dry-run"}},
		{exitUsage, []string{"--weight", "MEMBER=NUMBER"}, []string{"plan", "--weight", "m1"}},
		{exitUsage, []string{"--weight", "0 to 1000"}, []string{"plan", "--weight", "m1=1001"}},
		{exitUsage, []string{"--join", "1 to 1000"}, []string{"plan", "--join", "m2,0"}},
		{exitUsage, []string{"--without-label", "LABEL=VALUE"}, []string{"plan", "--without-label", "a"}},
		{exitUsage, []string{"takes no argument"}, []string{"plan", "m1"}},
		{exitUsage, []string{"--max-moving", "1 to 10000000"}, []string{"plan", "--max-moving", "0"}},
		{exitUsage, []string{"--if-revision"}, []string{"drain", "m1", "--if-revision", "-1"}},
	} {
		got := drmctl(t.Context(), append(l.args(), c.args...)...)
		if got.code != c.code || got.stdout != "" {
			t.Errorf("%q: exit code %d, want %d: %s%s", c.args, got.code, c.code, got.stdout, got.stderr)
		}
		checkOneLine(t, got.stderr, c.want...)
	}
}

func TestAnOrderIsRefusedIfTheGroupHasChangedSinceItsPlan(t *testing.T) {
	t.Parallel()
	l := planLab(t)
	planned := l.plans(exitMoves, "plan", "--drain", "m1")
	revision := fmt.Sprint(planned.Revision)
	l.ok("allocate", "--id", "one more", "--wait") // that is no change of the group
	l.plans(exitMoves, "drain", "m1", "--dry-run", "--if-revision", revision)
	l.ok("drain", "m1", "--if-revision", revision, "--wait")
	eventually(t, func() error {
		for _, m := range get[[]memberJSON](l, "members") {
			if m.Shards != planned.share(m.ID).Shards {
				return fmt.Errorf("%s has %d shards, planned %+v", m.ID, m.Shards, planned.member(m.ID))
			}
		}
		return nil
	})
	l.ok("drain", "m1", "--if-revision", revision) // the order stands, so there is nothing to refuse
	changed := []string{"the group has changed since revision " + revision, `the drain of member "m1" is new`}
	for _, args := range [][]string{
		{"drain", "m2"},
		{"drain", "m2", "--dry-run"},
		{"cordon", "m2"},
		{"weight", "m2", "3"},
		{"move", "r0", l.other("r0"), "--yes"},
		{"pin", "r0", l.other("r0"), "--yes"},
		{"rebalance"},
	} {
		l.says(exitFailed, changed, append(args, "--if-revision", revision)...)
	}
	if got := get[[]orderJSON](l, "pins"); len(got) != 0 {
		t.Errorf("an order that was refused stands: %+v", got)
	}
	l.says(exitFailed, []string{"revision 999999999: etcd has not reached that revision yet"},
		"drain", "m2", "--if-revision", "999999999")
}

func TestAPlanForPeople(t *testing.T) {
	p := &drm.Plan{
		Revision: 812, Resources: 7, Load: 7.25, Before: 1.04, After: 1.25, Rounds: 2, Took: 3e9, Paced: true,
		Options: drm.PlanOptions{BalanceMoves: drm.NoBalance, BalanceAfter: 60e9, MaxMoving: 5, MaxMovingPerMember: 2},
		Members: []drm.PlannedMember{
			{
				ID: "m1", Before: drm.PlannedShare{State: "active", Weight: 1, Shards: 12, Resources: 7, Load: 7.25},
				After: drm.PlannedShare{State: "draining", Weight: 1},
			},
			{ID: "m2", After: drm.PlannedShare{State: "active", Weight: 2, Shards: 11, Resources: 7, Load: 7.25}},
		},
		Unplaced: []drm.UnplacedShard{{Shard: 3, Resources: 1}, {Shard: 4, Member: "m2", Resources: 9}},
		Notes:    []string{"every member is drained then"},
	}
	for n := range 12 {
		p.Moves = append(p.Moves, drm.PlannedMove{
			Shard: n, From: "m1", To: "m2", Resources: 1, Load: 0.5, Why: "drain",
		})
	}
	tell := func(format output.Format) string {
		var b strings.Builder
		err := output.Report(&output.Printer{Out: &b, Format: format}, objectOf(p), "", func(pg *output.Page) {
			tellPlan(pg, p)
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := `revision      812
moves         12 shards, 7 resources, load 7.25
max/avg       1.040 → 1.250
rounds        2, over 3s at least; paced, so some shards may go elsewhere in the end
fits nowhere  shard 3, 1 resource: nobody may have it
fits nowhere  shard 4, 9 resources: m2 has it, and all are full
supposed      --balance-moves 0 --balance-after 1m --max-moving 5 --max-moving-per-member 2
note          every member is drained then

MEMBER  STATE              WEIGHT  SHARDS  RESOURCES  LOAD
m1      active → draining  1       12 → 0  7 → 0      7.25 → 0
m2      - → active         0 → 2   0 → 11  0 → 7      0 → 7.25

SHARD  FROM  TO  RESOURCES  LOAD  WHY
`
	if got := tell(output.Table); !strings.HasPrefix(got, want) ||
		!strings.HasSuffix(got, "\nand 2 more (-o wide shows all)\n") ||
		strings.Count(got, "m1    m2  1          0.5   drain\n") != 10 {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := tell(output.Wide); strings.Count(got, " drain\n") != 12 || strings.Contains(got, "more") {
		t.Errorf("wide:\n%s", got)
	}
}

func TestAPlanShowsTheShardsThatMatterFirst(t *testing.T) {
	t.Parallel()
	var moves []drm.PlannedMove
	for shard, resources := range []int{0, 2, 0, 5, 0, 2} {
		moves = append(moves, drm.PlannedMove{Shard: shard, Resources: resources})
	}
	for n, want := range map[int][]int{1: {3}, 2: {1, 3}, 3: {1, 3, 5}, 4: {0, 1, 3, 5}, 9: {0, 1, 2, 3, 4, 5}} {
		var got []int
		for _, m := range fullest(moves, n) {
			got = append(got, m.Shard)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d: got shards %v, want %v", n, got, want)
		}
	}
}
