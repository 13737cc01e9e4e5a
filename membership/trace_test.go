package membership_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/membership"
)

// A trace ends with the member that the view says, whatever keys there are, and each candidate that it passes over has
// a reason.
func TestATraceLeadsToTheOwner(t *testing.T) {
	olderDecided, lastResorts := 0, 0
	check := func(fatalf func(string, ...any), v *membership.View, text string) {
		for n := len(v.Members); n < shards; n += 7 { // a trace costs more than the owner does
			tr := v.Trace(n)
			if tr.Shard != n || tr.Owner != v.Owner(n) {
				fatalf("shard %d is %q's, and the trace leads to %q: %+v\n%s", n, v.Owner(n), tr.Owner, tr, text)
			}
			for i, s := range tr.Steps {
				last := i == len(tr.Steps)-1
				if s.Taken && !(last && s.Member == tr.Owner && s.Verdict == membership.VerdictOwner) {
					fatalf("shard %d: step %d is taken: %+v\n%s", n, i, tr, text)
				}
				could := s.Verdict == membership.VerdictTakes || s.Verdict == membership.VerdictOwner ||
					s.Verdict == membership.VerdictNoSlots
				if !s.Taken && could && !tr.Older {
					fatalf("shard %d: step %d is passed over without a reason: %+v\n%s", n, i, tr, text)
				}
			}
			if tr.Older {
				olderDecided++
			}
			if tr.LastResort {
				lastResorts++
			}
			for _, id := range v.Candidates() {
				if (v.Verdict(id, n) == membership.VerdictOwner) != (v.Owner(n) == id) {
					fatalf("shard %d is %q's, and %q is its %s\n%s", n, v.Owner(n), id, v.Verdict(id, n), text)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture().Draw(t, "picture")
		check(t.Fatalf, p.view(), p.text())
	})
	for seed := range uint64(300) {
		p, _ := anyMixed(rand.New(rand.NewPCG(seed, 7)))
		check(t.Fatalf, p.mixedView(), p.text())
	}
	if olderDecided == 0 || lastResorts == 0 {
		t.Errorf("the older rules decided %d times, and nobody took a shard %d times: nothing is tested",
			olderDecided, lastResorts)
	}
}

func TestATraceSaysWhyMembersArePassedOver(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).
		member("c", membership.Leaving, 2).member("d", membership.Joining, 3).unready("e", 0.1, 4).
		member("f", membership.Active).schema2()
	p.with(layout.Slot(5), "gone")
	const n = 3
	p.with(layout.Pin(n), membership.Pin{Member: "c"}.Encode())
	p.with(layout.Exception(n), membership.Exception{Member: "gone", Then: "b", Why: "bound"}.Encode())
	p.with(layout.Cordon("b"), "{}")
	v := p.view()
	got := v.Trace(n)
	want := []membership.Step{
		{Kind: membership.StepPin, Member: "c", Verdict: membership.VerdictLeaving},
		{Kind: membership.StepException, Member: "gone", Verdict: membership.VerdictGone},
		{Kind: membership.StepThen, Member: "b", Verdict: membership.VerdictCordoned},
	}
	if got.Owner != "a" || got.Home != "a" || len(got.Steps) < 4 || !slices.Equal(got.Steps[:3], want) {
		t.Errorf("got %+v, want it to begin with %+v, and to lead to a", got, want)
	}
	verdicts := map[string]membership.Verdict{}
	for _, id := range v.Candidates() {
		verdicts[id] = v.Verdict(id, n)
	}
	if diff := cmp.Diff(map[string]membership.Verdict{
		"a": membership.VerdictOwner, "b": membership.VerdictCordoned, "c": membership.VerdictLeaving,
		"d": membership.VerdictJoining, "e": membership.VerdictUnready, "f": membership.VerdictNoSlots,
		"gone": membership.VerdictGone,
	}, verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	for id, tt := range map[string]struct {
		key, value string
		want       membership.Verdict
	}{
		"drained":  {layout.Drain("b"), "{}", membership.VerdictDraining},
		"weight 0": {layout.Weight("b"), membership.WeightOrder{}.Encode(), membership.VerdictNoWeight},
	} {
		if got := p.with(tt.key, tt.value).view().Verdict("b", n); got != tt.want {
			t.Errorf("%s: b is %s, want %s", id, got, tt.want)
		}
		delete(p, tt.key)
	}
}

func TestATraceOfAShardThatIsNotThereIsEmpty(t *testing.T) {
	v := picture{}.member("a", membership.Active, 0).view()
	for _, n := range []int{-1, shards} {
		if got := v.Trace(n); got.Owner != "" || got.Steps != nil {
			t.Errorf("Trace(%d) = %+v", n, got)
		}
	}
}

func TestAMoveIsInForceWhileItsMemberTakesTheShard(t *testing.T) {
	p := picture{}.member("a", membership.Active, 0).member("b", membership.Active, 1).schema2()
	if _, moved, inForce := p.view().MoveOf("r"); moved || inForce {
		t.Error("there is no move")
	}
	p.with(layout.Move("r"), membership.Move{Member: "b"}.Encode())
	if m, moved, inForce := p.view().MoveOf("r"); m.Member != "b" || !moved || !inForce {
		t.Errorf("%+v, %v, %v", m, moved, inForce)
	}
	p.drain("b")
	if _, moved, inForce := p.view().MoveOf("r"); !moved || inForce {
		t.Errorf("moved %v, in force %v, to a drained member", moved, inForce)
	}
}
