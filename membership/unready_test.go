package membership_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/membership"
)

func TestUnreadyMembersOwnNothingWhileEnoughAreReady(t *testing.T) {
	active := func(p picture, id string, slot int) picture { return p.member(id, membership.Active, slot) }
	for _, tt := range []struct {
		name           string
		picture        picture
		owners         []string
		drainsIgnored  bool
		unreadyIgnored bool
	}{
		{
			"one of two",
			active(picture{}.unready("b", 0, 1), "a", 0),
			[]string{"a"},
			false, false,
		},
		{
			"two of three",
			active(picture{}.unready("b", 0, 1).unready("c", 0, 2), "a", 0),
			[]string{"a", "b", "c"},
			false, true,
		},
		{"the only one", picture{}.unready("a", 0, 0), []string{"a"}, false, true},
		{
			"the only one that is not leaving",
			picture{}.unready("a", 0, 0).member("b", membership.Leaving, 1),
			[]string{"a"},
			false, true,
		},
		{
			"one of two, and a third is joining", // it may never get ready
			active(picture{}.unready("b", 0.6, 1).member("c", membership.Joining), "a", 0),
			[]string{"a", "b"},
			false, true,
		},
		{
			"it wants more to be ready",
			active(picture{}.unready("b", 0.51, 1), "a", 0),
			[]string{"a", "b"},
			false, true,
		},
		{
			"they disagree on how many must be ready: the greatest share counts",
			active(active(picture{}.unready("c", 0.1, 2).unready("d", 0.6, 3), "a", 0), "b", 1),
			[]string{"a", "b", "c", "d"},
			false, true,
		},
		{
			"a share that is no number of members",
			active(picture{}.unready("b", 0.34, 1).unready("c", 0.34, 2), "a", 0), // a third is less
			[]string{"a", "b", "c"},
			false, true,
		},
		{
			"a share that is met exactly",
			active(picture{}.unready("b", 1.0/3, 1).unready("c", 1.0/3, 2), "a", 0),
			[]string{"a"},
			false, false,
		},
		{
			"a small share, and nobody is ready",
			picture{}.unready("a", 0.0001, 0).unready("b", 0.0001, 1),
			[]string{"a", "b"},
			false, true,
		},
		{
			"all must be ready: unreadiness never counts",
			active(active(picture{}.unready("c", 1, 2), "a", 0), "b", 1),
			[]string{"a", "b", "c"},
			false, true,
		},
		{
			"the others are drained: drains stay in force, and it takes all",
			active(picture{}.unready("b", 0, 1), "a", 0).drain("a"),
			[]string{"b"},
			false, true,
		},
		{
			"all are drained: the drains are ignored, its unreadiness is not",
			active(picture{}.unready("b", 0, 1), "a", 0).drain("a", "b"),
			[]string{"a"},
			true, false,
		},
		{
			"nobody is ready, and all are drained",
			picture{}.unready("a", 0, 0).unready("b", 0, 1).drain("a", "b"),
			[]string{"a", "b"},
			true, true,
		},
		{
			"a drained one counts neither as ready nor as unready",
			active(active(picture{}.unready("c", 0, 2).unready("d", 0, 3), "a", 0), "b", 1).drain("c"),
			[]string{"a", "b"},
			false, false,
		},
		{
			"one that is drained and ready does not count",
			active(active(picture{}.unready("c", 0, 2).unready("d", 0, 3), "a", 0), "b", 1).drain("b"),
			[]string{"a", "c", "d"},
			false, true,
		},
		{
			"one that is drained and unready stays drained",
			picture{}.unready("a", 0, 0).unready("b", 0, 1).drain("b"),
			[]string{"a"},
			false, true,
		},
		{
			"one without slots owns nothing, though unreadiness is ignored",
			picture{}.unready("a", 0, 0).unready("b", 0),
			[]string{"a"},
			false, true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.picture.view()
			if got := owners(v); !slices.Equal(got, tt.owners) {
				t.Errorf("owners %q, want %q", got, tt.owners)
			}
			if v.DrainsIgnored() != tt.drainsIgnored || v.UnreadyIgnored() != tt.unreadyIgnored {
				ready, of := v.Readiness()
				t.Errorf("DrainsIgnored = %v, UnreadyIgnored = %v; %d of %d are ready",
					v.DrainsIgnored(), v.UnreadyIgnored(), ready, of)
			}
			if len(v.Corrupt) != 0 {
				t.Errorf("corrupt: %q", v.Corrupt)
			}
		})
	}
}

