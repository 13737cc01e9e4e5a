package scenario_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// registered says how many members there are in a state.
func (w *world) registered(state string) (n int) {
	w.tb.Helper()
	all, err := w.client().Members(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, m := range all {
		if m.State == state {
			n++
		}
	}
	return n
}

func TestAFormingGroupWaitsForMinMembersAndThenBeginsTogether(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(60)
	var starting sync.WaitGroup
	logger, logs := informed()
	health := new(drm.Health)
	for n, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.MinMembers, cfg.MinMembersWait = 3, time.Hour
		if n == 0 {
			cfg.Logger, cfg.Health = logger, health
		}
		starting.Go(func() { w.start(cfg) })
		if n == 2 {
			break
		}
		r.until(id+" is registered", func() bool { return w.registered("joining") == n+1 })
		if n == 0 { // long enough for a start that does not wait
			r.until("a says what it waits for", func() bool {
				return logs.FilterMessage("waiting for as many members as MinMembers says").Len() > 0
			})
			fields := line(t, logs, "waiting for as many members as MinMembers says").ContextMap()
			if fields["members"] != int64(1) || fields["min_members"] != int64(3) {
				t.Errorf("it logs %v", fields)
			}
			healthy(t, health, drm.HealthStarting, "as many members as MinMembers says", "members 1, min_members 3")
		}
		if calls := r.all(); len(calls) > 0 {
			t.Fatalf("with %d of 3 members: %v", n+1, calls)
		}
	}
	starting.Wait()
	r.until("three members share 60", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	// A member that begins before the others has all 60 first, and hands 40 of them over. On a busy machine one may be
	// a little late, and then some resources move.
	if n := r.count("handle", ""); n > 80 {
		t.Errorf("%d calls of Handle for 60 resources", n)
	}
	by := map[string]bool{}
	for _, m := range r.holders() {
		by[m] = true
	}
	if len(by) != 3 {
		t.Errorf("held by %v, want three members", by)
	}
	// The group has begun: nobody waits any more, however many are asked for.
	late := w.config("d", r)
	late.MinMembers, late.MinMembersWait = 1000, time.Hour
	w.start(late)
}

func TestWithTooFewMembersAGroupBeginsAfterAWhile(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(10)
	logger, logs := informed()
	cfg := w.config("a", r)
	cfg.MinMembers, cfg.MinMembersWait, cfg.Logger = 2, 300*time.Millisecond, logger
	w.start(cfg)
	r.until("it has all", allHeld(r, 10))
	told := line(t, logs, "fewer members than MinMembers have come in time").ContextMap()
	if told["members"] != int64(1) || told["min_members"] != int64(2) {
		t.Errorf("it logs %v", told)
	}
}

func TestAStartThatWaitsForMembersEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ctx, cancel := context.WithCancel(t.Context())
	logger, logs := informed()
	cfg := w.config("a", r)
	cfg.MinMembers, cfg.MinMembersWait, cfg.Logger = 2, time.Hour, logger
	var starting sync.WaitGroup
	starting.Go(func() {
		_, err := w.tryStart(ctx, cfg)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "as many members as MinMembers says") {
			t.Errorf("the start ended with %v", err)
		}
	})
	r.until("it waits", func() bool { return w.registered("joining") == 1 && logs.Len() > 0 })
	cancel()
	starting.Wait()
	if n := w.registered("joining"); n != 0 {
		t.Errorf("%d members are left", n)
	}
}
