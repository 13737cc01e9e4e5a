package mutant

// ofViews are faults in what a member makes of a view.
var ofViews = []Mutant{
	{
		Name:      "overlook-moves",
		Breaks:    "a member is not told which resources were moved without their shards",
		Simulated: true,
		Changes: []Change{{
			File: "internal/outlook/outlook.go",
			Old:  `o.Moved, o.Share = v.MovedOf(self.ID), share(v, self.ID)`,
			New:  `o.Share = share(v, self.ID)`,
		}},
	},
	{
		Name:   "heed-a-former-registration",
		Breaks: "a member takes the view of another registration of its id for its own",
		Changes: []Change{{
			File: "internal/outlook/outlook.go",
			Old:  `case me.CreateRevision != self.Registered:`,
			New:  `case false:`,
		}},
		Test: "TestWhatAViewMeansForAMember", Package: "./internal/outlook",
	},
	{
		Name:      "pause-for-ever",
		Breaks:    "a member claims nothing any more once others have had the time to join",
		Simulated: true,
		Changes: []Change{{
			File: "internal/outlook/outlook.go",
			Old:  `return false, 0`,
			New:  `return true, 0`,
		}},
		Test: "TestWhatAViewMeansForAMember", Package: "./internal/outlook",
	},
	{
		Name:      "reserve-what-was-declined",
		Breaks:    "a full member that stops with Rejoin takes back what it has just declined",
		Simulated: true,
		Changes: []Change{{
			File: "internal/outlook/outlook.go",
			Old:  `keeps[n] = keeps[n] && !declined && v.Takes(id, n)`,
			New:  `keeps[n] = keeps[n] && (!declined || true)`,
		}},
		Test: "TestAMemberThatStopsKeepsNothingThatItDeclines", Package: "./internal/outlook",
	},
	{
		Name:   "reserve-what-a-cordon-takes",
		Breaks: "a cordoned member that stops with Rejoin takes back what another one has just taken over",
		Changes: []Change{{
			File: "internal/outlook/outlook.go",
			Old:  `keeps[n] = keeps[n] && !declined && v.Takes(id, n)`,
			New:  `keeps[n] = keeps[n] && !declined && !v.Declines(id, n)`,
		}},
		Test: "TestACordonedMemberThatStopsKeepsWhatTheCordonLeavesToIt", Package: "./internal/outlook",
	},
}
