package mutant

// ofCalm are faults of what keeps resources where they are while members come and go.
var ofCalm = []Mutant{
	{
		Name:   "give-to-the-absent",
		Breaks: "what others give up goes to a member that is away",
		Changes: []Change{{
			File: "membership/orders.go",
			Old:  `return &stance{cordoned: true, keeps: r.Keeps}`,
			New:  `return &stance{}`,
		}},
		Test: "TestNothingElseGoesToAMemberThatIsAway", Package: "./membership",
	},
	{
		Name:   "take-reserved-slots",
		Breaks: "a newcomer takes the slots of a member that is expected back",
		Changes: []Change{{
			File: "membership/register.go",
			Old:  `return p.live[id] || reserved`,
			New:  `return p.live[id] || reserved && false`,
		}},
		Test: "TestAMemberThatStopsKeepsItsPlaceUntilItIsBack", Package: "./membership",
	},
	{
		Name:   "remember-orderly-stops",
		Breaks: "a life that ended with a stop in order counts as a short one",
		Changes: []Change{{
			File: "internal/member/flapping.go",
			Old:  `_, _ = f.lessor.Revoke(ctx, f.lease)`,
			New:  `_, _ = f.lessor.Revoke, ctx`,
		}},
		Test: "TestAMemberThatFlapsGetsItsShareBackLater", Package: "./internal/scenario",
	},
	{
		Name:   "reserve-by-an-old-view",
		Breaks: "a member that stops with Rejoin takes back what it had declined before its view shows that",
		Changes: []Change{{
			File: "membership/register.go",
			Old:  `clientv3.Compare(clientv3.ModRevision(g.layout().Decline(g.ID)), "<", seen+1)`,
			New:  `clientv3.Compare(clientv3.ModRevision(g.layout().Decline(g.ID)), ">", min(seen, -1))`,
		}},
		Test: "TestNothingIsReservedByAViewThatIsOlderThanWhatTheMemberDeclines", Package: "./membership",
	},
}
