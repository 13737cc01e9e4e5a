package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// doubtful makes an app with the default rules, whose source had that many resources.
func doubtful(t *testing.T, had int) *world {
	t.Helper()
	w := newWorld(t)
	w.rules.Share = 0.2
	w.elect()
	w.apply(items(0, had)...)
	return w
}

func TestWhatIsDoubted(t *testing.T) {
	const never = 1.0
	for _, tt := range []struct {
		share     float64
		had, left int
		doubted   bool
	}{
		{0.2, 1, 0, true},
		{0.2, 3, 2, false},
		{0.2, 3, 1, false},
		{0.2, 10, 0, true},
		{0.2, 10, 1, true},
		{0.2, 10, 2, false},
		{0.2, 10, 5, false},
		{0.2, 11, 9, false},
		{0.2, 11, 8, true},
		{0.2, 100, 80, false},
		{0.2, 100, 79, true},
		{0.2, 100, 51, true},
		{0.2, 300, 299, false},
		{0.2, 300, 0, true},
		{0.29, 100, 71, false}, // as a float, 0.29 of 100 is less than 29
		{0.29, 100, 70, true},
		{0.01, 10, 5, false}, // of few entries four fifths may go, whatever the share
		{0.95, 10, 1, false},
		{0.95, 100, 5, false},
		{0.95, 100, 4, true},
		{never, 100, 1, false},
		{never, 3, 1, false},
		{never, 100, 0, true}, // an empty answer is always doubted
		{never, 1, 0, true},
	} {
		t.Run(fmt.Sprintf("%v: %d of %d are left", tt.share, tt.left, tt.had), func(t *testing.T) {
			w := newWorld(t)
			w.rules.Share = tt.share
			w.elect()
			w.apply(items(0, tt.had)...)
			missing := tt.had - tt.left
			if tt.doubted {
				w.quiet(func() {
					wantOutcome(t, w.apply(items(0, tt.left)...), outcome{Resources: tt.left, Held: missing})
				})
				w.want(wanted(items(0, tt.had)))
				return
			}
			wantOutcome(t, w.apply(items(0, tt.left)...), outcome{Resources: tt.left, Removed: missing})
			w.want(wanted(items(0, tt.left)))
		})
	}
}

// It makes no difference what else the answer has: everything that there was is missing.
func TestAnotherSourceAltogetherIsDoubted(t *testing.T) {
	w := doubtful(t, 8)
	wantOutcome(t, w.apply(items(100, 120)...), outcome{Resources: 20, Added: 20, Held: 8})
}

func TestARemovalInBulkIsConfirmedByTimeAndAnAnswer(t *testing.T) {
	w := doubtful(t, 100)
	left := items(0, 51)
	w.quiet(func() {
		wantOutcome(t, w.apply(left...), outcome{Resources: 51, Held: 49})
		first := w.now
		for w.now < first+delay-10*time.Second { // however often the source is asked
			wantOutcome(t, w.apply(left...), outcome{Resources: 51, Held: 49})
			w.now += 5 * time.Second
		}
		w.sync.Ask() // asked a little too early, though the answer comes late
		w.now += time.Hour
		out, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: left}, w.revision())
		if err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, out, outcome{Resources: 51, Held: 49})
	})
	out := w.apply(left...)
	wantOutcome(t, out, outcome{Resources: 51, Removed: 49})
	if !out.Bulk || len(out.Gone) != 49 || out.Gone[0] != "r0051" || !slices.IsSorted(out.Gone) {
		t.Errorf("bulk: %v, gone: %q", out.Bulk, out.Gone)
	}
	w.want(wanted(left))
	if held := w.sync.Held(); held.Count != 0 || held.Digest != "" {
		t.Errorf("held: %+v", held)
	}
}

