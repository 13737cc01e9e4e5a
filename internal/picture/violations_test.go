package picture

import (
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// fresh are the leases of the members a and b, which have just renewed them.
var fresh = map[int64]leaseAge{0x70: {10 * time.Second, 9 * time.Second}, 0x71: {10 * time.Second, 9 * time.Second}}

func TestVerifyNamesWhatIsNotAsItShouldBe(t *testing.T) {
	entry, claim := entryKey("r", false), claimKey("r", "a", claims.Active, 7, 0x70)
	elsewhere := (shardOf("r") + 1) % testShards
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) // when the claims reached their states
	for _, tt := range []struct {
		name string
		keys []*mvccpb.KeyValue // besides the member a
		ages map[int64]leaseAge // nil: fresh
		now  time.Time          // zero: now
		want []Violation        // without their details
	}{
		{name: "nothing", keys: []*mvccpb.KeyValue{entry, claim}},
		{
			name: "no claim", keys: []*mvccpb.KeyValue{entry},
			want: []Violation{{Kind: KindUnassigned, Resource: "r", Member: "a"}},
		},
		{
			name: "another member's claim",
			keys: []*mvccpb.KeyValue{
				entry, memberKey("b", "joining", 0x71), slotKey("b"), claimKey("r", "b", claims.Active, 7, 0x71),
			},
			want: []Violation{{Kind: KindMisplaced, Resource: "r", Member: "b", Token: 7}},
		},
		{
			name: "a claim without an entry", keys: []*mvccpb.KeyValue{claim},
			want: []Violation{{Kind: KindOrphan, Resource: "r", Member: "a", Token: 7}},
		},
		{
			name: "a claim of what was deallocated", keys: []*mvccpb.KeyValue{entryKey("r", true), claim},
			want: []Violation{{Kind: KindOrphan, Resource: "r", Member: "a", Token: 7}},
		},
		{
			name: "a claim of what has a corrupt entry",
			keys: []*mvccpb.KeyValue{key(layout.Resource(shardOf("r"), "r"), "?", 2, 0), claim},
			want: []Violation{{Kind: KindCorrupt, Resource: "r"}},
		},
		{
			name: "a claim of nobody", keys: []*mvccpb.KeyValue{entry, claimKey("r", "c", claims.Active, 7, 0x70)},
			want: []Violation{
				{Kind: KindMisplaced, Resource: "r", Member: "c", Token: 7},
				{Kind: KindUnknownMember, Resource: "r", Member: "c", Token: 7},
			},
		},
		{
			name: "a claim without a lease", keys: []*mvccpb.KeyValue{entry, claimKey("r", "a", claims.Active, 7, 0)},
			want: []Violation{{Kind: KindNoLease, Resource: "r", Member: "a", Token: 7}},
		},
		{
			name: "leases that nobody renews", keys: []*mvccpb.KeyValue{entry, claim},
			ages: map[int64]leaseAge{0x70: {10 * time.Second, 4 * time.Second}},
			want: []Violation{{Kind: KindStale, Member: "a"}, {Kind: KindStale, Resource: "r", Member: "a", Token: 7}},
		},
		{
			name: "claimed a moment ago", keys: []*mvccpb.KeyValue{entry, claimKey("r", "a", claims.Claimed, 7, 0x70)},
			now: now.Add(staleClaim),
		},
		{
			name: "claimed long ago", keys: []*mvccpb.KeyValue{entry, claimKey("r", "a", claims.Claimed, 7, 0x70)},
			now:  now.Add(staleClaim + time.Second),
			want: []Violation{{Kind: KindStale, Resource: "r", Member: "a", Token: 7}},
		},
		{
			name: "a slot of two",
			keys: []*mvccpb.KeyValue{key(layout.Member("b"), `{"state":"joining","weight":1,"slots":[0]}`, 1, 0x71)},
			want: []Violation{{Kind: KindSlotShared, Member: "a"}, {Kind: KindSlotStray, Member: "b"}},
		},
		{
			name: "a block of two, and one of nobody",
			keys: []*mvccpb.KeyValue{
				key(layout.Member("b"), `{"state":"joining","weight":1,"slots":[],"blocks":[1,90],"held":80}`, 1, 0x71),
				key(layout.Member("c"), `{"state":"joining","weight":1,"slots":[1],"blocks":[1],"held":40}`, 1, 0x71),
				key(layout.Block(1), `{"member":"b","slots":40,"used":40}`, 1, 0),
				key(layout.Slot(1), "c", 1, 0), // an older version may have put that one: it is c's
			},
			want: []Violation{
				{Kind: KindSlotShared, Member: "b"},
				{Kind: KindSlotStray, Member: "b"},
				{Kind: KindSlotStray, Member: "c"},
			},
		},
		{
			name: "figures and an office without a lease",
			keys: []*mvccpb.KeyValue{key(layout.Stats("a"), "{}", 2, 0), key(layout.Coordinator(), "c", 3, 0)},
			want: []Violation{
				{Kind: KindNoLease, Member: "a"},
				{Kind: KindNoLease, Member: "c"},
				{Kind: KindUnknownMember, Member: "c"},
			},
		},
		{
			name: "keys that mean nothing",
			keys: []*mvccpb.KeyValue{
				key(layout.Claim(shardOf("r"), "r"), "?", 7, 0x70), key(layout.Claim(elsewhere, "r"), "?", 8, 0x70),
				key(layout.Stats("a"), "?", 2, 0x70), key(layout.AcceptOrder(), "?", 2, 0x70),
				key(layout.Root()+"x", "", 2, 0),
				key(layout.FetchOrder(), "", 2, 0x70), key(layout.Config(), "", 1, 0), // these two are fine
			},
			want: []Violation{
				{Kind: KindCorrupt},
				{Kind: KindCorrupt},
				{Kind: KindCorrupt, Member: "a"},
				{Kind: KindCorrupt, Resource: "r", Token: 7},
				{Kind: KindWrongShard},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ages, at := tt.ages, tt.now
			if ages == nil {
				ages = fresh
			}
			if at.IsZero() {
				at = now
			}
			got := of(append(alone(), tt.keys...)...).verify(ages, at)
			for i := range got {
				if got[i].Detail == "" {
					t.Errorf("%+v does not say what is wrong", got[i])
				}
				got[i].Detail = ""
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestVerifyTellsOfNoMembersAndOfTheSourcesItems(t *testing.T) {
	p := of(entryKey("r", false), entryKey("s", true))
	p.source = record.Source{
		Rejected: []string{"big"},
		BadItems: []record.BadItem{
			{Index: 3, ID: "big", Error: "too large", TooLarge: true},
			{Index: 4, Error: "no id"},
		},
	}
	want := []Violation{
		{Kind: KindBadItem, Detail: "item 4 of the source: no id"},
		{Kind: KindNoMembers, Detail: "1 resources are to be handled, and there is no live member"},
		{
			Kind:     KindTooLarge,
			Resource: "big",
			Detail:   "the source has it, and it does not fit into one request to etcd",
		},
		{Kind: KindUnassigned, Resource: "r", Detail: "there is no live member"},
	}
	if got := p.verify(nil, time.Now()); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestALeaseIsStaleOnceNobodyHasRenewedItForHalfOfItsLife(t *testing.T) {
	for _, tt := range []struct {
		age  leaseAge
		want bool
	}{
		{leaseAge{10 * time.Second, 10 * time.Second}, false},
		{leaseAge{10 * time.Second, 5 * time.Second}, false},
		{leaseAge{10 * time.Second, 4 * time.Second}, true},
		{leaseAge{}, true}, // it has ended
	} {
		if got := tt.age.stale(); got != tt.want {
			t.Errorf("%+v: stale is %v, want %v", tt.age, got, tt.want)
		}
	}
}
