package mutant

// ofSuspects are the faults in how resources are found and contained whose handling kills members.
var ofSuspects = []Mutant{
	{
		Name:      "handle-untraced",
		Breaks:    "Handle is called before etcd has the trail that lists the resource",
		Simulated: true,
		Test:      "TestHandleWaitsForTheTrailThatListsIt",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/turn.go",
			Old:  `return listedQueue`,
			New:  `return begin`,
		}},
	},
	{
		Name:      "forget-young",
		Breaks:    "a trail is deleted while what it lists may still kill",
		Simulated: true,
		Test:      "TestATrailIsDeletedWhenWhatItListsIsNotYoungAnyMore",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/trail.go",
			Old:  `return max(1, c.cfg.Young/ticks)`,
			New:  `return max(1, c.cfg.Young/ticks/20)`,
		}},
	},
	{
		Name:      "suspects-together",
		Breaks:    "what is suspected of two deaths is not handled alone",
		Simulated: true,
		Test:      "TestASuspectOfTwoDeathsIsHandledAlone",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/turn.go",
			Old:  `case c.isAlone(r, n):`,
			New:  `case false:`,
		}},
	},
	{
		Name:      "handle-guilty",
		Breaks:    "what is accused of too many deaths is handled",
		Simulated: true,
		Test:      "TestTheThirdDeathQuarantines",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/quarantine.go",
			Old:  `c.suspicion(r) < c.cfg.QuarantineAfter {`,
			New:  `c.suspicion(r) < 100 {`,
		}},
	},
	{
		Name:      "crowd-guilty",
		Breaks:    "what began in a crowd is quarantined without having been alone in any death",
		Simulated: false,
		Test:      "TestNothingIsQuarantinedThatWasNotAloneInADeath",
		Package:   "./internal/core",
		Changes: []Change{{
			File: "internal/core/quarantine.go",
			Old:  `return c.cfg.QuarantineAfter <= aloneFrom || `,
			New:  `return true || `,
		}},
	},
}