func TestStateOfAnUnreadyMemberIsWhatIsInForce(t *testing.T) {
	heeded := picture{}.member("a", membership.Active, 0).unready("b", 0, 1)
	for _, tt := range []struct {
		name    string
		picture picture
		want    membership.State
	}{
		{"heeded", heeded, membership.Unready},
		{"ignored", picture{}.unready("b", 0, 1), membership.Active},
		{"drained too", maps.Clone(heeded).drain("b"), membership.Draining},
		{"drained in vain, heeded", maps.Clone(heeded).drain("a", "b"), membership.Unready},
		{"drained in vain, ignored", picture{}.unready("b", 0, 1).drain("b"), membership.Active},
	} {
		v := tt.picture.view()
		if got := v.StateOf("b"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if m := v.Members["b"]; m.Reason != "no" {
			t.Errorf("%s: the reason is %q", tt.name, m.Reason)
		}
	}
}

// An unready member that keeps its slots gets the same shards back, and nobody else's move.
func TestUnreadinessMovesOnlyWhatTheMemberHas(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).
		member("b", membership.Active, 1).
		member("c", membership.Active, 2)
	before, during := p.view(), maps.Clone(p).unready("b", 0, 1).view()
	for n, owner := range before.Owners() {
		if now := during.Owner(n); owner != "b" && now != owner || owner == "b" && now == "b" {
			t.Errorf("shard %d goes from %s to %s", n, owner, now)
		}
	}
}

func TestTheLastThatCanTakeIsNotDrained(t *testing.T) {
	active := func(p picture, id string, slot int) picture { return p.member(id, membership.Active, slot) }
	for _, tt := range []struct {
		name    string
		picture picture
		member  string
		last    bool
	}{
		{"the other is not ready", active(picture{}.unready("b", 0, 1), "a", 0), "a", true},
		{"it is not ready, and the other is", active(picture{}.unready("b", 0, 1), "a", 0), "b", false},
		{
			"it is not ready, and the other is drained",
			active(picture{}.unready("b", 0, 1), "a", 0).drain("a"), "b", true,
		},
		{"neither is ready", picture{}.unready("a", 0, 0).unready("b", 0, 1), "a", false},
		{
			"neither is ready, and the other is drained",
			picture{}.unready("a", 0, 0).unready("b", 0, 1).drain("b"), "a", true,
		},
		{"it is alone", picture{}.unready("a", 0, 0), "a", true},
		{"it is leaving", active(picture{}.member("b", membership.Leaving, 1), "a", 0), "b", false},
		{"another is joining", active(picture{}.member("b", membership.Joining), "a", 0), "a", false},
	} {
		if got := tt.picture.view().LastToTake(tt.member); got != tt.last {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// However many are drained and unready, somebody who has a slot owns everything, as long as one such member is there.
func TestSomebodyIsEligibleWhereverThereIsAMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyPicture().Draw(t, "picture").view()
		there, eligible := 0, 0
		for id, m := range v.Members {
			if m.State == membership.Active || m.State == membership.Unready {
				there++
			}
			if v.Eligible(id) {
				eligible++
			}
			if v.Eligible(id) != (v.StateOf(id) == membership.Active) {
				t.Fatalf("%q may own shards: %v, and its state is %s", id, v.Eligible(id), v.StateOf(id))
			}
		}
		ready, of := v.Readiness()
		switch {
		case there > 0 && eligible == 0:
			t.Fatalf("nobody of %d may own shards", there)
		case v.UnreadyIgnored() && ready == of:
			t.Fatalf("unreadiness is ignored, though all %d are ready", of)
		case !v.UnreadyIgnored() && ready < of && 2*ready < of && v.Members["a"].MinReady == 0 &&
			v.Members["a"].State == membership.Unready:
			t.Fatalf("%d of %d are ready, and one wants half of them to be", ready, of)
		}
	})
}

