// Package mutant names deliberate faults: each takes away one rule of DRM where that rule is enforced, so that it can be
// shown that the simulation, or a test of the package, notices. `make mutants` tries each of them and prints what noticed
// it; one that nothing notices means that a rule is not tested.
//
// In a normal build Is is false for all of them, known to the compiler, and nothing of them is left in a program. With
// the build tag mutant, the one that DRM_MUTANT names is in force.
//
// # In the core
//
//	release-before-terminate     a claim is released first, and its handler told after
//	forget-lost-claim            a claim whose answer was lost is taken for one that was not made
//	unfollow-uncertain           a shard is not followed until it is certain that a lost claim is not there
//	use-doomed-claim             a claim whose release got no answer is used again
//	forget-lost-state            a state whose write got no answer is not written again
//	summarize-pending            a summary is written while a claim that it would stand for is not handled yet
//	summarize-unclear            a summary is written while a claim that it would stand for may be there unknown
//	overlook-summary-gone        that a summary was deleted is not noticed
//	leave-summaries              a summary is not deleted when its shard has gone to another member
//	believe-old-news             news of a claim is taken over without a look at its revision
//	overlook-vanished            that a claim of this member was deleted is not noticed
//	handle-fenced                what is on a fenced lease is handled on
//	revoke-too-early             a fenced lease is revoked before everything on it has ended
//	reuse-token                  a resource is handled under the token of its first claim
//	forget-panicked-handle       no Terminate after a Handle that panicked
//	forget-cancelled-handle      no Terminate after a Handle that was cancelled
//	forget-cut-terminate         no other Terminate after one that the end of its lease cut short
//	forget-stuck-handle          no Terminate after a call that was given up
//	let-go-of-failed             under the policy Hold, a claim is released though Terminate failed
//	stop-spares-new-claims       what was being claimed at Stop is handled all the same
//	drop-deallocation            a resource that leaves the catalogue during a call stays handled
//	keep-moved                   what is another member's by now is not given away
//	ignore-change                changed data do not reach the handler
//	count-old-failures           failures with old data count against the new ones
//	two-calls                    a resource is called again while a call is in progress
//	cut-off-calls                a Handle is cancelled in order, though its handler wants its calls to be finished
//	overlook-lost-in-end         that a claim was lost is not told to its handling while Terminate runs
//	claim-while-stuck            a resource is claimed again while a call that was given up still runs
//
// # Around it: in the packages that the simulation has a model of, and in the model
//
//	fence-after-expiry           a lease is fenced after etcd may have given its claims away
//	count-from-answer            a lease's life is counted from the answer, not from before the request
//	outlast-gone                 with KeepOnOutage, what is on a lease that etcd says to be gone is handled on
//	update-without-lease         an update of a claim detaches it from its lease
//	claim-over-another           a claim is made without a look at whether there is one
//	release-any                  a claim is deleted without a look at whose it is
//	lost-is-refused              a write whose answer was lost is taken for one that was not done
//	skip-relist                  after a compaction a watch goes on with what is new, without a list
//	no-resync                    what is followed is not listed again now and then, so what a watch missed stays missed
//	spare-given-up               the context and the claim of a call that is given up live on
//	handle-unlooked              Handle is called without a last look at the clock
//	log-in-line                  whoever logs waits for the log's sink
//
// # In the model only
//
//	claim-by-name                a claim of this member's former life is taken for its own, because the name is the same
//	forget-call-number           a receiver does not compare the numbers of the requests under one token
//
// # In packages that the simulation does not have
//
//	revive-fenced                a fenced lease is renewed, and its deadline moved on
//	renew-unasked                a lease is renewed though its owner does not answer
//	claim-unguarded              a claim is made without a look at whether the app is the one that it was
//	overlook-rewound             an answer of a lower revision than was seen, or of another cluster, is believed
//	trust-silence                a stream of which nothing is heard is not made anew
//	write-deposed                what a coordinator writes does not depend on its office
//	write-unguarded              the catalogue is written without a look at whether the app is the one that it was
//	confirm-early                a removal that was doubted is confirmed by whichever answer comes next
//	accept-another               an order to make the removals that are held makes others too, which joined them since
//	start-unlooked               a program is started without a last look at the clock (Linux)
//	reuse-call-number            all requests of a webhook have the same number
//
// # In what judges real processes
//
//	overlook-overlap             the checker of journals does not see that two handle a resource at once
package mutant

// Mutant is one deliberate fault.
type Mutant string