func TestUnchangedIsAnAnswer(t *testing.T) {
	w := doubtful(t, 30)
	unchanged := func() outcome {
		t.Helper()
		w.sync.Ask()
		w.now++
		out, err := w.sync.Unchanged(t.Context(), w.revision())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	w.quiet(func() { wantOutcome(t, unchanged(), outcome{Resources: 30}) })
	w.quiet(func() {
		wantOutcome(t, w.apply(), outcome{Held: 30})
		wantOutcome(t, unchanged(), outcome{Held: 30})
	})
	w.now += delay
	wantOutcome(t, unchanged(), outcome{Removed: 30})
	w.want(nil)
	w.quiet(func() { wantOutcome(t, unchanged(), outcome{}) })
}

func TestEachRemovalHasItsOwnTime(t *testing.T) {
	w := doubtful(t, 40)
	wantOutcome(t, w.apply(items(30, 40)...), outcome{Resources: 10, Held: 30})
	since := w.now
	w.now += delay / 2
	// 10 to 19 are back; 30 to 34 are missing for the first time.
	second := append(items(10, 20), items(35, 40)...)
	wantOutcome(t, w.apply(second...), outcome{Resources: 15, Held: 25})
	if held := w.sync.Held(); held.Count != 25 || held.Since != since || held.Joined != w.now ||
		held.Due != since+delay {
		t.Errorf("held: %+v at %v", held, w.now)
	}
	w.now += delay / 2
	wantOutcome(t, w.apply(items(35, 40)...), outcome{Resources: 5, Removed: 20, Held: 15}) // 10 to 19 are missing anew
	w.want(wanted(append(items(35, 40), append(items(30, 35), items(10, 20)...)...)))
	w.now += delay / 2
	wantOutcome(t, w.apply(items(35, 40)...), outcome{Resources: 5, Removed: 5, Held: 10})
	w.now += delay / 2
	wantOutcome(t, w.apply(items(35, 40)...), outcome{Resources: 5, Removed: 10})
}

func TestASourceThatRecoversLosesNothing(t *testing.T) {
	w := newWorld(t)
	all := items(0, 40)
	w.apply(all...)
	w.quiet(func() {
		for range 3 { // each empty answer counts as the first
			wantOutcome(t, w.applyLater(), outcome{Held: 40})
			wantOutcome(t, w.applyLater(all...), outcome{Resources: 40})
		}
	})
}

func TestHeldRemovalsAreNotMadeByAFetchThatFailed(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 40)...)
	w.apply()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.now += delay
	w.sync.Ask()
	if _, err := w.sync.Apply(ctx, catalogue.Answer{}, w.revision()); err == nil {
		t.Fatal("Apply succeeded though its context had ended")
	}
	w.want(wanted(items(0, 40)))
	wantOutcome(t, w.apply(items(30, 40)...),
		outcome{Resources: 10, Removed: 30}) // they are held as before
}

// The write fails in which confirmed removals are made; what is back is remembered all the same.
func TestWhatIsBackIsForgottenThoughTheAnswerCouldNotBeWritten(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 40)...)
	w.apply(items(30, 40)...)
	w.now += delay
	w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
		if then[0].GetRequestDeleteRange() != nil {
			return errLost
		}
		return nil
	}}
	w.sync.Ask()
	_, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: append(items(0, 8), items(30, 40)...)}, w.revision())
	if !errors.Is(err, errLost) {
		t.Fatalf("Apply: %v", err)
	}
	w.store.Etcd = txn.New(client)
	wantOutcome(t, w.apply(items(38, 40)...),
		outcome{Resources: 2, Removed: 22, Held: 16}) // 8 of them were back, and 8 are new
}

func TestASuccessorTakesOverForHowLongTheSameWasHeld(t *testing.T) {
	digest := func(w *world) string { return w.sync.Held().Digest }
	for _, tt := range []struct {
		name        string
		joined      time.Duration
		answer      int // how many of 40 are left in the successor's first answer
		held        int
		since, ages time.Duration // what is held after that
	}{
		{"the same, for long enough", delay, 10, 0, 0, 0},
		{"the same, for a while", delay / 2, 10, 30, 2 * delay, delay / 2},
		{"the same, by a clock that was ahead", -time.Hour, 10, 30, 2 * delay, 0},
		{"others", delay, 9, 31, 0, 0},
		{"fewer", delay, 11, 29, 0, 0},
		{"none", delay, 0, 40, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(items(0, 40)...)
			w.apply(items(0, 10)...)
			before := digest(w)
			w.elect()
			w.sync.Inherit(before, 2*delay, tt.joined)
			at := w.now
			out := w.apply(items(0, tt.answer)...)
			wantOutcome(t, out, outcome{Resources: tt.answer, Held: tt.held, Removed: 40 - tt.answer - tt.held})
			if held := w.sync.Held(); tt.held > 0 && (w.now-held.Joined-tt.ages > 1 || at-held.Since-tt.since > 1) {
				t.Errorf("held for %v, the last for %v", w.now-held.Since, w.now-held.Joined)
			}
			w.elect() // what is inherited counts for the first answer only
			w.sync.Inherit(before, 2*delay, delay)
			w.apply(items(0, 39)...)
			wantOutcome(t, w.apply(items(0, tt.answer)...), outcome{Resources: tt.answer, Held: w.sync.Held().Count})
		})
	}
}

