package membership_test

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

var layout = keys.New("/drm", "app")

// picture holds the keys below group/ and their values.
type picture map[string]string

// member adds a member's key and its slots.
func (p picture) member(id string, state membership.State, slots ...int) picture {
	list := fmt.Sprint(slots)
	p[layout.Member(id)] = fmt.Sprintf(`{"state":%q,"weight":%d,"slots":%s}`, state, max(1, len(slots)), commas(list))
	for _, s := range slots {
		p[layout.Slot(s)] = id
	}
	return p
}

func commas(list string) string {
	b := []byte(list)
	for i := range b {
		if b[i] == ' ' {
			b[i] = ','
		}
	}
	return string(b)
}

// unready adds the key of an unready member that wants that share of the members to be ready, and its slots.
func (p picture) unready(id string, minReady float64, slots ...int) picture {
	p.member(id, membership.Unready, slots...)
	p[layout.Member(id)] = fmt.Sprintf(`{"state":"unready","weight":%d,"slots":%s,"reason":"no","min_ready":%v}`,
		max(1, len(slots)), commas(fmt.Sprint(slots)), minReady)
	return p
}

func (p picture) drain(ids ...string) picture {
	for _, id := range ids {
		p[layout.Drain(id)] = ""
	}
	return p
}

func (p picture) with(key, value string) picture {
	p[key] = value
	return p
}

func (p picture) kvs() []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for _, key := range slices.Sorted(maps.Keys(p)) {
		number := int64(crc32.ChecksumIEEE([]byte(key))) // different for each key, and the same each time
		kvs = append(kvs, &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte(p[key]), CreateRevision: number,
			Lease: number + 1,
		})
	}
	return kvs
}

func (p picture) view() *membership.View {
	return membership.NewView(layout.Root(), shards, p.kvs(), 7)
}

func owners(v *membership.View) []string {
	ids := v.Owners()
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestWhoMayOwnShards(t *testing.T) {
	for _, tt := range []struct {
		name    string
		picture picture
		owners  []string
		ignored bool
	}{
		{"nobody is there", picture{}, []string{""}, false},
		{
			"all are active",
			picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1),
			[]string{"a", "b"},
			false,
		},
		{
			"one is joining",
			picture{}.member("a", membership.Active, 0).member("b", membership.Joining, 1),
			[]string{"a"},
			false,
		},
		{
			"one is leaving",
			picture{}.member("a", membership.Leaving, 0).member("b", membership.Active, 1),
			[]string{"b"},
			false,
		},
		{
			"nobody is active",
			picture{}.member("a", membership.Leaving, 0).member("b", membership.Joining, 1),
			[]string{""},
			false,
		},
		{
			"one is drained",
			picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).drain("a"),
			[]string{"b"},
			false,
		},
		{
			"all are drained",
			picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).drain("a", "b"),
			[]string{"a", "b"},
			true,
		},
		{
			"all active ones are drained",
			picture{}.member("a", membership.Active, 0).member("b", membership.Joining, 1).drain("a"),
			[]string{"a"},
			true,
		},
		{
			"one that is not there is drained",
			picture{}.member("a", membership.Active, 0).drain("x"),
			[]string{"a"},
			false,
		},
		{
			"one is drained, and nobody is active",
			picture{}.member("a", membership.Leaving, 0).drain("a"),
			[]string{""},
			false,
		},
		{
			"one has no key",
			picture{}.member("a", membership.Active, 0).with(layout.Slot(1), "b"),
			[]string{"a"},
			false,
		},
		{
			"one thinks that it has another's slot",
			picture{}.member("a", membership.Active, 0, 1).member("b", membership.Active, 1),
			[]string{"a", "b"},
			false,
		},
		{
			"one has no slot of its own",
			picture{}.member("b", membership.Active, 0).member("a", membership.Active, 0, 1),
			[]string{"a"},
			false,
		},
		{
			"one thinks that it has a slot that is not there",
			picture{}.member("a", membership.Active, 0).
				with(layout.Member("b"), `{"state":"active","weight":1,"slots":[9]}`),
			[]string{"a"},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.picture.view()
			if got := owners(v); !slices.Equal(got, tt.owners) {
				t.Errorf("owners %q, want %q", got, tt.owners)
			}
			if v.DrainsIgnored() != tt.ignored {
				t.Errorf("DrainsIgnored = %v", v.DrainsIgnored())
			}
			if len(v.Corrupt) != 0 {
				t.Errorf("corrupt: %q", v.Corrupt)
			}
		})
	}
}

