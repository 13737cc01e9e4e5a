package catalogue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

func (w *world) answer(a catalogue.Answer) catalogue.Outcome {
	w.Helper()
	out, err := w.sync.Apply(w.Context(), a, w.revision())
	if err != nil {
		w.Fatalf("Apply: %v", err)
	}
	return out
}

func (w *world) unchanged() catalogue.Outcome {
	w.Helper()
	out, err := w.sync.Unchanged(w.Context(), w.revision())
	if err != nil {
		w.Fatalf("Unchanged: %v", err)
	}
	return out
}

func keep(ids ...string) map[string]struct{} {
	all := map[string]struct{}{}
	for _, id := range ids {
		all[id] = struct{}{}
	}
	return all
}

func TestWhatAnAnswerKeepsStaysAsItIs(t *testing.T) {
	for _, newTerm := range []bool{false, true} {
		w := newWorld(t)
		w.apply(item("gone", `"v":1`), item("kept", `"v":1`), item("twice", `"v":1`), item("suspended", `"v":1`))
		w.deallocate("suspended")
		if newTerm {
			w.elect()
		}
		out := w.answer(catalogue.Answer{
			Items: []catalogue.Item{
				item("twice", `"v":2`),
				item("new", `"v":2`),
			},
			Keep: keep("kept", "twice", "new", "suspended", "unknown"),
		})
		wantOutcome(t, out, outcome{Resources: 2, Added: 1, Removed: 1})
		check := func() {
			t.Helper()
			got := w.entries()
			for id, want := range map[string]catalogue.Item{
				"kept": item("kept", `"v":1`), "twice": item("twice", `"v":1`), "new": item("new", `"v":2`),
			} {
				if e := got[id]; !e.FromSource || e.Suspended || string(e.Data) != string(want.Data) {
					t.Errorf("%s is %+v", id, e)
				}
			}
			if e := got["suspended"]; !e.Suspended || len(got) != 4 {
				t.Errorf("suspended is %+v, of %d", e, len(got))
			}
		}
		check()
		w.quiet(func() { wantOutcome(t, w.unchanged(), outcome{Resources: 2}) })
		check()
		// An item that is clear again is applied, and one that is no longer there is removed.
		wantOutcome(t, w.apply(item("twice", `"v":2`), item("new", `"v":2`)),
			outcome{Resources: 2, Changed: 1, Removed: 2})
	}
}

func TestAnAnswerThatMayBeAboutAnythingRemovesNothing(t *testing.T) {
	w := newWorld(t)
	all := items(0, 40)
	w.apply(all...)
	w.deallocate(all[39].ID)
	few := append(items(0, 5), item("new", ""))
	for range 3 { // such an answer confirms nothing
		before := len(w.entries())
		wantOutcome(t, w.answer(catalogue.Answer{Items: few, KeepAll: true}),
			outcome{Resources: 6, Added: 41 - before, Held: 35})
		wantOutcome(t, w.unchanged(), outcome{Resources: 6, Held: 35})
	}
	if got := w.entries(); len(got) != 41 || !got[all[39].ID].Suspended {
		t.Errorf("%d entries", len(got))
	}
	// Such an answer does not count for held removals, neither as the first answer nor as the second.
	if out := w.apply(few...); out.Held == 0 || out.Removed > 1 {
		t.Errorf("the first answer that is whole: %+v", out)
	}
	w.answer(catalogue.Answer{Items: few, KeepAll: true})
	if out := w.apply(few...); out.Held == 0 || out.Removed != 0 {
		t.Errorf("the first one after that: %+v", out)
	}
}

// What such an answer lacks is held until somebody accepts it, however often the source is asked.
func TestWhatAnUnclearAnswerLacksIsHeldUntilItIsAccepted(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 3)...)
	for range 2 {
		w.now += 24 * time.Hour // no time confirms it
		wantOutcome(t, w.answer(catalogue.Answer{Items: items(0, 2), KeepAll: true}), outcome{Resources: 2, Held: 1})
	}
	held := w.sync.Held()
	if !held.Unclear || held.Count != 1 {
		t.Fatalf("%+v", held)
	}
	if out, err := w.sync.Accept(t.Context(), held.Digest); err != nil || out.Removed != 1 {
		t.Errorf("accepted: %+v, %v", out, err)
	}
	w.want(wanted(items(0, 2)))
	wantOutcome(t, w.answer(catalogue.Answer{Items: items(0, 2), KeepAll: true}), outcome{Resources: 2})
	wantOutcome(t, w.answer(catalogue.Answer{Items: items(0, 1), KeepAll: true}), outcome{Resources: 1, Held: 1})
	wantOutcome(t, w.apply(items(0, 1)...), outcome{Resources: 1, Removed: 1}) // one of two is not doubted
}

func TestARefusedAnswerIsNotTheLastOne(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 3)...)
	w.sync.Refused()
	if _, err := w.sync.Unchanged(t.Context(), w.revision()); !errors.Is(err, catalogue.ErrNoAnswer) {
		t.Error(err)
	}
}