func TestWhatIsHeldForGoodIsRemovedOnceItIsAccepted(t *testing.T) {
	w := newWorld(t)
	w.rules.Hold = true
	w.elect()
	w.apply(items(0, 200)...)
	w.quiet(func() {
		for range 3 {
			wantOutcome(t, w.applyLater(items(0, 50)...), outcome{Resources: 50, Held: 150})
		}
	})
	held := w.sync.Held()
	if held.Count != 150 || len(held.First) != 100 || held.First[0] != "r0050" || held.First[99] != "r0149" ||
		!slices.IsSorted(held.First) {
		t.Errorf("held: %+v", held)
	}
	out, err := w.sync.Accept(t.Context(), held.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if out.Removed != 150 || !out.Bulk || !slices.Equal(out.Gone, held.First) {
		t.Errorf("accepted: %+v", out)
	}
	w.want(wanted(items(0, 50)))
	w.quiet(func() { wantOutcome(t, w.apply(items(0, 50)...), outcome{Resources: 50}) })
	w.quiet(func() { // an accepted set is no permission for another one
		wantOutcome(t, w.apply(), outcome{Held: 50})
		if out, err := w.sync.Accept(t.Context(), held.Digest); !errors.Is(err, catalogue.ErrOtherSet) {
			t.Errorf("accepted once more: %+v, %v", out, err)
		}
	})
}

func TestOnlyTheSetThatWasLookedAtIsAccepted(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 40)...)
	if _, err := w.sync.Accept(t.Context(), ""); !errors.Is(err, catalogue.ErrOtherSet) {
		t.Errorf("Accept of nothing: %v", err)
	}
	w.apply(items(0, 10)...)
	looked := w.sync.Held().Digest
	w.apply(items(0, 9)...) // one id more
	w.quiet(func() {
		if out, err := w.sync.Accept(t.Context(), looked); !errors.Is(err, catalogue.ErrOtherSet) {
			t.Errorf("Accept of one less: %+v, %v", out, err)
		}
	})
	w.apply(items(0, 10)...) // it is back: the same set, at another time
	out, err := w.sync.Accept(t.Context(), looked)
	if err != nil || out.Removed != 30 {
		t.Errorf("Accept of what is held: %+v, %v", out, err)
	}
	w.want(wanted(items(0, 10)))
}

func TestAcceptLeavesWhatWasWrittenSinceTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.apply(items(0, 40)...)
	w.apply()
	w.allocate(item("r0001", `"v":2`), true)
	w.deallocate("r0002")
	out, err := w.sync.Accept(t.Context(), w.sync.Held().Digest)
	if err != nil || out.Removed != 38 {
		t.Errorf("Accept: %+v, %v", out, err)
	}
	w.want(map[string]catalogue.Entry{
		"r0001": {FromSource: true, Allocated: true, OwnData: true, Data: item("r0001", `"v":2`).Data},
		"r0002": {FromSource: true, Suspended: true, Data: item("r0002").Data},
	})
	if held := w.sync.Held(); held.Count != 0 {
		t.Errorf("held: %+v", held)
	}
}

func TestAcceptThatFailedIsFinished(t *testing.T) {
	for _, by := range []string{"Accept", "the next answer"} {
		t.Run("by "+by, func(t *testing.T) {
			w := newWorld(t)
			w.rules.Hold = true
			w.elect()
			w.apply(items(0, 600)...)
			w.apply(items(0, 10)...)
			digest := w.sync.Held().Digest
			var mu sync.Mutex
			writes := 0
			w.store.Etcd = faulty{Committer: txn.New(client), before: func(then []*pb.RequestOp) error {
				mu.Lock()
				defer mu.Unlock()
				if writes++; writes > 1 && then[0].GetRequestDeleteRange() != nil {
					return errLost
				}
				return nil
			}}
			if _, err := w.sync.Accept(t.Context(), digest); !errors.Is(err, errLost) {
				t.Fatalf("Accept: %v", err)
			}
			w.store.Etcd = txn.New(client)
			if by == "Accept" {
				if _, err := w.sync.Accept(t.Context(), digest); err != nil {
					t.Errorf("Accept again: %v", err)
				}
			} else {
				w.apply(items(0, 10)...)
			}
			w.want(wanted(items(0, 10)))
			if held := w.sync.Held(); held.Count != 0 {
				t.Errorf("held: %+v", held)
			}
		})
	}
}
