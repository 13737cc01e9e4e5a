package mutant

// ofSupervise are the faults in the supervisor of a member.
var ofSupervise = []Mutant{
	{
		Name:      "revoke-while-living",
		Breaks:    "a dead member's leases are revoked while what it has started still lives (Linux)",
		Simulated: true,
		Test:      "TestNothingIsRevokedWhileAGrandchildLives",
		Package:   "./internal/supervise",
		Changes: []Change{
			{
				File: "internal/supervise/run_linux.go",
				Old:  `if s.children.none() && l.cgroup.empty() {`,
				New:  `if true {`,
			},
			{
				File: "internal/sim/supervisor.go",
				Old:  `if m.isSurvived() || len(leases) == 0 {`,
				New:  `if len(leases) == 0 {`,
			},
		},
	},
	{
		Name:    "revoke-of-strangers",
		Breaks:  "a process that the supervisor has not started may hand over leases (Linux)",
		Test:    "TestOnlyProcessesBelowHandOverLeases",
		Package: "./internal/supervise",
		Changes: []Change{{
			File: "internal/supervise/collector_linux.go",
			Old:  `case err != nil || !below(peer):`,
			New:  `case err != nil:`,
		}},
	},
}
