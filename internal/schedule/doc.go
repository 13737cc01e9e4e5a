// Package schedule has what simulations under virtual time have in common. It is test support.
//
// A simulation is a package with a Plan, which says everything that is to happen in a run, and a function that plays
// it. Draw makes a Plan from a [Source] of choices; [Random] is one, and rapid another one, which then shrinks a Plan
// that fails. [Run] is the part of a run that all simulations need: the time, an [Agenda] of what is to happen, chance,
// and what was found. There is no goroutine, no clock and no map whose order matters in a run, so one Plan always gives
// the same run.
//
// [Simulation] explores many Plans on all processors. Its methods are the tests that every simulation has.
package schedule