func TestAPinWinsOverPlacementAndPlacementOverTheRing(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).
		member("b", membership.Active, 1).
		member("c", membership.Active, 2).
		member("dead", membership.Leaving, 3)
	ring := p.view()
	of := func(id string) (n int) { // a shard that the ring gives to it
		return slices.Index(ring.Owners(), id)
	}
	other := func(n int) string { return map[string]string{"a": "b", "b": "c", "c": "a"}[ring.Owner(n)] }
	pinned, placed, both := of("a"), of("b"), of("c")
	var rest []int
	for n := range shards {
		if n != pinned && n != placed && n != both {
			rest = append(rest, n)
		}
	}
	deadPin, deadPlacement, emptyPin := rest[0], rest[1], rest[2]
	p.with(layout.Pin(pinned), other(pinned)).with(layout.Pin(both), other(both))
	p.with(layout.Pin(deadPin), "dead").with(layout.Pin(emptyPin), "")
	p.with(layout.Pin(shards), "a").with(layout.Pin(keys.MaxShards-1), "a") // beyond this app's shards
	p.with(layout.Placement(), fmt.Sprintf(`{"%d":%q,"%d":%q,"%d":"dead","%d":%q}`,
		placed, other(placed), both, ring.Owner(both), deadPlacement, keys.MaxShards-1, "a"))
	v := p.view()
	want := ring.Owners()
	want[pinned], want[placed], want[both] = other(pinned), other(placed), other(both)
	if diff := cmp.Diff(want, v.Owners()); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if len(v.Corrupt) != 0 {
		t.Errorf("corrupt: %q", v.Corrupt)
	}
	drained := p.drain(other(pinned)).view()
	if got := drained.Owner(pinned); got != ring.Owner(pinned) {
		t.Errorf("a pin to a drained member: owner %q, want %q", got, ring.Owner(pinned))
	}
}

func TestKeysThatAreNotUnderstoodAreReportedAndLeftOut(t *testing.T) {
	sound := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).drain("b")
	want := sound.view()
	p := maps.Clone(sound)
	var corrupt []string
	for key, value := range map[string]string{
		layout.Member("c"):                     "{",
		layout.Member("d"):                     "null",
		layout.Member("e"):                     `{"state":"draining","weight":1}`,
		layout.Member("f"):                     `{"state":"active","weight":0}`,
		layout.Member("g"):                     `{"state":"active","weight":33}`,
		layout.Member("h"):                     `{"state":"active","weight":1,"slots":[-1]}`,
		layout.Member("i"):                     `{"state":"active","weight":1,"slots":[100000]}`,
		layout.Member("j"):                     `{"state":"active","weight":1,"slots":"0"}`,
		layout.Member("k"):                     `{"state":"active","weight":1,"started":"noon"}`,
		layout.Member("l"):                     `{"state":"unready","weight":1,"min_ready":1.1}`,
		layout.Member("m"):                     `{"state":"unready","weight":1,"min_ready":-0.1}`,
		layout.Placement():                     `{"1":"b","01":"a"}`,
		layout.Group() + "members/":            "",
		layout.Group() + "members/x/y":         "",
		layout.Group() + "slots/1":             "a",
		layout.Group() + "pins/ffff":           "a",
		layout.Group() + "other":               "",
		layout.Slot(1)[:len(layout.Slot(1))-1]: "a",
	} {
		p.with(key, value)
		corrupt = append(corrupt, key)
	}
	slices.Sort(corrupt)
	got := p.view()
	if diff := cmp.Diff(corrupt, got.Corrupt); diff != "" {
		t.Errorf("corrupt (-want +got):\n%s", diff)
	}
	got.Corrupt = nil
	if diff := diffViews(want, got); diff != "" {
		t.Errorf("the rest (-want +got):\n%s", diff)
	}
}

func TestPlacementsThatAreNotUnderstood(t *testing.T) {
	for _, value := range []string{
		"", "null x", "[]", `{"x":"a"}`, `{"-1":"a"}`, `{"4096":"a"}`, `{"+1":"a"}`,
		`{"01":"a"}`, `{"1":1}`, `{" 1":"a"}`,
	} {
		v := picture{}.member("a", membership.Active, 0).with(layout.Placement(), value).view()
		if !slices.Equal(v.Corrupt, []string{layout.Placement()}) || !slices.Equal(owners(v), []string{"a"}) {
			t.Errorf("%s: corrupt %q, owners %q", value, v.Corrupt, owners(v))
		}
	}
}

func TestACoordinatorThatIsNoIDHoldsTheOfficeAllTheSame(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).with(layout.Coordinator(), "\xff").view()
	if v.Coordinator.ID != "" || v.Coordinator.CreateRevision == 0 ||
		!slices.Equal(v.Corrupt, []string{layout.Coordinator()}) {
		t.Errorf("coordinator %+v, corrupt %q", v.Coordinator, v.Corrupt)
	}
}

