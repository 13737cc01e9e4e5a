package main

import (
	"time"

	"github.com/distributed-resource-manager/drm"
)

// madeUpAt is when all that is made up has happened.
var madeUpAt = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// madeUpLongID is an id that takes half of a line, and madeUpLongMember one of a member that takes a third.
const (
	madeUpLongID     = "eu-central-1/customer-0000017/feeds/42"
	madeUpLongMember = "host-4.rack-7.example.org"
)

// madeUpOrders are orders of each kind.
func madeUpOrders() []drm.OrderInfo {
	return append([]drm.OrderInfo{
		{
			Kind: drm.OrderDrain, Member: "host-2", By: "ann@ops", Live: true, Since: madeUpAt,
			Why: "a new kernel is installed on all machines of the rack, one by one",
		},
		{Kind: drm.OrderCordon, Member: "host-3", By: "bob@ops", Live: true, Ignored: true, Since: madeUpAt},
		{
			Kind: drm.OrderWeight, Member: madeUpLongMember, Weight: 3,
			Since: madeUpAt,
		},
	}, madeUpPins()...)
}

func madeUpPins() []drm.OrderInfo {
	return []drm.OrderInfo{
		{
			Kind: drm.OrderPin, Shard: 12, Member: "host-1", By: "ann@ops", Live: true, Since: madeUpAt,
			Why: "host-1 has the fast disk, which this customer pays for until the end of the year",
		},
		{Kind: drm.OrderPin, Shard: 1023, Member: "host-9", Ignored: true},
	}
}

func madeUpGroup() drm.Group {
	three := 3
	return drm.Group{Orders: madeUpOrders(), Members: []drm.MemberInfo{
		{
			ID: "host-1", State: "active", Weight: 1, Slots: []int{0}, Address: "10.1.2.3:4711", Version: "1.4.2",
			Started: madeUpAt, Shards: 400, Resources: 40_123,
		},
		{
			ID: "host-2", State: "draining", Drain: drm.DrainOrdered, Weight: 2, Ordered: &three, Slots: []int{1, 2, 9},
			Blocks: []drm.SlotRange{{First: 40, Last: 70}}, Address: "[2001:db8::17]:4711", Version: "1.4.2-rc.1",
			Started: madeUpAt, Shards: 4, Resources: 7,
		},
		{
			ID: "host-3", State: "unready", Cordon: drm.DrainIgnored, Weight: 1, Slots: []int{5}, Started: madeUpAt,
			Reason: "the check failed 3 times: connect to the database: i/o timeout after 5s",
		},
	}}
}

func madeUpAssignments() []drm.Assignment {
	return []drm.Assignment{
		{
			Resource: "feed-1", Shard: 7, Expected: "host-1", Member: "host-1", State: drm.StateActive, Token: 4711,
			Since: madeUpAt,
		},
		{
			Resource: madeUpLongID, Shard: 1023, Expected: "host-1", Member: "host-2", State: drm.StateFailed,
			Token: 123_456_789, Since: madeUpAt, Error: "connect to feed.example.org: connection refused; try 17",
		},
		{Resource: "feed-3", Shard: 12, State: drm.StateUnassigned, Error: "there is no live member"},
		{
			Resource: "feed-4", Shard: 13, Expected: "host-3", Member: "host-3", State: drm.StateQuarantined, Token: 90,
			Since: madeUpAt, Error: "2 members have died while they began with it: host-8 (signal: killed), host-9",
		},
		{Resource: "日本/ニュース", Shard: 14, Expected: "host-3", Member: "host-3", State: drm.StateClaimed, Token: 91},
	}
}

func madeUpResources() []drm.CatalogueEntry {
	suspension := &drm.Suspension{By: "ann@ops", Why: "it is broken", Since: madeUpAt}
	return []drm.CatalogueEntry{
		{Resource: drm.Resource{ID: "feed-1"}, Shard: 7, FromSource: true},
		{
			Resource: drm.Resource{
				ID:   madeUpLongID,
				Data: []byte(`{"id":"` + madeUpLongID + `","url":"https://feed.example.org/?a=1&b=<2>"}`),
			},
			Shard: 1023, FromSource: true, Allocated: true,
		},
		{Resource: drm.Resource{ID: "feed-3"}, Shard: 12, FromSource: true, Suspended: true},
		{Resource: drm.Resource{ID: "feed-4"}, Shard: 13, Allocated: true, Suspended: true, Suspension: suspension},
	}
}

