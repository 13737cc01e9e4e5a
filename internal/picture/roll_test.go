package picture

import (
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

func drainKey(id string) *mvccpb.KeyValue { return key(layout.Drain(id), "2026-01-02T03:04:05Z", 3, 0) }

func TestARollTellsOfMembersAndOrders(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	group := []*mvccpb.KeyValue{
		memberKey("b", "active", 0x71),
		slotKey("b"),
		memberKey("a", "active", 0x70),
		slotKey("a"),
	}
	for _, tt := range []struct {
		name   string
		orders []*mvccpb.KeyValue
		states []string // of a and b: state, and what is said of an order
		drains []Drain
	}{
		{"none", nil, []string{"active", "", "active", ""}, []Drain{}},
		{
			"one, and one of a member that is not there",
			[]*mvccpb.KeyValue{drainKey("x"), drainKey("a")},
			[]string{"draining", DrainOrdered, "active", ""},
			[]Drain{{Member: "a", Since: since, Live: true}, {Member: "x", Since: since}},
		},
		{
			"all",
			[]*mvccpb.KeyValue{drainKey("a"), drainKey("b")},
			[]string{"active", DrainIgnored, "active", DrainIgnored},
			[]Drain{
				{Member: "a", Since: since, Live: true, Ignored: true},
				{Member: "b", Since: since, Live: true, Ignored: true},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &Roll{
				View:    of(append(slices.Clone(group), tt.orders...)...).view,
				figures: map[string]claims.Figures{"a": {Claims: 7}, "gone": {Claims: 8}},
			}
			states, owned := []string{}, 0
			for _, m := range l.Members() {
				states = append(states, m.State, m.Drain)
				owned += m.Shards
				if want := map[string]int{"a": 7}[m.ID]; m.Resources != want {
					t.Errorf("%s has %d resources, want %d", m.ID, m.Resources, want)
				}
			}
			if !slices.Equal(states, tt.states) {
				t.Errorf("states and orders are %q, want %q", states, tt.states)
			}
			if owned != testShards {
				t.Errorf("members own %d shards, want %d", owned, testShards)
			}
			if got := l.Drains(); !slices.Equal(got, tt.drains) {
				t.Errorf("the orders are %+v, want %+v", got, tt.drains)
			}
		})
	}
}