// The faults that the package's comment tells of.
const (
	ReleaseBeforeTerminate Mutant = "release-before-terminate"
	ForgetLostClaim        Mutant = "forget-lost-claim"
	UnfollowUncertain      Mutant = "unfollow-uncertain"
	UseDoomedClaim         Mutant = "use-doomed-claim"
	ForgetLostState        Mutant = "forget-lost-state"
	SummarizePending       Mutant = "summarize-pending"
	SummarizeUnclear       Mutant = "summarize-unclear"
	OverlookSummaryGone    Mutant = "overlook-summary-gone"
	LeaveSummaries         Mutant = "leave-summaries"
	BelieveOldNews         Mutant = "believe-old-news"
	OverlookVanished       Mutant = "overlook-vanished"
	HandleFenced           Mutant = "handle-fenced"
	RevokeTooEarly         Mutant = "revoke-too-early"
	ReuseToken             Mutant = "reuse-token"
	ForgetPanickedHandle   Mutant = "forget-panicked-handle"
	ForgetCancelledHandle  Mutant = "forget-cancelled-handle"
	ForgetCutTerminate     Mutant = "forget-cut-terminate"
	ForgetStuckHandle      Mutant = "forget-stuck-handle"
	LetGoOfFailed          Mutant = "let-go-of-failed"
	StopSparesNewClaims    Mutant = "stop-spares-new-claims"
	DropDeallocation       Mutant = "drop-deallocation"
	KeepMoved              Mutant = "keep-moved"
	IgnoreChange           Mutant = "ignore-change"
	CountOldFailures       Mutant = "count-old-failures"
	TwoCalls               Mutant = "two-calls"
	CutOffCalls            Mutant = "cut-off-calls"
	OverlookLostInEnd      Mutant = "overlook-lost-in-end"
	ClaimWhileStuck        Mutant = "claim-while-stuck"

	FenceAfterExpiry   Mutant = "fence-after-expiry"
	CountFromAnswer    Mutant = "count-from-answer"
	OutlastGone        Mutant = "outlast-gone"
	UpdateWithoutLease Mutant = "update-without-lease"
	ClaimOverAnother   Mutant = "claim-over-another"
	ReleaseAny         Mutant = "release-any"
	LostIsRefused      Mutant = "lost-is-refused"
	SkipRelist         Mutant = "skip-relist"
	NoResync           Mutant = "no-resync"
	SpareGivenUp       Mutant = "spare-given-up"
	HandleUnlooked     Mutant = "handle-unlooked"
	LogInLine          Mutant = "log-in-line"

	ClaimByName      Mutant = "claim-by-name"
	ForgetCallNumber Mutant = "forget-call-number"

	ReviveFenced Mutant = "revive-fenced"
	RenewUnasked Mutant = "renew-unasked"

	ClaimUnguarded  Mutant = "claim-unguarded"
	OverlookRewound Mutant = "overlook-rewound"
	TrustSilence    Mutant = "trust-silence"
	WriteDeposed    Mutant = "write-deposed"
	WriteUnguarded  Mutant = "write-unguarded"
	ConfirmEarly    Mutant = "confirm-early"
	AcceptAnother   Mutant = "accept-another"

	StartUnlooked   Mutant = "start-unlooked"
	ReuseCallNumber Mutant = "reuse-call-number"

	OverlookOverlap Mutant = "overlook-overlap"
)

// Known is a Mutant and what is to notice it.
type Known struct {
	Mutant Mutant
	// Simulated says that the simulation has the fault too, and must notice it.
	Simulated bool
	// Test is a test that must fail, in Package; empty where there is only the simulation.
	Test, Package string
}