// madeUpOverview is a status in which nothing is well.
func madeUpOverview() drm.Overview {
	g := madeUpGroup()
	ago := func(d time.Duration) time.Time { return madeUpAt.Add(-d) }
	return drm.Overview{
		At: madeUpAt, Exists: true,
		Status: drm.Status{
			App: "feeds", Members: 3, Resources: 40_130, Active: 40_123, Failed: 1, Unassigned: 6, NoRoom: 2,
			Awaited: 1, Misplaced: 3, Quarantined: 1, Suspended: 1, Coordinator: "host-1", Orders: g.Orders,
			Revision: 8123, WaitingForBudget: 4, Corrupt: 2,
			Suspensions: []drm.SuspendedInfo{{
				Resource:   "feed-4",
				Suspension: drm.Suspension{By: "ann@ops", Why: "it is broken", Since: ago(time.Hour)},
			}},
			Unready: []drm.UnreadyInfo{{Member: "host-3", Reason: g.Members[2].Reason, Ignored: true}},
			Source: drm.SourceStatus{
				LastSuccess: ago(10 * time.Minute), LastAttempt: ago(time.Minute), Resources: 40_000,
				Error: "get https://feeds.example.org/list: 503 Service Unavailable: the database is being moved",
				Held:  5, HeldSince: ago(time.Hour), HeldUntil: madeUpAt.Add(time.Hour), TooLarge: 1,
				NotBefore: madeUpAt.Add(time.Minute), Bad: 2, BadItems: []drm.SourceBadItem{
					{Index: 17, Error: "the id is the number 7; --source-number-ids takes it"},
					{Index: 18, Error: "no id"},
				},
				LastChange: drm.SourceChange{At: ago(time.Hour), Added: 3, Changed: 2, Removed: 1},
			},
		},
		SourceOverdue: true, SourcePoll: time.Minute,
		Health: []drm.MemberHealth{
			{
				MemberInfo: g.Members[0], Known: true, Active: 40_117, Failed: 1, Calls: 4, Waiting: 2, Stuck: 1,
				StuckSince: ago(5 * time.Minute), View: 8123, LeaseTTL: 20 * time.Second, LeaseLeft: 17 * time.Second,
			},
			{
				MemberInfo: g.Members[1], Known: true, Active: 7, View: 8000, ViewBehind: 123,
				ViewBehindSince: ago(90 * time.Second), LeaseTTL: 20 * time.Second, LeaseLeft: 3 * time.Second,
			},
			{MemberInfo: g.Members[2]},
		},
		Etcd: drm.EtcdHealth{
			Leader: "etcd-1", Latency: 1234 * time.Microsecond, Alarms: []string{"NOSPACE at etcd-1"},
			Members: []drm.EtcdMember{
				{
					Name: "etcd-1", State: "healthy", Version: "3.6.5", Database: 1 << 30, InUse: 1 << 29,
					Quota: 2 << 30,
				},
				{Name: "etcd-2", State: "unreachable", Error: "connection refused"},
			},
			Silent: []string{"https://etcd-3.example.org:2379"},
		},
		Warnings: []drm.Warning{
			{
				Code: "DRM005", Severity: drm.SeverityError, Since: ago(time.Hour),
				What: "6 resources are handled by nobody, such as feed-3, feed-17 and feed-18",
				Mend: "`drmctl explain feed-3` says why",
			},
			{Code: "DRM012", Severity: drm.SeverityWarn, What: "removals are held", Mend: "`drmctl source accept`"},
		},
	}
}

func madeUpPlan() *drm.Plan {
	share := func(state string, shards, n int) drm.PlannedShare {
		return drm.PlannedShare{State: state, Weight: 1, Shards: shards, Resources: n, Load: float64(n) + 0.125}
	}
	p := &drm.Plan{
		Revision: 8123, Resources: 134, Load: 134.5, Before: 1.034, After: 1.2, Rounds: 3, Took: 12 * time.Second,
		Paced: true, Options: drm.PlanOptions{
			BalanceMoves: 16, BalanceAfter: time.Minute, MaxMoving: 64, MaxMovingPerMember: 16,
		},
		Unplaced: []drm.UnplacedShard{{Shard: 3, Member: "host-1", Resources: 7}, {Shard: 4, Resources: 1}},
		Notes:    []string{"host-3 is not ready, and counts as if it were, since too few members are ready"},
		Members: []drm.PlannedMember{
			{ID: "host-1", Before: share("active", 10, 100), After: share("active", 14, 140)},
			{ID: "host-2", Before: share("active", 11, 134), After: share("draining", 0, 0)},
			{
				ID: madeUpLongMember, Before: share("", 0, 0),
				After: share("active", 7, 94),
			},
		},
	}
	for i := range 11 {
		p.Moves = append(p.Moves, drm.PlannedMove{
			Shard: 3 + i, From: "host-2", To: "host-1", Resources: 12, Load: 12.25, Why: "host-2 is drained",
		})
	}
	p.Moves[0].To, p.Moves[0].Why = p.Members[2].ID, "host-2 is drained, and host-1, to which it belongs, is full"
	return p
}

