// Package mutant lists deliberate faults. Each takes away one rule of DRM in the place that enforces it, and names what
// must notice that: a simulation (package sim or groupsim), a test, or both. A fault that nothing notices stands for a
// rule that is not tested.
//
// A fault is a table entry that replaces a few lines by others, so the code itself contains no trace of it. The entries
// quote the code as it is. When you change a quoted line, TestEveryMutantFits fails until you change the entry too.
//
// `make mutants` builds DRM once for each fault, with the overlay that [Mutant.Overlay] writes, and prints what noticed
// the fault. MUTANTS names the faults to try. OVERLAYS names a directory in which the overlays stay afterwards, for a
// closer look:
//
//	make mutants MUTANTS="two-calls keep-moved" OVERLAYS=/tmp/overlays
//	go test -overlay /tmp/overlays/two-calls/overlay.json -run '^TestNoScheduleBreaksThePromise$' ./internal/sim
package mutant

import "slices"

// Mutant is one deliberate fault and what must notice it.
type Mutant struct {
	// Name is unique, in lower case and with hyphens.
	Name string
	// Breaks says in one line what goes wrong under the fault.
	Breaks string
	// Changes are what makes the fault. There are several where a rule is enforced in several places, or where the
	// simulation has a model of code that the test runs itself.
	Changes []Change
	// Simulated says that the simulation must notice the fault.
	Simulated bool
	// Grouped says that the simulation of the group must notice the fault (package groupsim).
	Grouped bool
	// Test is the name of a test that must fail. It is empty where only a simulation notices the fault.
	Test string
	// Package is the folder of Test, relative to the root of the module, as the go command expects it. It is empty if
	// Test is.
	Package string
}

// Change replaces text that occurs once in a file.
type Change struct {
	// File is relative to the root of the module, with slashes.
	File string
	// Old is the text as it is: whole lines or part of one. The indentation of its lines does not count.
	Old string
	// New is the text of the fault.
	New string
}

// All lists every Mutant, in the order in which they are tried.
func All() []Mutant {
	return slices.Concat(ofCore, ofLease, ofRounds, ofCalls, ofFollow, ofModel, ofCatalogue, ofHandler, ofJournal,
		ofReady, ofSupervise, ofLimits, ofSuspects, ofCalm, ofWeights, ofPlacement, ofViews)
}
