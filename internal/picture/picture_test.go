package picture

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
)

// alone is a group of one member, a, which owns everything.
func alone() []*mvccpb.KeyValue {
	return []*mvccpb.KeyValue{memberKey("a", "active", 0x70), slotKey("a")}
}

func TestAnAssignmentSaysWhyNobodyHasAResource(t *testing.T) {
	garbage := key(layout.Claim(shardOf("r"), "r"), "?", 7, 0x70)
	for _, tt := range []struct {
		name     string
		keys     []*mvccpb.KeyValue
		expected string
		want     string
	}{
		{"no member", nil, "", "there is no live member"},
		{"joining", []*mvccpb.KeyValue{memberKey("a", "joining", 0x70), slotKey("a")}, "", "no live member is active"},
		{"not claimed", alone(), "a", "a has not claimed it yet"},
		{"garbage", append(alone(), garbage), "a", "its claim is not understood: whoever put it has to delete it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := of(append(tt.keys, entryKey("r", false))...).assignment("r")
			want := Assignment{
				Resource: "r", Shard: shardOf("r"), Expected: tt.expected, State: StateUnassigned, Error: tt.want,
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if why := "unassigned: " + tt.want; got.why() != why {
				t.Errorf("why() = %q, want %q", got.why(), why)
			}
		})
	}
}

func TestASummaryMakesTheClaimsOfItsLeaseActive(t *testing.T) {
	n := shardOf("r")
	p := of(append(alone(),
		key(layout.Summary(n, 0x70), string(claims.Summary{Member: "a", Through: 5}.Encode()), 6, 0x70),
		claimKey("r", "a", claims.Claimed, 5, 0x70))...)
	if a := p.assignment("r"); a.State != claims.Active || a.Token != 5 {
		t.Errorf("got %+v, want it active", a)
	}
	p.take(claimKey("r", "a", claims.Claimed, 5, 0x71)) // on another lease, which the summary is not about
	if a := p.assignment("r"); a.State != claims.Claimed {
		t.Errorf("got %+v, want it claimed", a)
	}
}

func TestAssignmentsListWhatIsWantedOrClaimed(t *testing.T) {
	p := of(append(alone(),
		entryKey("active", false), claimKey("active", "a", claims.Active, 11, 0x70),
		entryKey("failed", false), claimKey("failed", "b", claims.Failed, 12, 0x71),
		entryKey("left", true), claimKey("left", "a", claims.Active, 13, 0x70), // deallocated, and still claimed
		claimKey("orphan", "a", claims.Claimed, 14, 0x70),
		entryKey("over", true),
		entryKey("unassigned", false))...)
	for _, tt := range []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"all", Filter{}, []string{"active", "failed", "left", "orphan", "unassigned"}},
		{"a member's", Filter{Member: "a"}, []string{"active", "left", "orphan"}},
		{"unassigned", Filter{Unassigned: true}, []string{"unassigned"}},
		{"failed", Filter{Failed: true}, []string{"failed"}},
		{"nobody's", Filter{Member: "c"}, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ids := []string{}
			for _, a := range p.Assignments(tt.filter) {
				ids = append(ids, a.Resource)
			}
			if !slices.Equal(ids, tt.want) {
				t.Errorf("got %q, want %q", ids, tt.want)
			}
		})
	}
	s := p.Status()
	got := [...]int{s.Members, s.Resources, s.Active, s.Failed, s.Unassigned, s.Misplaced, s.Corrupt}
	if want := [...]int{1, 3, 1, 1, 1, 1, 0}; got != want {
		t.Errorf("members, resources, active, failed, unassigned, misplaced and corrupt are %v, want %v", got, want)
	}
	if all := p.Resources(); len(all) != 5 || all[0].ID != "active" || !all[2].Suspended || all[2].ID != "left" {
		t.Errorf("the catalogue is %+v", all)
	}
}

func TestWhatIsNotWantedIsNotFound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry *catalogue.Entry
		want  error
	}{
		{"no entry", nil, ErrNotFound},
		{"suspended", &catalogue.Entry{FromSource: true, Suspended: true}, ErrNotFound},
		{"wanted", &catalogue.Entry{FromSource: true}, nil},
	} {
		if err := notWanted(tt.entry); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