func TestAPinThatIsNoIDIsLeftOut(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0)
	want := p.view().Owners()
	v := p.with(layout.Pin(3), "a\n").view()
	if !slices.Equal(v.Owners(), want) || !slices.Equal(v.Corrupt, []string{layout.Pin(3)}) {
		t.Errorf("corrupt %q", v.Corrupt)
	}
}

func TestAMemberHasItsSlotsOnlyIfAllAreReservedForIt(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0, 2).member("b", membership.Active, 1)
	if v := p.view(); !v.HasItsSlots("a") || !v.HasItsSlots("b") {
		t.Error("slots that are reserved")
	}
	if v := p.with(layout.Slot(2), "\n").view(); v.HasItsSlots("a") || !v.HasItsSlots("b") {
		t.Error("a slot that nobody can read")
	}
}

func TestAReservationThatIsNoIDLeavesItsSlotFree(t *testing.T) {
	for _, value := range []string{"\n", "\xff", string(make([]byte, 513))} {
		v := picture{}.member("a", membership.Active, 0).with(layout.Slot(2), value).view()
		if !slices.Equal(v.Slots, []string{"a", "", ""}) || !slices.Equal(v.Corrupt, []string{layout.Slot(2)}) {
			t.Errorf("slots %q, corrupt %q", v.Slots, v.Corrupt)
		}
	}
}

func diffViews(a, b *membership.View) string {
	shared := cmpopts.IgnoreTypes((*shard.Probes)(nil)) // whether there is a table depends on earlier views
	return cmp.Diff(a, b, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), shared)
}

func anyPicture() *rapid.Generator[picture] {
	return rapid.Custom(func(t *rapid.T) picture {
		p := picture{}
		ids := []string{"a", "b", "c/d", "é"}
		for i, id := range ids {
			if rapid.Bool().Draw(t, "is there") {
				state := rapid.SampledFrom([]membership.State{
					membership.Joining, membership.Active, membership.Active, membership.Unready,
					membership.Leaving, "odd",
				}).Draw(t, "state")
				p.member(id, state, i, 10+i)
				if state == membership.Unready {
					share := rapid.SampledFrom([]float64{0, 0.01, 0.34, 0.5, 1, 1.5}).Draw(t, "min ready")
					p.unready(id, share, i, 10+i)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "drained") == 0 {
				p.drain(id)
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "pins") {
			p.with(layout.Pin(rapid.IntRange(0, shards).Draw(t, "pin")), rapid.SampledFrom(ids).Draw(t, "to"))
		}
		if rapid.Bool().Draw(t, "placement") {
			p.with(layout.Placement(), fmt.Sprintf(`{"%d":%q,"5":"a"}`, 6+rapid.IntRange(0, shards).Draw(t, "shard"),
				rapid.SampledFrom(ids).Draw(t, "to")))
		}
		for range rapid.IntRange(0, 2).Draw(t, "foreign") {
			p.with(layout.Group()+rapid.SampledFrom([]string{"x", "y/z", "slots/x"}).Draw(t, "key"), "")
		}
		if rapid.Bool().Draw(t, "coordinator") {
			p.with(layout.Coordinator(), rapid.SampledFrom(ids).Draw(t, "who"))
		}
		return p
	})
}

func TestViewsOfTheSameKeysAreEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture().Draw(t, "picture")
		one, kvs := p.view(), p.kvs()
		rand.Shuffle(len(kvs), func(i, j int) { kvs[i], kvs[j] = kvs[j], kvs[i] })
		other := membership.NewView(layout.Root(), shards, kvs, 7)
		if diff := diffViews(one, other); diff != "" {
			t.Fatal(diff)
		}
		if !one.SameMembers(other) {
			t.Fatal("SameMembers is false")
		}
	})
}

func TestTheAnswersOfAViewAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyPicture().Draw(t, "picture").view()
		if v.Revision != 7 || v.Shards != shards || len(v.Owners()) != shards {
			t.Fatalf("revision %d, %d shards, %d owners", v.Revision, v.Shards, len(v.Owners()))
		}
		mayOwn := func(id string) bool {
			return v.StateOf(id) == membership.Active
		}
		somebody := slices.ContainsFunc(slices.Collect(maps.Keys(v.Members)), mayOwn)
		for n, owner := range v.Owners() {
			if v.Owner(n) != owner {
				t.Fatalf("shard %d is %q's and %q's", n, owner, v.Owner(n))
			}
			if owner == "" && somebody || owner != "" && !mayOwn(owner) {
				t.Fatalf("shard %d is %q's, who is %q", n, owner, v.StateOf(owner))
			}
			for _, id := range append(slices.Collect(maps.Keys(v.Members)), "nobody") {
				if v.Owned(id)[n] != (id == owner) {
					t.Fatalf("Owned(%q)[%d] = %v, and it is %q's", id, n, v.Owned(id)[n], owner)
				}
			}
		}
		n, owner := v.OwnerOf("some/resource")
		if n != shard.Of("some/resource", shards) || owner != v.Owner(n) {
			t.Fatalf("OwnerOf: %d, %q", n, owner)
		}
	})
}

