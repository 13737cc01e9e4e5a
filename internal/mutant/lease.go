package mutant

// ofLease are the faults in how a lease is kept and how claims are written. The simulation has a model of most of it.
var ofLease = []Mutant{
	{
		Name:      "fence-after-expiry",
		Breaks:    "a lease is fenced after etcd may have given its claims away",
		Simulated: true,
		Test:      "TestKeeperIsDeadBeforeTheServerExpires",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/keeper.go",
				Old:  `deadline := sent + ttl - k.opts.Margin`,
				New:  `deadline := sent + ttl + k.opts.Margin`,
			},
			{
				File: "lease/keeper.go",
				Old:  `int64(sent + ttl - margin)`,
				New:  `int64(sent + ttl + margin)`,
			},
			{
				File: "internal/sim/keeper.go",
				Old:  `return sent + ttl - margin`,
				New:  `return sent + ttl + margin`,
			},
		},
	},
	{
		Name:      "count-from-answer",
		Breaks:    "a lease's life is counted from the answer, not from before the request",
		Simulated: true,
		Test:      "TestKeeperCountsFromBeforeItSent",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/loop.go",
				Old: `sent := l.clock.Now()
				resp, err := l.etcd.KeepAliveOnce(ctx, l.id)`,
				New: `resp, err := l.etcd.KeepAliveOnce(ctx, l.id)
				sent := l.clock.Now()`,
			},
			{
				File: "internal/sim/keeper.go",
				Old:  `k.deadline = max(k.deadline, safeUntil(sent))`,
				New: `sent = m.clock()
				k.deadline = max(k.deadline, safeUntil(sent))`,
			},
		},
	},
	{
		Name:      "outlast-gone",
		Breaks:    "with KeepOnOutage, what is on a lease that etcd says to be gone is handled on",
		Simulated: true,
		Test:      "TestOutlastingKeeperEndsWhenItsLeaseIsGone",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/loop.go",
				Old:  `case errors.Is(a.err, rpctypes.ErrLeaseNotFound):`,
				New: `case errors.Is(a.err, rpctypes.ErrLeaseNotFound) && l.outlasts():
				case errors.Is(a.err, rpctypes.ErrLeaseNotFound):`,
			},
			{
				File: "internal/sim/keeper.go",
				Old:  `case !alive:`,
				New: `case !alive && k.outlast:
					k.unheard = 0
					m.after(ttl/5, k.renew)
				case !alive:`,
			},
		},
	},
	{
		Name:    "revive-fenced",
		Breaks:  "a fenced lease is renewed, and its deadline moved on",
		Test:    "TestKeeperIsFencedForGood",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/loop.go",
			Old:  `if l.fenced.Load() {`,
			New:  `if false {`,
		}},
	},
	{
		Name:    "renew-unasked",
		Breaks:  "a lease is renewed though its owner does not answer",
		Test:    "TestKeeperRenewsOnlyWhileItsOwnerAnswers",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/loop.go",
			Old:  `err := k.opts.Probe(ctx);`,
			New:  `err := error(nil);`,
		}},
	},
	{
		Name:      "update-without-lease",
		Breaks:    "an update of a claim detaches it from its lease",
		Simulated: true,
		Test:      "TestClaimUpdateAndRelease",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/txn.go",
				Old:  `op := &r.Op`,
				New: `changed := r.Op
				if changed.Expect != 0 {
					changed.Lease = 0
				}
				op := &changed`,
			},
			{
				File: "internal/sim/store.go",
				Old:  `c.mod, c.lease, c.state = s.rev, leaseID, state`,
				New:  `c.mod, c.lease, c.state = s.rev, 0, state`,
			},
		},
	},
	{
		Name:      "claim-over-another",
		Breaks:    "a claim is made without a look at whether there is one",
		Simulated: true,
		Test:      "TestConflictsAreIsolated",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/txn.go",
				Old:  `op := &r.Op`,
				New: `changed := r.Op
				if !changed.Delete && changed.Expect == 0 {
					changed.Any = true
				}
				op := &changed`,
			},
			{
				File: "internal/sim/store.go",
				Old:  `if c := s.claims[r]; c.token != 0 {`,
				New:  `if c := s.claims[r]; false {`,
			},
		},
	},
	{
		Name:      "release-any",
		Breaks:    "a claim is deleted without a look at whose it is",
		Simulated: true,
		Test:      "TestWriterDoesWhatOneAfterAnotherWouldDo",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/txn.go",
				Old:  `op := &r.Op`,
				New: `changed := r.Op
				if changed.Delete {
					changed.Any = true
				}
				op := &changed`,
			},
			{
				File: "internal/sim/store.go",
				Old: `func (s *store) release(r int, token int64) core.WriteResult {
				c := s.claims[r]
				if c.token != token {`,
				New: `func (s *store) release(r int, token int64) core.WriteResult {
				c := s.claims[r]
				if false {`,
			},
		},
	},
	{
		Name:    "claim-unguarded",
		Breaks:  "a claim is made without a look at whether the app is the one that it was",
		Test:    "TestNothingIsWrittenWithoutTheGuard",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/txn.go",
			Old:  `if guard.Key != "" {`,
			New:  `if false {`,
		}},
	},
	{
		Name:      "lost-is-refused",
		Breaks:    "a write whose answer was lost is taken for one that was not done",
		Simulated: true,
		Test:      "TestLostAnswersLeaveTheOutcomeUnknown",
		Package:   "./lease",
		Changes: []Change{
			{
				File: "lease/txn.go",
				Old:  `return fmt.Errorf("%w: %w", ErrUnknown, err)`,
				New:  `return fmt.Errorf("%w: %w", ErrRefused, err)`,
			},
			{
				File: "internal/sim/request.go",
				Old:  `res = core.WriteResult{Unknown: true}`,
				New:  `res = core.WriteResult{Failed: true}`,
			},
		},
	},
	{
		Name:    "retry-storm",
		Breaks:  "a keepalive that an overloaded etcd is about to answer is sent again over another stream",
		Test:    "TestAnEtcdThatIsBehindIsNotAskedTwice",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/renewer.go",
			Old:  `if l.silent || !l.heard.After(earlier.looked) {`,
			New:  `if l != nil {`,
		}},
	},
	{
		Name:    "wait-for-a-silent-stream",
		Breaks:  "leases whose keepalives hang on a stream are not renewed over another one",
		Test:    "TestAHangingStreamFencesNobody",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/renewer.go",
			Old:  `if l.silent || !l.heard.After(earlier.looked) {`,
			New:  `if l.silent && !l.heard.After(earlier.looked) {`,
		}},
	},
	{
		Name:    "forget-a-keepalive-of-many",
		Breaks:  "of many keepalives on one stream, those beyond what may be under way are not sent later either",
		Test:    "TestAStreamThatAnswersQuicklyCarriesThousands",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/line.go",
			Old:  `if l.sent <= inFlight/2 && len(l.waiting) > l.sent {`,
			New:  `if false {`,
		}},
	},
	{
		Name:    "wait-for-what-was-given-up",
		Breaks:  "a keepalive for which nobody waits any more keeps its lease from being renewed",
		Test:    "TestAKeepaliveThatWasGivenUpIsNotUnderWay",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/renewer.go",
			Old:  `case !earlier.isGone(now):`,
			New:  `default:`,
		}},
	},
	{
		Name:    "trust-an-answer-for-ever",
		Breaks:  "answers that came on a stream before it began to hang count again and again",
		Test:    "TestAStreamThatHangsAfterSomeAnswersFencesNobody",
		Package: "./lease",
		Changes: []Change{{
			File: "lease/renewer.go",
			Old:  `earlier.looked = now`,
			New:  ``,
		}},
	},
}
