package catalogue

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever a source answers, and whenever it is asked, a doubted removal is made in two cases only: an answer was asked
// for at least the delay after the first answer that lacked the id, and all answers in between lacked it too; or
// somebody accepted its set.
func TestNoDoubtedRemovalIsMadeEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now time.Duration
		rules := Rules{
			Share: rapid.SampledFrom([]float64{0.01, 0.2, 0.5, 0.9, 1}).
				Draw(t, "share"),
			MoreThan: rapid.IntRange(1, 12).Draw(t, "more than"),
			Delay:    time.Minute,
			Hold:     rapid.Bool().Draw(t, "hold"),
			Now:      func() time.Duration { return now },
		}
		all := make([]string, rapid.IntRange(1, 30).Draw(t, "ids"))
		had := map[string]bool{}
		for i := range all {
			all[i] = fmt.Sprint(i)
			had[all[i]] = true
		}
		h := newHolding(rules)
		missed := map[string]time.Duration{} // ids that the source no longer has, and since when that is known
		accepted := map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 40).Draw(t, "pause")) * time.Second
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // a new coordinator takes over
				before := h.held()
				h = newHolding(rules)
				clear(accepted)
				if before.Count > 0 {
					h.past = &past{digest: before.Digest, since: before.Since, joined: before.Joined}
				}
				continue
			case 1: // an operator accepts what is held, or another set
				digest := h.held().Digest
				if rapid.Bool().Draw(t, "stale") {
					digest = "0000000000000000-1"
				}
				if err := h.accept(digest); err == nil {
					for id := range h.first {
						accepted[id] = true
					}
				}
				continue
			}
			asked := now
			now += time.Duration(rapid.IntRange(0, 40).Draw(t, "the source takes")) * time.Second
			kept := rapid.SampledFrom([]int{0, 10, 50, 90, 100}).Draw(t, "percent kept")
			answer, missing := map[string]bool{}, []string(nil)
			for _, id := range all {
				if rapid.IntRange(0, 99).Draw(t, "kept") < kept {
					answer[id] = true
					delete(missed, id)
					delete(accepted, id)
				} else if had[id] {
					missing = append(missing, id)
					if _, known := missed[id]; !known {
						missed[id] = now
					}
				}
			}
			remove := h.decide(missing, len(answer), len(had), asked)
			doubted := rules.doubts(len(answer), len(had), len(missing))
			for _, id := range remove {
				switch waited := asked - missed[id]; {
				case !slices.Contains(missing, id):
					t.Fatalf("%s is removed, which is not missing", id)
				case doubted && !accepted[id] && (rules.Hold || waited < rules.Delay):
					t.Fatalf("%s is removed by an answer that was asked for %v after it was known to be missing", id,
						waited)
				}
			}
			for _, id := range missing {
				if _, held := h.first[id]; doubted && !held {
					t.Fatalf("%s is neither removed nor held", id)
				}
			}
			if rapid.Bool().Draw(t, "written") {
				h.done(remove...)
				for _, id := range remove {
					delete(had, id)
					delete(missed, id)
					delete(accepted, id)
				}
			}
			for id := range answer {
				had[id] = true
			}
			for id, since := range h.first {
				if _, missed := missed[id]; !missed || answer[id] {
					t.Fatalf("%s is held since %v, though it is not missing", id, since)
				}
			}
		}
	})
}

func TestADigestStandsForASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfDistinct(rapid.StringN(1, 4, -1), rapid.ID[string]).Draw(t, "a")
		b := rapid.SliceOfDistinct(rapid.StringN(1, 4, -1), rapid.ID[string]).Draw(t, "b")
		of := func(ids []string) string { return digestOf(slices.Values(ids)) }
		set := func(ids []string) []string { return slices.Sorted(slices.Values(ids)) }
		if same := slices.Equal(set(a), set(b)); same != (of(a) == of(b)) {
			t.Fatalf("the same: %v; digests %s and %s", same, of(a), of(b))
		}
		n := rapid.IntRange(1, 5).Draw(t, "n")
		if got, want := smallest(slices.Values(a), n), set(a)[:min(n, len(a))]; !slices.Equal(got, want) {
			t.Fatalf("the first %d are %q, want %q", n, got, want)
		}
		if of(a) != digestOf(maps.Keys(toSet(a))) {
			t.Fatal("the digest depends on the order")
		}
	})
}

func toSet(ids []string) map[string]struct{} {
	set := map[string]struct{}{}
	for _, id := range ids {
		set[id] = struct{}{}
	}
	return set
}