func TestAShardThatIsNotThereIsNobodys(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).view()
	for _, n := range []int{-1, shards} {
		if got := v.Owner(n); got != "" {
			t.Errorf("Owner(%d) = %q", n, got)
		}
	}
}

func TestTheCallersOfAViewCannotChangeIt(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).view()
	v.Owners()[0] = "x"
	v.Owned("a")[0] = false
	if v.Owner(0) != "a" || !v.Owned("a")[0] {
		t.Error("it changed")
	}
}

func TestNobodyOwnsWhatNobodyMayOwn(t *testing.T) {
	v := picture{}.view()
	if slices.Contains(v.Owned("a"), true) {
		t.Error("a member that is not there owns shards")
	}
	if slices.Contains(v.Owned(""), true) {
		t.Error("a member without an id owns the shards that are nobody's")
	}
}

func TestAloneAreThoseWhoLeaveNothingToAnybody(t *testing.T) {
	for state, want := range map[membership.State]bool{
		membership.Active: false, membership.Joining: false, membership.Unready: false,
		membership.Leaving: true,
	} {
		v := picture{}.member("a", membership.Active, 0).member("b", state, 1).drain("b").view()
		if got := v.Alone("a"); got != want {
			t.Errorf("Alone beside one that is %s: %v", state, got)
		}
	}
	if !(picture{}).member("a", membership.Active, 0).view().Alone("a") {
		t.Error("not alone where there is nobody else")
	}
	both := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1)
	forced := membership.Restriction{Force: true}.Encode()
	v := both.drain("b").with(layout.Drain("a"), forced).view()
	if !v.Alone("a") || !v.Alone("b") || v.DrainsIgnored() {
		t.Error("not alone where all are drained by force")
	}
}

func TestStateOf(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).
		member("d", membership.Active, 1).
		member("j", membership.Joining, 2).
		member("l", membership.Leaving, 3).
		drain("d", "j", "l", "x").
		view()
	for id, want := range map[string]membership.State{
		"a": membership.Active, "d": membership.Draining, "j": membership.Joining, "l": membership.Leaving, "x": "",
	} {
		if got := v.StateOf(id); got != want {
			t.Errorf("StateOf(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestSourceWanted(t *testing.T) {
	source := func(state string) string {
		return fmt.Sprintf(`{"state":%q,"weight":1,"source":true}`, state)
	}
	for _, tt := range []struct {
		name string
		key  string
		want bool
	}{
		{"nobody else has one", "", false},
		{"another has", source("active"), true},
		{"another will have", source("joining"), false},
		{"another had", source("leaving"), false},
		{"another has one, and is not ready", source("unready"), true},
		{"another has none", `{"state":"active","weight":1}`, false},
	} {
		p := picture{}.with(layout.Member("me"), source("active"))
		if tt.key != "" {
			p.with(layout.Member("other"), tt.key)
		}
		if got := p.view().SourceWanted("me"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestSameMembersSeesWhatChangesWhoOwnsWhat(t *testing.T) {
	before := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1)
	for _, tt := range []struct {
		name  string
		after picture
		same  bool
	}{
		{"nothing", before, true},
		{"a coordinator", maps.Clone(before).with(layout.Coordinator(), "a"), true},
		{"a joiner", maps.Clone(before).member("c", membership.Joining, 2), false},
		{"a leaver", maps.Clone(before).member("b", membership.Leaving, 1), false},
		{"a drain", maps.Clone(before).drain("a"), false},
		{"one is not ready", maps.Clone(before).unready("b", 0, 1), false},
		{"a pin", maps.Clone(before).with(layout.Pin(0), "a").with(layout.Pin(1), "b"), false},
	} {
		if got := before.view().SameMembers(tt.after.view()); got != tt.same {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func BenchmarkNewView(b *testing.B) {
	p := picture{}
	for n := range 100 {
		p.member(fmt.Sprint("member-", n), membership.Active, n)
	}
	kvs := p.kvs()
	b.ReportAllocs()
	for b.Loop() {
		membership.NewView(layout.Root(), 1024, kvs, 7)
	}
}
