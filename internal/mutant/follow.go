package mutant

// ofFollow are the faults in how etcd is followed, and in what those who share a connection to it share. The simulation
// has a model of some of it.
var ofFollow = []Mutant{
	{
		Name:      "skip-relist",
		Breaks:    "after a compaction a watch goes on with what is new, without a list",
		Simulated: true,
		Test:      "TestACompactionWhileCutOffIsFollowedByAFreshList",
		Package:   "./internal/follow",
		Changes: []Change{
			{
				File: "internal/follow/follow.go",
				Old: `case errors.Is(err, rpctypes.ErrCompacted):
				at.next = 0`,
				New: `case errors.Is(err, rpctypes.ErrCompacted):
				at.next = h.Highest() + 1`,
			},
			{
				File: "internal/sim/watch.go",
				Old: `m.w.count(Compacted)
				f.list()`,
				New: `f.pos = l.compacted
				f.poke()`,
			},
		},
	},
	{
		Name:      "no-resync",
		Breaks:    "what is followed is not listed again now and then, so what a watch missed stays missed",
		Simulated: true,
		Test:      "TestAReaderGetsAFreshListNowAndThen",
		Package:   "./internal/follow",
		Changes: []Change{
			{
				File: "internal/follow/follow.go",
				Old:  `return pace.Less(h.opts.Resync, 0.2)`,
				New:  `return pace.Less(365*24*time.Hour, 0.2)`,
			},
			{
				File: "internal/sim/watch.go",
				Old:  `m.after(f.resyncAt-m.w.Now, func() {`,
				New:  `m.after(365*24*time.Hour, func() {`,
			},
		},
	},
	{
		Name:    "overlook-rewound",
		Breaks:  "an answer of a lower revision than was seen, or of another cluster, is believed",
		Test:    "TestCheckNoticesAStoreThatWasRewoundOrReplaced",
		Package: "./internal/follow",
		Changes: []Change{
			{
				File: "internal/follow/trunk.go",
				Old:  `case t.cluster != header.GetClusterId():`,
				New:  `case false:`,
			},
			{
				File: "internal/follow/trunk.go",
				Old:  `case rev < before:`,
				New:  `case false:`,
			},
		},
	},
	{
		Name:    "trust-silence",
		Breaks:  "a stream of which nothing is heard is not made anew",
		Test:    "TestAStreamThatHangsWithoutAnErrorIsMadeAnew",
		Package: "./internal/follow",
		Changes: []Change{{
			File: "internal/follow/lane.go",
			Old:  `case period-l.heard.Load() > 3:`,
			New:  `case false:`,
		}},
	},
	{
		Name:    "count-only",
		Breaks:  "a range that has as many keys as before counts as unchanged, though one of them is another",
		Test:    "TestTheLatestKeyAndTheNumberOfKeysTellWhetherAnythingHasChanged",
		Package: "./internal/follow",
		Changes: []Change{{
			File: "internal/follow/proof.go",
			Old:  `return resp.Count == keys && modified <= since && (last == 0 || modified == last)`,
			New:  `return resp.Count == keys && modified >= 0`,
		}},
	},
	{
		Name:    "prove-too-much",
		Breaks:  "a range that did not change since it was asked about proves also what was read before that",
		Test:    "TestWhatAWatchHasLostIsFound",
		Package: "./internal/follow",
		Changes: []Change{{
			File: "internal/follow/proof.go",
			Old:  `if w.from <= at.sure && at.sure <= w.to {`,
			New:  `if at.sure <= w.to {`,
		}},
	},
	{
		Name:    "lose-foreign-parts",
		Breaks:  "when the parts of a range get watches of their own, these begin with what comes next",
		Test:    "TestPartsShareAWatchWhileTheirRangeIsSmall",
		Package: "./internal/follow",
		Changes: []Change{{
			File: "internal/follow/part.go",
			Old:  `part.passed = part.reachedLocked()`,
			New:  `part.passed = 1 << 40`,
		}},
	},
	{
		Name:    "log-in-for-each-member",
		Breaks:  "each member of a connection has a login of its own, and etcd compares a password for each",
		Test:    "TestMembersOfAConnectionShareALogin",
		Package: "./internal/scenario",
		Changes: []Change{{
			File: "config.go",
			Old:  `return etcd.Config{Client: c.Connection.client, DialTimeout: c.DialTimeout}`,
			New:  `return c.Connection.cfg.inner()`,
		}},
	},
}
