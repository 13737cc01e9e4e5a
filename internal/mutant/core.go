package mutant

// ofCore are the faults in the decisions of a member.
var ofCore = []Mutant{
	{
		Name:      "release-before-terminate",
		Breaks:    "a claim is released first, and its handler told after",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `case c.holdsUntilTerminated(r) && r.handling.stuck:`,
			New: `case cause != NoCause && !c.isVoid(r):
				return decision{step: doRelease, cause: cause}
			case c.holdsUntilTerminated(r) && r.handling.stuck:`,
		}},
	},
	{
		Name:      "forget-lost-claim",
		Breaks:    "a claim whose answer was lost is taken for one that was not made",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `case res.Unknown:`,
			New:  `case false:`,
		}},
	},
	{
		Name:      "unfollow-uncertain",
		Breaks:    "a shard is not followed until it is certain that a lost claim is not there",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/resource.go",
			Old: `r.claim.offered != 0 ||
				r.claim.uncertain {`,
			New: `r.claim.offered != 0 {`,
		}},
	},
	{
		Name:      "use-doomed-claim",
		Breaks:    "a claim whose release got no answer is used again",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `r.claim.doomed = r.claimed() && (r.claim.doomed || res.Unknown)`,
			New:  `r.claim.doomed = false`,
		}},
	},
	{
		Name:      "forget-lost-state",
		Breaks:    "a state whose write got no answer is not written again",
		Simulated: true,
		Changes: []Change{
			{
				File: "internal/core/results.go",
				Old:  `case res.Unknown || res.Failed:`,
				New: `case res.Unknown:
				case res.Failed:`,
			},
			{
				File: "internal/core/summary.go",
				Old: `default:
				b.after = now +`,
				New: `case res.Unknown:
					b.through = through
				default:
					b.after = now +`,
			},
		},
	},
	{
		Name:      "summarize-pending",
		Breaks:    "a summary is written while a claim that it would stand for is not handled yet",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/summary.go",
			Old:  `b.pending == 0 &&`,
			New:  ``,
		}},
	},
	{
		Name:      "summarize-unclear",
		Breaks:    "a summary is written while a claim that it would stand for may be there unknown",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/summary.go",
			Old:  `&& r.sh.unseen == 0`,
			New:  ``,
		}},
	},
	{
		Name:      "overlook-summary-gone",
		Breaks:    "that a summary was deleted is not noticed",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/summary.go",
			Old:  `c.seeSummary(now, number, lease, 0, revision)`,
			New:  ``,
		}},
	},
	{
		Name:      "leave-summaries",
		Breaks:    "a summary is not deleted when its shard has gone to another member",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/summary.go",
			Old:  `case c.stopping || l == nil || l.fenced:`,
			New:  `case l == nil || true:`,
		}},
	},
	{
		Name:      "believe-old-news",
		Breaks:    "news of a claim is taken over without a look at its revision",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/resource.go",
			Old:  `if rev >= r.seen.rev {`,
			New:  `if true {`,
		}},
	},
	{
		Name:      "overlook-vanished",
		Breaks:    "that a claim of this member was deleted is not noticed",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/core.go",
			Old: `r != nil {
				r.seeClaim(0, 0, revision)`,
			New: `r != nil && !r.claimed() {
				r.seeClaim(0, 0, revision)`,
		}},
	},
	{
		Name:      "handle-fenced",
		Breaks:    "what is on a fenced lease is handled on",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `return r.gone() || l == nil || l.fenced`,
			New:  `return r.gone() || l == nil`,
		}},
	},
	{
		Name:      "revoke-too-early",
		Breaks:    "a fenced lease is revoked before everything on it has ended",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/lease.go",
			Old:  `if l.fenced && l.keys == 0 &&`,
			New:  `if l.fenced &&`,
		}},
	},
	{
		Name:      "reuse-token",
		Breaks:    "a resource is handled under the token of its first claim",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `a.Kind = Handle`,
			New: `a.Kind = Handle
			if r.handling.token != 0 {
				a.Token = r.handling.token
			}`,
		}},
	},
	{
		Name:      "forget-panicked-handle",
		Breaks:    "no Terminate after a Handle that panicked",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `r.handling.started = out != Error`,
			New:  `r.handling.started = out != Error && out != Panicked`,
		}},
	},
	{
		Name:      "forget-cancelled-handle",
		Breaks:    "no Terminate after a Handle that was cancelled",
		Simulated: true,
		Changes: []Change{
			{
				File: "internal/core/results.go",
				Old:  `case r.handling.cancelled || out == Cut:`,
				New:  `case false:`,
			},
			{
				File: "internal/core/results.go",
				Old:  `r.handling.started = out != Error`,
				New:  `r.handling.started = out != Error && out != Cut`,
			},
		},
	},
	{
		Name:      "forget-cut-terminate",
		Breaks:    "no other Terminate after one that the end of its lease cut short",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `if out == Cut {`,
			New:  `if false {`,
		}},
	},
	{
		Name:      "forget-stuck-handle",
		Breaks:    "no Terminate after a call that was given up",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `r.handling.started = call != callingTerminate || c.cfg.HoldUntilTerminated`,
			New:  `r.handling.started = false`,
		}},
	},
	{
		Name:      "let-go-of-failed",
		Breaks:    "under HoldUntilTerminated, a claim is released though Terminate failed",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `return c.cfg.HoldUntilTerminated && r.handling.started && r.claimed() && !r.gone()`,
			New:  `return false`,
		}},
	},
	{
		Name:      "stop-spares-new-claims",
		Breaks:    "what was being claimed at Stop is handled all the same",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `case c.stopping:`,
			New: `case c.stopping && !r.handling.started:
				return NoCause
			case c.stopping:`,
		}},
	},
	{
		Name:      "drop-deallocation",
		Breaks:    "a resource that leaves the catalogue during a call stays handled",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/core.go",
			Old: `r != nil {
				r.seen.wanted = false`,
			New: `r != nil && !r.phase.isCall() {
				r.seen.wanted = false`,
		}},
	},
	{
		Name:      "keep-moved",
		Breaks:    "what is another member's by now is not given away",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `case !r.sh.owns(r.id):`,
			New:  `case false:`,
		}},
	},
	{
		Name:      "keep-what-was-given-away",
		Breaks:    "a resource that was moved to another member without its shard is not given away",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `case !r.sh.owns(r.id):`,
			New:  `case !r.sh.isWanted():`,
		}},
	},
	{
		Name:      "ignore-change",
		Breaks:    "changed data do not reach the handler",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `case has && r.isUpToDate():`,
			New:  `case has:`,
		}},
	},
	{
		Name:      "count-old-failures",
		Breaks:    "failures with old data count against the new ones",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/results.go",
			Old:  `if r.isUpToDate() {`,
			New:  `if true {`,
		}},
	},
	{
		Name:      "two-calls",
		Breaks:    "a resource is called again while a call is in progress",
		Simulated: true,
		Changes: []Change{
			{
				File: "internal/core/decide.go",
				Old: `c.wakeTardy(r)
				case r.phase == idle:`,
				New: `c.wakeTardy(r)
					c.takeStep(r)
				case r.phase == idle:`,
			},
			{
				File: "internal/core/decide.go",
				Old:  `if r.sh == nil || r.phase != idle {`,
				New:  `if r.sh == nil {`,
			},
		},
	},
	{
		Name:      "cut-off-calls",
		Breaks:    "a Handle is cancelled in order, though its handler wants its calls to be finished",
		Simulated: true,
		Test:      "TestACallThatIsToBeFinishedIsNotCutOff",
		Package:   "./internal/scenario",
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old: `r.handling.cancelled ||
				c.cfg.FinishCalls && !c.hasty {`,
			New: `r.handling.cancelled {`,
		}},
	},
	{
		Name:      "overlook-lost-in-end",
		Breaks:    "that a claim was lost is not told to its handling while Terminate runs",
		Simulated: true,
		Test:      "TestALostClaimIsActedUponDuringTerminate",
		Package:   "./internal/scenario",
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `if cause == ClaimLost {`,
			New:  `if cause == ClaimLost && r.phase != callingTerminate {`,
		}},
	},
	{
		Name:      "claim-while-stuck",
		Breaks:    "a resource is claimed again while a call that was given up still runs",
		Simulated: true,
		Changes: []Change{{
			File: "internal/core/decide.go",
			Old:  `r.seen.wanted && !r.handling.stuck`,
			New:  `r.seen.wanted`,
		}},
	},
	{
		Name:   "retry-what-works",
		Breaks: "an order to try again counts while a call is trying already",
		Changes: []Change{{
			File: "internal/core/retry.go",
			Old:  `case h.stuck || r.phase == callingHandle || r.phase == callingUpdate:`,
			New:  `case h.stuck:`,
		}},
		Test: "TestAnOrderToTryAgainLeavesAloneATryInProgress", Package: "./internal/core",
	},
	{
		Name:   "retry-keeps-pause",
		Breaks: "an order to try again does not end the pause after a failure",
		Changes: []Change{{
			File: "internal/core/retry.go",
			Old:  `h.retryHandleAtOnce()`,
			New:  `h.handleFailures = 0`,
		}},
		Test: "TestAnOrderToTryAgainEndsThePause", Package: "./internal/core",
	},
}
