package mutant

// ofWeights are faults of the ring, its slots and the members' weights.
var ofWeights = []Mutant{
	{
		Name:   "fall-back-from-the-first-probe",
		Breaks: "a ring with a table of probes gives other answers than one without",
		Changes: []Change{{
			File: "shard/ring.go",
			Old:  `h = r.probes.last[shard]`,
			New:  `_ = r.probes.last[shard]`,
		}},
		Test: "TestARingAnswersAsTheNaiveWayDoes", Package: "./shard",
	},
	{
		Name:   "take-from-who-has-just-reserved",
		Breaks: "a newcomer takes the slots of a member that has stopped meanwhile, and is expected back",
		Changes: []Change{{
			File: "membership/reserve.go",
			Old:  `cmps = append(cmps, p.settled(layout.Reservations()))`,
			New:  `_ = p.settled(layout.Reservations())`,
		}},
		Test: "TestAMemberThatStopsMeanwhileKeepsItsSlots", Package: "./membership",
	},
	{
		Name:   "step-on-who-has-just-reserved",
		Breaks: "the same where slots are reserved one by one",
		Changes: []Change{{
			File: "membership/steps.go",
			Old:  `return []clientv3.Cmp{g.absent(holder), p.settled(layout.Reservations())}`,
			New:  `return []clientv3.Cmp{g.absent(holder)}`,
		}},
		Test: "TestAStepTakesNothingFromWhoHasComeBack", Package: "./membership",
	},
	{
		Name:   "grow-over-a-new-block",
		Breaks: "two members that join at once reserve the same slots, one by itself and one in a block",
		Changes: []Change{{
			File: "membership/reserve.go",
			Old:  `cmps = append(cmps, p.settled(layout.Blocks()))`,
			New:  `_ = p.settled(layout.Blocks())`,
		}},
		Test: "TestARingThatGrewMeanwhileIsLookedAtAgain", Package: "./membership",
	},
	{
		Name:   "weigh-who-leaves",
		Breaks: "a weight makes a member active again that has begun to leave, and ends the wait for its return",
		Changes: []Change{{
			File: "membership/register.go",
			Old:  `|| p.view.Members[g.ID].State == Leaving {`,
			New:  `{`,
		}},
		Test: "TestAWeightThatComesTooLateChangesNothing", Package: "./membership",
	},
	{
		Name:   "overwrite-who-leaves",
		Breaks: "a weight that comes at the same moment as a stop undoes it",
		Changes: []Change{{
			File: "membership/register.go",
			Old:  `"=", g.Group.Config), p.unchanged(me))`,
			New:  `"=", g.Group.Config), clientv3.Compare(clientv3.CreateRevision(me), "=", reg.CreateRevision))`,
		}},
		Test: "TestAWeightThatComesTooLateChangesNothing", Package: "./membership",
	},
	{
		Name:   "foresee-own-weights",
		Breaks: "the coordinator prepares for the weight that a newcomer says, not for the one that is ordered",
		Changes: []Change{{
			File: "membership/foresee.go",
			Old:  `v.hold(holds, id, v.WeightOf(id))`,
			New:  `v.hold(holds, id, v.Members[id].Weight)`,
		}},
		Test: "TestForeseenOwnersAreThoseThatFollow", Package: "./membership",
	},
	{
		Name:   "foresee-slots-that-are-reserved",
		Breaks: "the coordinator foresees that newcomers take the slots of members that are expected back",
		Changes: []Change{{
			File: "membership/foresee.go",
			Old:  `return live || reserved`,
			New:  `return live || reserved && false`,
		}},
		Test: "TestForeseenOwnersAreThoseThatFollow", Package: "./membership",
	},
	{
		Name:   "show-older-members-any-weight",
		Breaks: "members of schema 1 cannot read the key of a member with a large weight",
		Changes: []Change{{
			File: "membership/record.go",
			Old:  `return min(max(r.Weight, 1), olderMaxWeight)`,
			New:  `return max(r.Weight, olderMaxWeight*0)`,
		}},
		Test: "TestOlderMembersCanReadAnyWeight", Package: "./membership",
	},
	{
		Name:   "blocks-for-older-members",
		Breaks: "members of both schemas do not agree on who owns a shard, since only one of them knows blocks",
		Changes: []Change{{
			File: "membership/blocks.go",
			Old:  `if !withBlocks {`,
			New:  `if !withBlocks && len(v.Blocks) == 0 {`,
		}},
		Test: "TestMembersOfBothSchemasAgree", Package: "./membership",
	},
	{
		Name:   "free-who-is-expected-back",
		Breaks: "the coordinator frees the slots of a member that has stopped meanwhile, and is expected back",
		Changes: []Change{{
			File: "internal/placement/ghosts.go",
			Old:  `clientv3.Compare(clientv3.CreateRevision(layout.Reservation(g.Member)), "=", 0),`,
			New:  ``,
		}},
		Test: "TestOnlyTheSlotsOfAGhostAreFreed", Package: "./internal/placement",
	},
	{
		Name:   "count-absence-before-a-return",
		Breaks: "a member that was there a moment ago counts as gone for long",
		Changes: []Change{{
			File: "internal/placement/ghosts.go",
			Old:  `delete(g.missed, id)`,
			New:  `_ = g.missed[id]`,
		}},
		Test: "TestAMemberThatComesBackInTimeKeepsItsSlots", Package: "./internal/placement",
	},
	{
		Name:   "place-before-the-slots-are-there",
		Breaks: "a member that gets a greater weight is given its share twice: by the ring, and by the coordinator",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `if !p.loads.complete(d.view) || p.weighs(d.now) {`,
			New:  `if !p.loads.complete(d.view) || p.weighs(d.now) && false {`,
		}},
		Test: "TestAnotherWeightIsEvenedOutAtOnce", Package: "./internal/placement",
	},
	{
		Name:   "forget-the-weight",
		Breaks: "a member that registers again has the weight of its config, and not the one that it was given since",
		Changes: []Change{{
			File: "internal/member/unready.go",
			Old:  `record.Weight = int(p.weights.own.Load())`,
			New:  `_ = int(p.weights.own.Load())`,
		}},
		Test: "TestAMemberKeepsItsWeightWhenItRegistersAgain", Package: "./internal/scenario",
	},
	{
		Name:   "let-two-weights-leave-nobody",
		Breaks: "of two orders at the same moment that together leave nobody, none is refused",
		Changes: []Change{{
			File: "internal/order/weight.go",
			Old:  `[]string{d.Reader.Layout.Drains(), d.Reader.Layout.Weights()}`,
			New:  `[]string{d.Reader.Layout.Drains()}`,
		}},
		Test: "TestOfTwoWeightsOf0AtTheSameMomentOneIsTheLast", Package: "./internal/order",
	},
	{
		Name:   "free-slots-that-the-key-lists",
		Breaks: "a member that gets a smaller weight takes its freed slots for lost, and ends all that it handles",
		Changes: []Change{{
			File: "membership/steps.go",
			Old: `if again, err = g.put(ctx, reg, p, nil, g.back(p)); again || err != nil {
				return again, err
			}
			for _, f := range g.surplus(p, h) {
				if done, err := g.step(ctx, f.put, p.unchanged(f.key)); !done {
					return true, err
				}
			}
			return false, nil`,
			New: `for _, f := range g.surplus(p, h) {
				if done, err := g.step(ctx, f.put, p.unchanged(f.key)); !done {
					return true, err
				}
			}
			return g.put(ctx, reg, p, nil, g.back(p))`,
		}},
		Test: "TestNoStepTakesASlotThatTheMembersKeyLists", Package: "./membership",
	},
	{
		Name:   "obey-drains-for-the-weightless",
		Breaks: "drains are in force though only a member of weight 0 has none, so that nobody owns anything",
		Changes: []Change{{
			File: "membership/view.go",
			Old:  `v.allDrained, forced = of(v.weighs)`,
			New:  `v.allDrained, forced = of(everybody)`,
		}},
		Test: "TestAMemberOfWeight0IsNobodyWhoCouldTakeShards", Package: "./membership",
	},
	{
		Name:   "count-the-weightless-as-ready",
		Breaks: "unreadiness is in force though only a member of weight 0 is ready, so that nobody owns anything",
		Changes: []Change{{
			File: "membership/view.go",
			Old:  `v.countAwaited(v.ignored), v.weighs)`,
			New:  `v.countAwaited(v.ignored), everybody)`,
		}},
		Test: "TestAMemberOfWeight0IsNobodyWhoCouldTakeShards", Package: "./membership",
	},
	{
		Name:   "leave-it-to-the-weightless",
		Breaks: "the last member that takes anything is drained, since one of weight 0 is there",
		Changes: []Change{{
			File: "membership/view.go",
			Old:  `if other != id && can && !v.Ordered(other) && v.WeightOf(other) > 0 {`,
			New:  `if other != id && can && !v.Ordered(other) {`,
		}},
		Test: "TestAMemberOfWeight0IsNobodyWhoCouldTakeAnything", Package: "./internal/order",
	},
	{
		Name:   "leave-an-order-to-the-drain",
		Breaks: "a drained member of weight 0 gets its shards back when its drain ends",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return slices.Contains(v.Drains[id].Keeps, true) && !v.DrainsIgnored()`,
			New:  `return v.Ordered(id) && !v.DrainsIgnored()`,
		}},
		Test: "TestAMemberOfWeight0GetsNothingBackWhenItsDrainEnds", Package: "./internal/placement",
	},
	{
		Name:   "carry-out-an-ignored-drain",
		Breaks: "a drain that is ignored takes from a member what it keeps, in place of the order of weight 0",
		Changes: []Change{{
			File: "internal/placement/draft.go",
			Old:  `return slices.Contains(v.Drains[id].Keeps, true) && !v.DrainsIgnored()`,
			New:  `return slices.Contains(v.Drains[id].Keeps, true)`,
		}},
		Test: "TestWhatAMemberKeepsIsTakenFromTheOrderThatLetsItKeepThat", Package: "./internal/placement",
	},
	{
		Name:   "note-it-in-the-drain",
		Breaks: "what a member of weight 0 keeps no more is noted in its drain, so that nothing comes of the order",
		Changes: []Change{{
			File: "internal/placement/publisher.go",
			Old:  `if keepsByDrain(p.planner.view, id) {`,
			New:  `if p.planner.view.Ordered(id) {`,
		}},
		Test: "TestWhatAMemberKeepsIsTakenFromTheOrderThatLetsItKeepThat", Package: "./internal/placement",
	},
	{
		Name:   "weigh-by-what-was-written-last",
		Breaks: "a write that etcd carries out late takes the slots of its weight from a member for good",
		Changes: []Change{{
			File: "internal/member/weight.go",
			Old:  `reg = p.asShown(v, reg)`,
			New:  `_ = p.asShown(v, reg)`,
		}},
		Test: "TestAWriteThatComesLateTakesNoWeightAway", Package: "./internal/scenario",
	},
	{
		Name:   "try-at-once-what-cannot-be-freed",
		Breaks: "where etcd takes few comparisons, a coordinator tries to free slots all the time",
		Changes: []Change{{
			File: "internal/placement/ghosts.go",
			Old:  `p.planner.ghosts.putOff(p.o.Now())`,
			New:  `_ = p.planner.ghosts.putOff`,
		}},
		Test: "TestSlotsThatCannotBeFreedArePutOff", Package: "./internal/placement",
	},
	{
		Name:   "keep-the-last-from-its-slots",
		Breaks: "a cordoned member without slots takes none where it is the last one, so that nobody owns the shards",
		Changes: []Change{{
			File: "membership/assign.go",
			Old:  `(s.free() || !s.drained && slices.Contains(v.owners, ""))`,
			New:  `(s.free() || !s.drained && slices.Contains(v.owners, "?"))`,
		}},
		Test: "TestAMemberHasItsSlotsWhereNobodyElseTakesShards", Package: "./membership",
	},
}
