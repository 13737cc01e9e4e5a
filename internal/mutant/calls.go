package mutant

// ofCalls are the faults in how a member calls the user's code. The simulation has a model of it.
var ofCalls = []Mutant{
	{
		Name:      "spare-given-up",
		Breaks:    "the context and the claim of a call that is given up live on",
		Simulated: true,
		Test:      "TestNothingOfACallThatIsGivenUpGoesOn",
		Package:   "./internal/scenario",
		Changes: []Change{
			{
				File: "internal/calls/limits.go",
				Old:  `c.of.end(CauseGivenUp)`,
				New:  ``,
			},
			{
				File: "internal/sim/calls.go",
				Old: `h != nil {
				h.ctxEnded, h.over = true, true`,
				New: `false {
				h.ctxEnded, h.over = true, true`,
			},
		},
	},
	{
		Name:      "handle-unlooked",
		Breaks:    "Handle is called without a last look at the clock",
		Simulated: true,
		Test:      "TestNoHandleBeginsPastTheDeadline",
		Package:   "./internal/scenario",
		Changes: []Change{
			{
				File: "internal/calls/call.go",
				Old:  `return c.ctx.Err() != nil || c.of.Remaining() <= 0`,
				New:  `return c.ctx.Err() != nil`,
			},
			{
				File: "internal/sim/calls.go",
				Old:  `return !k.valid()`,
				New:  `return false`,
			},
		},
	},
	{
		Name:      "trust-old-instances",
		Breaks:    "what an earlier instance of a service was given is not handled again",
		Simulated: true,
		Test:      "TestWhatAnEarlierInstanceWasGivenLapses",
		Package:   "./internal/calls",
		Changes: []Change{
			{
				File: "internal/calls/lives.go",
				Old:  `case h.life == cs.lives.Number() || cs.lives.due:`,
				New:  `case true:`,
			},
			{
				File: "internal/sim/service.go",
				Old:  `if h.life == m.lives.number || m.lives.swept || h.lapsed {`,
				New:  `if true {`,
			},
		},
	},
	{
		Name:      "end-what-it-never-had",
		Breaks:    "Terminate is sent to an instance of a service that was never given the resource",
		Simulated: true,
		Test:      "TestNothingIsTerminatedThatAnEarlierInstanceHad",
		Package:   "./internal/calls",
		Changes: []Change{
			{
				File: "internal/calls/calls.go",
				Old:  `if cs.lapsed(h) {`,
				New:  `if false {`,
			},
			{
				File: "internal/sim/service.go",
				Old:  `return h.life != m.lives.number && !h.doubt`,
				New:  `return false`,
			},
		},
	},
	{
		Name:      "trust-no-answer",
		Breaks:    "a request that got no answer counts as one that no later instance of the service gets",
		Simulated: true,
		Test:      "TestWhatWasAskedForBeforeAnyInstanceWasKnownIsTerminated",
		Package:   "./internal/calls",
		Changes: []Change{
			{
				File: "internal/calls/lives.go",
				Old: `	default:
		c.of.doubt = true`,
				New: `	default:`,
			},
			{
				File: "internal/sim/service.go",
				Old: `	default:
		c.h.doubt = true`,
				New: `	default:`,
			},
		},
	},
	{
		Name:    "let-go-of-lapsed",
		Breaks:  "the claim of what has lapsed goes though something of it may be left",
		Test:    "TestWhatHasLapsedIsTerminatedIfItsClaimEndsBeforeItIsHandledAgain",
		Package: "./internal/core",
		Changes: []Change{{
			File: "internal/core/resource.go",
			Old:  `h.started, h.lapsed = true, true`,
			New:  ``,
		}},
	},
	{
		Name:      "log-in-line",
		Breaks:    "whoever logs waits for the log's sink",
		Simulated: true,
		Test:      "TestABlockedLogDelaysNoDeadline",
		Package:   "./internal/scenario",
		Changes: []Change{
			{
				File: "manager.go",
				Old:  `log, logs := logqueue.Wrap(cfg.Logger.With(cfg.LoggerFields...))`,
				New: `log := cfg.Logger.With(cfg.LoggerFields...)
				_, logs := logqueue.Wrap(log)`,
			},
			{
				File: "internal/sim/keeper.go",
				Old: `k.fenced = true
				m.after(`,
				New: `k.fenced = true
				var logged func()
				logged = func() {
					if m.blocked > 0 {
						m.after(time.Millisecond, logged)
						return
					}
					m.after(`,
			},
			{
				File: "internal/sim/keeper.go",
				Old: `m.atClock(k.deadline, k.dead)
				}`,
				New: `m.atClock(k.deadline, k.dead)
					}
				}
				logged()`,
			},
		},
	},
}
