package mutant

// ofRounds are the faults in how leases of many members, and parts of many small apps, are looked after together.
var ofRounds = []Mutant{
	{
		Name:    "renew-what-is-fenced",
		Breaks:  "a fenced lease is renewed in rounds",
		Test:    "TestRoundsDoNotRenewWhatIsFenced",
		Package: "./lease",
		Changes: []Change{
			{
				File: "lease/rounds.go",
				Old:  `case l.fenced.Load() || l.alone.Load():`,
				New:  `case l.alone.Load():`,
			},
			{
				File: "lease/rounds.go",
				Old:  `if t.of.fenced.Load() {`,
				New:  `if false {`,
			},
		},
	},
	{
		Name:    "renew-for-whoever-hangs",
		Breaks:  "a lease is renewed in rounds though it is not certain that its owner works",
		Test:    "TestALeaseOfRoundsIsFencedInTime",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/rounds.go",
			Old:  `case unready != nil || !l.pulse.rests():`,
			New:  `case unready != nil:`,
		}},
	},
	{
		Name:    "count-a-round-from-its-answer",
		Breaks:  "the life of a lease that is renewed in rounds is counted from the answer",
		Test:    "TestALeaseOfRoundsIsDeadBeforeTheServerExpires",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/rounds.go",
			Old:  `t.of.extend(t.at, `,
			New:  `t.of.extend(t.rounds.Clock.Now(), `,
		}},
	},
	{
		Name:    "leave-what-a-round-could-not",
		Breaks:  "a lease whose keepalive was not answered in its round is neither renewed by its Keeper nor fenced",
		Test:    "TestALeaseOfRoundsIsFencedInTime",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/rounds.go",
			Old:  `t.of.keeper.fallBehind(errUnanswered)`,
			New:  ``,
		}},
	},
	{
		Name:    "rely-on-rounds",
		Breaks:  "leases are neither renewed nor fenced while the goroutine that sends for all of them hangs",
		Test:    "TestAKeeperRenewsWhatARoundCouldNot",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/rounds.go",
			Old:  `l.keeper.fallBehind(errNoRound)`,
			New:  `_ = l`,
		}},
	},
	{
		Name:    "take-any-answer-to-a-round",
		Breaks:  "an answer of an etcd that was rewound or replaced renews a lease",
		Test:    "TestALeaseOfRoundsThatIsGoneIsDeadAtOnce",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/rounds.go",
			Old:  `case t.rounds.Check != nil:`,
			New:  `case false:`,
		}},
	},
	{
		Name:    "sleep-in-rounds",
		Breaks:  "a lease that is renewed in rounds outlives its deadline after the machine has slept",
		Test:    "TestALeaseOfRoundsIsDeadWhenTheMachineHasSlept",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/loop.go",
			Old:  `if l.told || l.leads() || l.opts.Leaps == nil {`,
			New:  `if l.told || l.leads() {`,
		}},
	},
	{
		Name:    "prove-what-is-parked",
		Breaks:  "what a watch has lost is not found for a part for which no goroutine waits",
		Test:    "TestWhatAWatchHasLostIsFound",
		Package: "./internal/follow",
		Changes: []Change{{
			File: "internal/follow/parts.go",
			Old:  `case known && at.quiet && w.proves(p.reader.prefix, at):`,
			New:  `case known:`,
		}},
	},
}
