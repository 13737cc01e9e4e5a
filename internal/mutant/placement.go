package mutant

// ofPlacement are faults of what the coordinator places where, and of what members make of it.
var ofPlacement = []Mutant{
	{
		Name:   "place-from-scratch",
		Breaks: "the coordinator plans from the ring, and not from the placement in force",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `Owner: d.view.Owners(), Load`,
			New:  `Owner: d.foresight.Homes, Load`,
		}},
		Grouped: true,
	},
	{
		Name:   "no-hysteresis",
		Breaks: "members give only until they are at the bound, so that a little more load moves something again",
		Changes: []Change{{
			File: "shard/planner.go",
			Old:  `p.easy[m] = fair + (p.limit[m]-fair)/2`,
			New:  `p.easy[m] = p.limit[m]`,
		}},
		Test: "TestPlanner", Package: "./shard",
	},
	{
		Name:   "no-budget",
		Breaks: "more moves for balance in a minute than may",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `min(int64(p.allowance), left)`,
			New:  `left`,
		}},
		Grouped: true,
	},
	{
		Name:   "balance-again-soon",
		Breaks: "a shard is moved for balance twice within 10 minutes",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return !at.IsZero() && d.wall`,
			New:  `return false && d.wall`,
		}},
		Grouped: true,
	},
	{
		Name:   "forget-that-it-was-balanced",
		Breaks: "the next exception for a shard does not say that it was moved for balance",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if d.recent(n) && why != membership.WhyBound {`,
			New:  `if false {`,
		}},
		Test:    "TestAShardThatWasBalancedIsNotBalancedAgainThoughItWasPlacedForAnotherReason",
		Package: "./internal/placement",
	},
	{
		Name:   "balance-at-once",
		Breaks: "something moves for balance before the group has been quiet",
		Changes: []Change{{
			File: "internal/placement/planner.go",
			Old:  `return p.quiet + p.rules.Quiet`,
			New:  `return p.quiet`,
		}},
		Grouped: true,
	},
	{
		Name:   "balance-unsettled",
		Breaks: "something moves for balance while members come, go, or are expected back",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `len(d.drained()) > 0 || !p.settled(d.view)`,
			New:  `len(d.drained()) > 0`,
		}},
		Grouped: true,
	},
	{
		Name:   "balance-in-a-rollout",
		Breaks: "something moves for balance while a new version is being rolled out",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if d.rolls { // until`,
			New:  `if false { // until`,
		}},
		Grouped: true,
	},
	{
		Name:   "wait-for-news-of-a-deployment",
		Breaks: "a deployment that has stopped is looked at again only if something happens",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `d.plan.Next = p.quiet + stalled`,
			New:  `d.plan.Next = 0`,
		}},
		Test: "TestADeploymentThatHasStoppedIsEvenedOutThoughNothingHappens", Package: "./internal/placement",
	},
	{
		Name:   "join-unprepared",
		Breaks: "a member joins without waiting until its shards are placed",
		Changes: []Change{{
			File: "internal/placement/wait.go",
			Old:  `return me.State != membership.Joining || !v.HasGuide()`,
			New:  `return true || !v.HasGuide()`,
		}},
		Test: "TestARollingUpdateMovesEachShardAtMostTwice", Package: "./internal/groupsim",
	},
	{
		Name:   "stop-unannounced",
		Breaks: "a member stops without waiting until its shards are placed elsewhere",
		Changes: []Change{{
			File: "internal/placement/wait.go",
			Old:  `return !me.HasJoined() || !v.HasGuide()`,
			New:  `return true || !v.HasGuide()`,
		}},
		Test: "TestARollingUpdateMovesEachShardAtMostTwice", Package: "./internal/groupsim",
	},
	{
		Name:   "let-the-ring-take",
		Breaks: "when a member joins, the ring moves to it what is not its share",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if d.rolls || !d.returns(to) {`,
			New:  `if false {`,
		}},
		Test: "TestARollingUpdateMovesEachShardAtMostTwice", Package: "./internal/groupsim",
	},
	{
		Name:   "place-what-is-pinned",
		Breaks: "the coordinator gives away what is pinned",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return pinned && d.view.Owner(n) == pin.Member`,
			New:  `return pinned && pin.Member == ""`,
		}},
		Grouped: true,
	},
	{
		Name:   "give-to-the-cordoned",
		Breaks: "the coordinator gives shards to a cordoned member",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `c.Takes = takes && !cordoned &&`,
			New:  `c.Takes = takes && (!cordoned || true) &&`,
		}},
		Grouped: true,
	},
	{
		Name:   "give-to-the-full",
		Breaks: "the coordinator gives shards to a full member",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `!m.Leaves && !d.view.DeclinesAny(id)`,
			New:  `!m.Leaves`,
		}},
		Grouped: true,
	},
	{
		Name:   "keep-more",
		Breaks: "a drained member keeps what it did not keep before",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if d.view.Owner(n) != id || d.loads.shards[n] == 0 {`,
			New:  `if keeps[n] = true; d.loads.shards[n] == 0 {`,
		}},
		Grouped: true,
	},
	{
		Name:   "drain-without-limit",
		Breaks: "all that a drained member has is on its way at once",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if !keeps[s.Shard] || left <= 0 || !d.hasWay(s) {`,
			New:  `if !keeps[s.Shard] || !d.hasWay(s) {`,
		}},
		Grouped: true,
	},
	{
		Name:   "no-limit-for-a-member",
		Breaks: "more is on its way to one member than may be",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return way == 0 || way+`,
			New:  `return true || way+`,
		}},
		Test: "TestNoMoreMovesForBalanceToOneMemberThanMayBeOnItsWay", Package: "./internal/placement",
	},
	{
		Name:   "forget-what-others-sent",
		Breaks: "a coordinator does not know what its predecessor has sent",
		Changes: []Change{{
			File: "internal/placement/loads.go",
			Old:  `if !lists || placed || l.since[n] > max(said.seen, l.began) {`,
			New:  `if !lists && placed && l.since[n] > max(said.seen, l.began) {`,
		}},
		Test: "TestWhatIsOnItsWayIsKnownWhoeverSentIt", Package: "./internal/placement",
	},
	{
		Name:   "keep-only-under-a-coordinator",
		Breaks: "what a drained member keeps goes to others while the coordinator is replaced",
		Changes: []Change{{
			File: "membership/assign.go",
			Old:  `s.keepsOnly(drain.Keeps, v.isGuided())`,
			New:  `s.keepsOnly(drain.Keeps, v.HasGuide())`,
		}},
		Grouped: true,
		Test:    "TestADrainedMemberKeepsItsShardsWhileTheCoordinatorIsReplaced", Package: "./membership",
	},
	{
		Name:   "ignore-then",
		Breaks: "an exception whose member is not there names nobody else",
		Changes: []Change{{
			File: "membership/assign.go",
			Old:  `if e.Then != "" && accepted(e.Then) {`,
			New:  `if false {`,
		}},
		Test: "TestJoinsAndStopsMoveWhatTheyMust", Package: "./internal/placement",
	},
	{
		Name:   "await-nobody",
		Breaks: "what belongs to a member that stops with Rejoin goes to others at once",
		Changes: []Change{{
			File: "membership/assign.go",
			Old:  `return !live || m.State == Leaving || m.State == Joining`,
			New:  `return live && m.State == Joining`,
		}},
		Grouped: true,
	},
	{
		Name:   "count-only-the-present",
		Breaks: "drains are ignored, or unreadiness, while the only member that works is expected back",
		Changes: []Change{{
			File: "membership/view.go",
			Old:  `if (drained || !v.Ordered(id)) && v.awaited(id) {`,
			New:  `if false && v.awaited(id) {`,
		}},
		Grouped: true,
	},
	{
		Name:   "flap-for-ever",
		Breaks: "a member that dies again and again takes its share at each start",
		Changes: []Change{{
			File: "internal/ready/flap.go",
			Old:  `if short < ShortLives {`,
			New:  `if short < ShortLives || true {`,
		}},
		Test: "TestAMemberStaysAwayLongerWithEachShortLife", Package: "./internal/ready",
	},
	{
		Name:   "give-to-the-older-version",
		Breaks: "during a rollout, what must move goes to members that will be stopped soon",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return d.view.Members[id].Version == d.newer })`,
			New:  `return d.view.Members[id].Version != d.newer })`,
		}},
		Grouped: true,
	},
	{
		Name:   "give-office-to-the-older-version",
		Breaks: "during a rollout, the office goes to members that will be stopped soon",
		Changes: []Change{{
			File: "membership/rollout.go",
			Old:  `rollout && m.Version == newer && me.Version != newer`,
			New:  `rollout && m.Version == me.Version && me.Version == newer`,
		}},
		Test: "TestWhoShouldLeaveAFreeOfficeToAnother", Package: "./membership",
	},
	{
		Name:   "publish-without-office",
		Breaks: "a coordinator publishes after another one has taken its office",
		Changes: []Change{{
			File: "internal/placement/publisher.go",
			Old:  `clientv3.Compare(clientv3.CreateRevision(office), "=", p.number)}, more...)`,
			New:  `clientv3.Compare(clientv3.CreateRevision(office), "<", p.number<<32)}, more...)`,
		}},
		Grouped: true,
	},
	{
		Name:   "never-tidy",
		Breaks: "exceptions that nobody needs stay",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `d.plan.Drop = append(d.plan.Drop, n)`,
			New:  `_ = n`,
		}},
		Grouped: true,
	},
	{
		Name:   "believe-what-comes-first",
		Breaks: "a shard weighs nothing because its former owner does not name it any more",
		Changes: []Change{{
			File: "internal/placement/loads.go",
			Old:  `if last < 0 && !silent && said.seen <= v.Revision {`,
			New:  `if last < 0 && !silent {`,
		}},
		Test: "TestNewsThatOvertakeEachOtherDoNotMakeAShardWeightless", Package: "./internal/placement",
	},
	{
		Name:   "plan-on-without-an-answer",
		Breaks: "a coordinator that has heard no answer plans by an old view, and sends more than may be on its way",
		Changes: []Change{{
			File: "internal/placement/publisher.go",
			Old:  `p.unsure = true`,
			New:  `_ = p.unsure`,
		}},
		Test: "TestNothingIsPlannedBeforeAPlanWithoutAnAnswerShows", Package: "./internal/placement",
	},
	{
		Name:   "take-what-is-old-for-an-answer",
		Breaks: "what a member says before it knows of its new shards makes them weightless, and more follows at once",
		Changes: []Change{{
			File: "internal/placement/loads.go",
			Old:  `if seen == 0 {`,
			New:  `if seen <= revision {`,
		}},
		Test: "TestWhatAMemberSaysByAnOlderViewIsNoAnswer", Package: "./internal/placement",
	},
}