func madeUpEvents() []drm.Event {
	event := func(revision int64, kind drm.EventKind, e drm.Event) drm.Event {
		e.Revision, e.Cursor, e.Kind = revision, revision, kind
		if e.Time.IsZero() {
			e.Time = madeUpAt
		}
		return e
	}
	return []drm.Event{
		event(0, drm.EventGap, drm.Event{After: 1000, Shard: -1, Weight: -1}),
		event(2000, drm.EventListed, drm.Event{Of: "member", State: "active", Member: "host-1", Shard: -1, Weight: 1}),
		event(2001, drm.EventClaimed, drm.Event{
			Resource: madeUpLongID, Member: "host-1", From: "host-2", Shard: 1023, Weight: -1, Estimated: true,
		}),
		event(2002, drm.EventActive, drm.Event{
			Resources: []string{"feed-1", "feed-2"}, Count: 2, Member: "host-1", Shard: 7, Weight: -1,
		}),
		event(2003, drm.EventFailed, drm.Event{
			Resource: "feed-3", Member: "host-1", Shard: 12, Weight: -1,
			Detail: "connect to feed.example.org: connection refused; try 17",
		}),
		event(2004, drm.EventDrained, drm.Event{
			Member: "host-2", Shard: -1, Weight: -1, By: "ann@ops", Until: madeUpAt.Add(time.Hour),
			Why: "a new kernel is installed on all machines of the rack, one by one",
		}),
		event(2005, drm.EventExceptionPlaced, drm.Event{Member: "host-3", Shard: 12, Weight: -1, By: "host-1"}),
	}
}

func madeUpChecks() []drm.Check {
	return []drm.Check{
		{
			Code: "DRM101", Category: "endpoints", Name: "syntax", Result: drm.CheckOK,
			Summary: "etcd-1.example.org:2379, etcd-2.example.org:2379", Took: 20 * time.Microsecond,
		},
		{
			Code: "DRM123", Category: "tls", Name: "expiry", Endpoint: "https://etcd-1.example.org:2379",
			Result: drm.CheckWarn, Summary: "its certificate expires in 6 days, at 2026-02-09T04:05:06Z",
			Action: "renew it", Took: 3 * time.Millisecond,
		},
		{
			Code: "DRM191", Category: "app", Name: "exists", Result: drm.CheckFail, Took: time.Millisecond,
			Summary: `there is no app "feds" at prefix "/drm"`, Action: "is --app right?",
		},
		{
			Code: "DRM196", Category: "ttl", Name: "lease-ttl", Result: drm.CheckSkip, Summary: "needs a live member",
		},
	}
}

func madeUpApps() []drm.AppInfo {
	return []drm.AppInfo{
		{Name: "feeds", State: drm.AppUsable, Shards: 1024, Members: 3, Created: 17},
		{Name: "feeds.of-the-customer-0000017.example.org", State: drm.AppResharding},
	}
}

func madeUpApp() drm.AppDetails {
	return drm.AppDetails{
		AppInfo: madeUpApps()[0], Prefix: "/drm", Revision: 8123, Coordinator: "host-1", Resources: 40_131,
		Claims: 40_125, Orders: 5, Quarantined: 1, Source: true, Keys: 80_321,
	}
}

func madeUpViolations() []drm.Violation {
	return []drm.Violation{
		{Kind: drm.ViolationUnassigned, Resource: "feed-3", Detail: "there is no live member"},
		{
			Kind: drm.ViolationMisplaced, Resource: madeUpLongID, Member: "host-2", Token: 4711,
			Detail: "it belongs to host-1",
		},
		{
			Kind:   drm.ViolationCorrupt,
			Detail: `"/drm/feeds/shards/0007/claims/feed-1": not understood: unexpected end of JSON input`,
		},
	}
}