// All lists every Mutant.
var All = []Known{
	{Mutant: ReleaseBeforeTerminate, Simulated: true},
	{Mutant: ForgetLostClaim, Simulated: true},
	{Mutant: UnfollowUncertain, Simulated: true},
	{Mutant: UseDoomedClaim, Simulated: true},
	{Mutant: ForgetLostState, Simulated: true},
	{Mutant: SummarizePending, Simulated: true},
	{Mutant: SummarizeUnclear, Simulated: true},
	{Mutant: OverlookSummaryGone, Simulated: true},
	{Mutant: LeaveSummaries, Simulated: true},
	{Mutant: BelieveOldNews, Simulated: true},
	{Mutant: OverlookVanished, Simulated: true},
	{Mutant: HandleFenced, Simulated: true},
	{Mutant: RevokeTooEarly, Simulated: true},
	{Mutant: ReuseToken, Simulated: true},
	{Mutant: ForgetPanickedHandle, Simulated: true},
	{Mutant: ForgetCancelledHandle, Simulated: true},
	{Mutant: ForgetCutTerminate, Simulated: true},
	{Mutant: ForgetStuckHandle, Simulated: true},
	{Mutant: LetGoOfFailed, Simulated: true},
	{Mutant: StopSparesNewClaims, Simulated: true},
	{Mutant: DropDeallocation, Simulated: true},
	{Mutant: KeepMoved, Simulated: true},
	{Mutant: IgnoreChange, Simulated: true},
	{Mutant: CountOldFailures, Simulated: true},
	{Mutant: TwoCalls, Simulated: true},
	{Mutant: CutOffCalls, Simulated: true, Test: "TestACallThatIsToBeFinishedIsNotCutOff", Package: "."},
	{Mutant: OverlookLostInEnd, Simulated: true, Test: "TestALostClaimIsActedUponDuringTerminate", Package: "."},
	{Mutant: ClaimWhileStuck, Simulated: true},

	{Mutant: FenceAfterExpiry, Simulated: true, Test: "TestKeeperIsDeadBeforeTheServerExpires", Package: "./lease"},
	{Mutant: CountFromAnswer, Simulated: true, Test: "TestKeeperCountsFromBeforeItSent", Package: "./lease"},
	{Mutant: OutlastGone, Simulated: true, Test: "TestOutlastingKeeperEndsWhenItsLeaseIsGone", Package: "./lease"},
	{Mutant: UpdateWithoutLease, Simulated: true, Test: "TestClaimUpdateAndRelease", Package: "./lease"},
	{Mutant: ClaimOverAnother, Simulated: true, Test: "TestConflictsAreIsolated", Package: "./lease"},
	{Mutant: ReleaseAny, Simulated: true, Test: "TestWriterDoesWhatOneAfterAnotherWouldDo", Package: "./lease"},
	{Mutant: LostIsRefused, Simulated: true, Test: "TestLostAnswersLeaveTheOutcomeUnknown", Package: "./lease"},
	{Mutant: SkipRelist, Simulated: true, Test: "TestACompactionWhileCutOffIsFollowedByAFreshList", Package: "./internal/follow"},
	{Mutant: NoResync, Simulated: true, Test: "TestAReaderGetsAFreshListNowAndThen", Package: "./internal/follow"},
	{Mutant: SpareGivenUp, Simulated: true, Test: "TestNothingOfACallThatIsGivenUpGoesOn", Package: "."},
	{Mutant: HandleUnlooked, Simulated: true, Test: "TestNoHandleBeginsPastTheDeadline", Package: "."},
	{Mutant: LogInLine, Simulated: true, Test: "TestABlockedLogDelaysNoDeadline", Package: "."},

	{Mutant: ClaimByName, Simulated: true},
	{Mutant: ForgetCallNumber, Simulated: true},

	{Mutant: ReviveFenced, Test: "TestKeeperIsFencedForGood", Package: "./lease"},
	{Mutant: RenewUnasked, Test: "TestKeeperRenewsOnlyWhileItsOwnerAnswers", Package: "./lease"},
	{Mutant: ClaimUnguarded, Test: "TestNothingIsWrittenWithoutTheGuard", Package: "./lease"},
	{Mutant: OverlookRewound, Test: "TestCheckNoticesAStoreThatWasRewoundOrReplaced", Package: "./internal/follow"},
	{Mutant: TrustSilence, Test: "TestAStreamThatHangsWithoutAnErrorIsMadeAnew", Package: "./internal/follow"},
	{Mutant: WriteDeposed, Test: "TestADeposedCoordinatorWritesNothing", Package: "./internal/catalogue"},
	{Mutant: WriteUnguarded, Test: "TestAnAppThatWasDeletedTakesNoResources", Package: "./internal/catalogue"},

	{Mutant: ConfirmEarly, Test: "TestARemovalInBulkIsConfirmedByTimeAndAnAnswer", Package: "./internal/catalogue"},
	{Mutant: AcceptAnother, Test: "TestOnlyTheSetThatWasLookedAtIsAccepted", Package: "./internal/catalogue"},

	{Mutant: StartUnlooked, Test: "TestForkLooksAtTheClockRightBeforeExec", Package: "./handler"},
	{Mutant: ReuseCallNumber, Test: "TestWebhookNumbersEachRequest", Package: "./handler"},

	{Mutant: OverlookOverlap, Test: "TestCheckFindsAnOverlapAnywhere", Package: "./internal/journal"},
}