func TestAMemberThatStartsUnreadyTakesSlotsWhenTheyAreOfUse(t *testing.T) {
	g := newGroup(t)
	g.join("a", 1)
	g.join("b", 1)
	before := g.view().Owners()
	reg := g.enter("c", 2)
	reg.Record.Reason, reg.Record.MinReady = "no", 0.9
	reg, err := g.registrar("c").SetState(t.Context(), reg, membership.Unready)
	if err != nil {
		t.Fatal(err)
	}
	v := g.view()
	if m := v.Members["c"]; m.State != membership.Unready || m.Reason != "no" || m.MinReady != 0.9 ||
		len(m.Slots) != 0 ||
		!slices.Equal(v.Owners(), before) || !v.HasItsSlots("c") ||
		!v.UnreadyIgnored() {
		t.Fatalf("unready while joining: %+v, shards moved: %v", m, !slices.Equal(v.Owners(), before))
	}
	if reg, err = g.registrar("c").TakeSlots(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	g.wantSlots(reg, 2, 3)
	if v := g.view(); v.Members["c"].State != membership.Unready || !slices.Contains(v.Owners(), "c") {
		t.Errorf("with slots: %+v, owners %q", v.Members["c"], owners(v))
	}
	if reg, err = g.registrar("c").Activate(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	g.wantSlots(reg, 2, 3)
	if m := g.view().Members["c"]; m.State != membership.Active || m.Reason != "" || m.MinReady != 0 {
		t.Errorf("active: %+v", m)
	}
	if fmt.Sprint(reg.Record.Slots) != "[2 3]" {
		t.Errorf("slots %v", reg.Record.Slots)
	}
}

// A member of weight 0 takes nothing. That it is ready, or not drained, leaves no shard without an owner.
func TestAMemberOfWeight0IsNobodyWhoCouldTakeShards(t *testing.T) {
	own := membership.Record{State: membership.Active, Slots: []int{0}, Schema: membership.Schema}.Encode()
	weighed := membership.WeightOrder{}.Encode()
	forced := membership.Restriction{Force: true}.Encode()
	for _, tt := range []struct {
		name   string
		picked func(p picture) picture // adds the other members
		nobody bool                    // there is nobody who could take shards
	}{
		{"it is alone", func(p picture) picture { return p }, true},
		{"b is drained", func(p picture) picture { return p.member("b", membership.Active, 1).drain("b") }, false},
		{"b is drained, as it is", func(p picture) picture {
			return p.member("b", membership.Active, 1).drain("a", "b")
		}, false},
		{"b is unready", func(p picture) picture { return p.unready("b", 0, 1) }, false},
		{"b is unready and drained", func(p picture) picture { return p.unready("b", 0, 1).drain("b") }, false},
		{"b is drained, and c unready", func(p picture) picture {
			return p.member("b", membership.Active, 1).unready("c", 0, 2).drain("b")
		}, false},
		{"b is drained by force", func(p picture) picture {
			return p.member("b", membership.Active, 1).with(layout.Drain("b"), forced)
		}, true},
		{"b has the weight 0, too", func(p picture) picture {
			return p.member("b", membership.Active, 1).with(layout.Weight("b"), weighed)
		}, true},
	} {
		for how, p := range map[string]picture{
			"by order":  picture{}.member("a", membership.Active, 0).with(layout.Weight("a"), weighed),
			"by itself": picture{}.member("a", membership.Active, 0).with(layout.Member("a"), own),
			"unready":   picture{}.unready("a", 0, 0).with(layout.Weight("a"), weighed),
		} {
			p = tt.picked(p)
			for _, id := range []string{"a", "b", "c"} { // members of Schema 1 know no weight of 0
				if value, live := p[layout.Member(id)]; live && !strings.Contains(value, "schema") {
					p[layout.Member(id)] = strings.Replace(value, "{", `{"schema":2,`, 1)
				}
			}
			v := p.view()
			for n, owner := range v.Owners() {
				if owner == "a" || (owner == "") != tt.nobody {
					t.Fatalf("%s, with weight 0 %s: shard %d is %q's", tt.name, how, n, owner)
				}
			}
			if tt.nobody && v.DrainsIgnored() {
				t.Errorf("%s, with weight 0 %s: the drains are ignored", tt.name, how)
			}
		}
	}
}

// A member that takes nothing while others can holds no more slots than it has, unless it is the last that can take
// anything: without a slot it would own nothing, and nobody would.
func TestAMemberHasItsSlotsWhereNobodyElseTakesShards(t *testing.T) {
	cordoned := membership.Restriction{}.Encode()
	other := func(state membership.State) picture {
		return picture{}.member("a", membership.Active).member("b", state, 0).schema2()
	}
	for _, tt := range []struct {
		name    string
		picture picture
		needs   bool
	}{
		{"it takes everything", other(membership.Active), true},
		{"it is cordoned", other(membership.Active).with(layout.Cordon("a"), cordoned), false},
		{"it is cordoned, and the other leaves", other(membership.Leaving).with(layout.Cordon("a"), cordoned), true},
		{
			"it is cordoned, and drained by force",
			other(membership.Leaving).with(layout.Cordon("a"), cordoned).
				with(layout.Drain("a"), membership.Restriction{Force: true}.Encode()),
			false,
		},
		{
			"it is cordoned, and has the weight 0",
			other(membership.Leaving).with(layout.Cordon("a"), cordoned).
				with(layout.Weight("a"), membership.WeightOrder{}.Encode()),
			false,
		},
	} {
		if got := tt.picture.view().NeedsSlots("a"); got != tt.needs {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for _, state := range []membership.State{membership.Active, membership.Leaving} {
		full := other(state).declining(map[string]string{"a": "0-7"})
		if got := full.NeedsSlots("a"); got != (state == membership.Leaving) {
			t.Errorf("it is full, and the other is %s: %v", state, got)
		}
	}
}
