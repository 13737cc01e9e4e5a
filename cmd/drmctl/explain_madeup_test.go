package main

import (
	"time"

	"github.com/distributed-resource-manager/drm"
)

// madeUpResource is a resource of which everything is known.
func madeUpResource() drm.ResourceDetail {
	return drm.ResourceDetail{
		Explanation: madeUp(),
		Entries:     []drm.Past{{Revision: 90, Text: "both, 36 bytes"}, {Revision: 12, Text: "source, 30 bytes"}},
		Claims:      []drm.Past{{Revision: 61, Text: "active at m4"}, {Revision: 60, Text: "claimed at m4"}},
	}
}

// madeUpMember is a member of which everything is known.
func madeUpMember() drm.MemberDetail {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	three := 3
	return drm.MemberDetail{
		MemberInfo: drm.MemberInfo{
			ID: "m3", State: "draining", Drain: drm.DrainOrdered, Weight: 2, Ordered: &three, Slots: []int{2, 3},
			Blocks: []drm.SlotRange{{First: 40, Last: 70}}, Address: "h:1", Version: "1.4", Started: at, Shards: 4,
			Resources: 7,
		},
		Versions: drm.Versions{Created: 5, Modified: 9, Writes: 3}, Revision: 8123, Live: true,
		Lease:  drm.Lease{ID: 0x7d1, Known: true, TTL: 20 * time.Second, Left: 17 * time.Second},
		Labels: map[string]string{"zone": "a", "rack": "7"}, Schema: 2, HasSource: true, Leads: true, Leaves: true,
		Owned: []drm.ShardRange{{First: 3, Last: 5}, {First: 9, Last: 9}}, Kept: 4,
		Declined: []drm.ShardRange{{First: 10, Last: 12}}, PinnedTo: []int{57}, PlacedAt: 2,
		MovedTo: []string{"feed-1"}, MovedFrom: []string{"feed-2", "feed-3"},
		Figures: &drm.Figures{
			Shards: 4, Claims: 7, Active: 5, Failed: 1, Calls: 2, Stuck: 1, Waiting: 4, WaitingForBudget: 3,
		},
		Load: &drm.MemberLoad{Total: 7500, Pending: 1500, Seen: 8100},
		Orders: []drm.OrderInfo{{
			Kind: drm.OrderDrain, Member: "m3", By: "ann@ops", Why: "a new kernel", Since: at, Live: true,
		}},
		Reservation: &drm.Reservation{
			Since: at, Until: at.Add(time.Hour), Keeps: []drm.ShardRange{{First: 3, Last: 5}},
			Lease: drm.Lease{ID: 0x7d2, Known: true, TTL: time.Hour, Left: time.Minute}, InForce: true,
		},
		Starts: 3, StartsSince: at, Exits: []drm.Exit{{At: at, Exit: "signal: killed"}}, Alone: "feed-9",
		Trails: []drm.Trail{{
			Shard: 4, Lease: 0x7d1, Member: "m3", At: at, IDs: []string{"feed-9", "feed-10"}, Returned: 1, Alone: true,
			Versions: drm.Versions{Created: 50, Modified: 51, Writes: 2},
		}},
		Accused: []drm.Accused{{Resource: "feed-8", At: at, Exit: "exit status 2"}},
		Past:    []drm.Past{{Revision: 9, Text: "active; slots: 2"}, {Revision: 5, Text: "joining; slots: 0"}},
	}
}

// madeUpShard is a shard of which everything is known.
func madeUpShard() drm.ShardDetail {
	e := madeUp()
	return drm.ShardDetail{
		Revision: 8123, Route: e.Route, Rulings: e.Rulings, Members: e.Members,
		Wanted: 12, Suspended: 1, Bytes: 4096, Misplaced: 2, Orphans: 1, BadKeys: 3,
		States: map[drm.State]int{drm.StateActive: 9, drm.StateFailed: 2, drm.StateUnassigned: 1},
		Claims: []drm.Bundle{
			{
				Member: "m2", Lease: 0x7d1, States: map[drm.State]int{drm.StateActive: 9}, Through: 8000,
				Within: time.Second,
			},
			{Member: "m4", Lease: 0x7d2, States: map[drm.State]int{drm.StateFailed: 2}},
		},
		Quarantined: []string{"feed-8"},
		Moved:       []drm.Moved{{Resource: "feed-1", Member: "m3", From: "m2"}},
		Trails:      madeUpMember().Trails,
		Changes: []drm.KeyChange{
			{Versions: drm.Versions{Created: 8000, Modified: 8100, Writes: 2}, Kind: "claim", ID: "feed-7"},
			{Versions: drm.Versions{Created: 7000, Modified: 7000, Writes: 1}, Kind: "trail"},
		},
	}
}
