package mutant

// ofReady are faults of what decides whether a member can work, and of what follows from that.
var ofReady = []Mutant{
	{
		Name:   "unready-owns",
		Breaks: "a member that says that it cannot work owns shards all the same",
		Changes: []Change{{
			File: "membership/assign.go",
			Old:  `m.State != Active && !(m.State == Unready && unreadyIgnored)`,
			New:  `m.State != Active && !(m.State == Unready && (unreadyIgnored || true))`,
		}},
		Test: "TestUnreadyMembersOwnNothingWhileEnoughAreReady", Package: "./membership",
	},
	{
		Name:      "unready-always-heeded",
		Breaks:    "members that cannot work own nothing, even where nobody else is left",
		Simulated: true,
		Changes: []Change{
			{
				File: "membership/view.go",
				Old:  `return ready < of && float64(ready)/float64(of) < v.minReady()`,
				New:  `return ready > of`,
			},
			{
				File: "internal/sim/faults.go",
				Old:  `if 2*len(ready) >= len(live) {`,
				New:  `if true {`,
			},
		},
		Test: "TestUnreadyMembersOwnNothingWhileEnoughAreReady", Package: "./membership",
	},
	{
		Name:   "come-back-ready",
		Breaks: "a member that registers anew says that it can work, whatever its probe says",
		Changes: []Change{{
			File: "internal/member/registration.go",
			Old:  `if err := p.register(ctx, p.standing()); err != nil {`,
			New: `standing := p.standing()
			standing.State = membership.Active
			if err := p.register(ctx, standing); err != nil {`,
		}},
		Test: "TestAMemberThatRegistersAnewIsStillUnready", Package: "./internal/scenario",
	},
	{
		Name:   "ask-ready-twice",
		Breaks: "Ready is called again while an earlier call hangs",
		Changes: []Change{{
			File: "internal/member/readiness.go",
			Old: `if r.hangs != nil {
		select {`,
			New: `if false {
		select {`,
		}},
		Test: "TestAReadyThatHangsCountsAsFailedAndKeepsNobody", Package: "./internal/scenario",
	},
	{
		Name:   "blame-one-for-all",
		Breaks: "a member on which nearly all fails hands over, though it fails on the others too",
		Changes: []Change{{
			File: "internal/ready/doubt.go",
			Old:  `if others.Of() < Least || others.share() >= d.limit/2 {`,
			New:  `if others.Of() < Least {`,
		}},
		Test: "TestAMemberStaysAwayOnlyIfItAloneFails", Package: "./internal/ready",
	},
}
