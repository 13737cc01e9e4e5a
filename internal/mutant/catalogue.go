package mutant

// ofCatalogue are the faults in how the catalogue is written.
var ofCatalogue = []Mutant{
	{
		Name:    "write-deposed",
		Breaks:  "what a coordinator writes does not depend on its office",
		Test:    "TestADeposedCoordinatorWritesNothing",
		Package: "./internal/catalogue",
		Changes: []Change{{
			File: "internal/catalogue/write.go",
			Old:  `return append(y.store.guards(), txn.Guard{Key: y.guardKey, Created: y.guardRev})`,
			New:  `return y.store.guards()`,
		}},
	},
	{
		Name:    "write-unguarded",
		Breaks:  "the catalogue is written without a look at whether the app is the one that it was",
		Test:    "TestAnAppThatWasDeletedTakesNoResources",
		Package: "./internal/catalogue",
		Changes: []Change{{
			File: "internal/catalogue/allocate.go",
			Old:  `return txn.Guards{{Key: s.Layout.Config(), Created: s.Config}}`,
			New:  `return nil`,
		}},
	},
	{
		Name:    "confirm-early",
		Breaks:  "a removal that was doubted is confirmed by whichever answer comes next",
		Test:    "TestARemovalInBulkIsConfirmedByTimeAndAnAnswer",
		Package: "./internal/catalogue",
		Changes: []Change{{
			File: "internal/catalogue/removals.go",
			Old:  `asked-seen >= h.rules.Delay`,
			New:  `asked-seen >= 1`,
		}},
	},
	{
		Name:    "accept-another",
		Breaks:  "an order to make the removals that are held makes others too, which joined them since",
		Test:    "TestOnlyTheSetThatWasLookedAtIsAccepted",
		Package: "./internal/catalogue",
		Changes: []Change{{
			File: "internal/catalogue/removals.go",
			Old:  `case len(h.first) > 0 && digestOf(maps.Keys(h.first)) == digest:`,
			New:  `case true:`,
		}},
	},
	{
		Name:    "one-over-the-quota",
		Breaks:  "an app that has as many resources as its quota may get one more",
		Test:    "TestAllocationsOverTheQuotaAreRefused",
		Package: "./internal/scenario",
		Changes: []Change{{
			File: "internal/catalogue/quota.go",
			Old:  `case n >= most:`,
			New:  `case n > most:`,
		}},
	},
	{
		Name:    "wake-suspended",
		Breaks:  "what an operator has suspended is handled again when its source drops it and an allocation wants it",
		Test:    "TestWhatIsSuspendedStaysSoWhateverTheSourceAnswers",
		Package: "./internal/catalogue",
		Changes: []Change{{
			File: "internal/catalogue/removals.go",
			Old:  `w.entry.Suspended, w.entry.Suspension = k.suspension != nil, k.suspension`,
			New:  `w.entry.Suspended = false`,
		}},
	},
}
