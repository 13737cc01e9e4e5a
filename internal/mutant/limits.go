package mutant

// ofLimits are the faults in what bounds a member: its rates, and how much it has at once.
var ofLimits = []Mutant{
	{
		Name:      "exceed-ceiling",
		Breaks:    "a member claims more than it may have",
		Simulated: true,
		Test:      "TestNoMoreIsClaimedThanTheCeilingAllows",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/ceiling.go",
			Old:  `return g.used < g.most`,
			New:  `return true`,
		}},
	},
	{
		Name:      "no-room-for-lost-claims",
		Breaks:    "a claim whose answer was lost takes no room",
		Simulated: true,
		Test:      "TestAClaimWhoseAnswerWasLostTakesRoom",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/ceiling.go",
			Old:  `r.phase == claiming || r.claim.uncertain ||`,
			New:  `r.phase == claiming ||`,
		}},
	},
	{
		Name:      "no-room-on-ended-leases",
		Breaks:    "a claim takes no room any more once its lease is fenced, though etcd still has it",
		Simulated: true,
		Test:      "TestAClaimOnAnEndedLeaseTakesRoomUntilItsKeyIsGone",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/ceiling.go",
			Old:  `r.claim.uncertain || r.seen.token != 0 && g.leases[r.seen.lease]`,
			New:  `r.claim.uncertain`,
		}},
	},
	{
		Name:      "keep-what-does-not-fit",
		Breaks:    "a full member does not say which shards it has no room for",
		Simulated: true,
		Test:      "TestShardsThatDoNotFitAreDeclinedWhole",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/ceiling.go",
			Old: `g.lacks = lacks
				c.emit(Action{Kind: Decline})`,
			New: `g.lacks = lacks
				clear(g.declined)`,
		}},
	},
	{
		Name:      "exceed-rate",
		Breaks:    "Handle is called more often than its rate allows",
		Simulated: true,
		Test:      "TestHandleIsCalledNoMoreOftenThanItsRateAllows",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/gate.go",
			Old:  `case wait(g.limiter, c.now) > 0:`,
			New:  `case false:`,
		}},
	},
	{
		Name:      "exceed-key-rate",
		Breaks:    "Handle is called more often for a key than its rate allows",
		Simulated: true,
		Test:      "TestAKeyThatWaitsKeepsNothingElseWaiting",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/gate.go",
			Old:  `if w := wait(l.limiter, now); w > 0 {`,
			New:  `if w := wait(l.limiter, now); w < 0 {`,
		}, {
			File: "internal/core/gate.go",
			Old:  `case r == nil || l.barred || l.full || wait(l.limiter, c.now) > 0:`,
			New:  `case r == nil || l.barred:`,
		}},
	},
	{
		Name:    "grow-at-once",
		Breaks:  "a member's share of each key's rate grows, and begins, before the others have heard of the change",
		Test:    "TestNoKeyIsSpentFasterThanItsRateByTheWholeGroup",
		Package: "./internal/core",
		Changes: []Change{{
			File: "internal/core/share.go",
			Old:  `case to.Alone && s.part == 0:`,
			New:  `case true:`,
		}},
	},
	{
		Name:    "begin-with-a-burst",
		Breaks:  "a member that joins begins with tokens that nobody has saved",
		Test:    "TestNoKeyIsSpentFasterThanItsRateByTheWholeGroup",
		Package: "./internal/core",
		Changes: []Change{{
			File: "internal/core/budget.go",
			Old:  `l.AllowN(moment(min(b.share.since, now)), l.Burst())`,
			New:  ``,
		}},
	},
	{
		Name:    "decline-for-ever",
		Breaks:  "a decline counts after the registration that said it",
		Test:    "TestOnlyTheDeclineOfALiveMemberCounts",
		Package: "./membership",
		Changes: []Change{{
			File: "membership/declines.go",
			Old:  `!live || m.Lease != d.lease || d.lease == 0`,
			New:  `!live || m.Lease < 0`,
		}},
	},
}
