package mutant

// ofJournal are the faults in the journal, which judges real processes.
var ofJournal = []Mutant{
	{
		Name:    "overlook-overlap",
		Breaks:  "the checker of journals does not see that two handle a resource at once",
		Test:    "TestCheckFindsAnOverlapAnywhere",
		Package: "./internal/journal",
		Changes: []Change{{
			File: "internal/journal/check.go",
			Old:  `if !c.tracker.gone[e.Member] {`,
			New:  `if false {`,
		}},
	},
}
