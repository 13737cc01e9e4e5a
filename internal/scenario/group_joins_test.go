package scenario_test

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestMembersThatJoinTogetherMoveNothingTwice(t *testing.T) {
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(60)...)
	c := w.client()
	var starting sync.WaitGroup
	for n, id := range []string{"a", "b", "c", "d", "e", "f"} {
		starting.Go(func() {
			cfg := w.config(id, r)
			cfg.JoinDelay, cfg.AllocateOnly, cfg.Retriever = 4*time.Second, false, src
			w.start(cfg)
		})
		r.until(id+" is registered", func() bool {
			all, err := c.Members(t.Context())
			return err == nil && len(all) > n
		})
	}
	starting.Wait()
	r.until("60 are shared by all", func() bool {
		by := map[string]bool{}
		for _, m := range r.holders() {
			by[m] = true
		}
		return len(r.holders()) == 60 && len(by) == 6 && settled(t, w)
	})
	// Had they joined one by one, 60/2 + 60/3 + … + 60/6 = 87 resources would have moved besides.
	if n := r.count("handle", ""); n > 75 {
		t.Errorf("%d calls of Handle for 60 resources", n)
	}
}

func TestALoneJoinDoesNotWait(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	began := time.Now()
	w.members(r, newSource(ids(20)...), "a")
	r.until("one has all, and not only since now", func() bool {
		return len(r.holders()) == 20 && time.Since(began) > 2*time.Second
	})
	cfg := w.config("b", r)
	cfg.JoinDelay = time.Minute
	joins := time.Now()
	w.start(cfg)
	r.until("two share all", func() bool {
		return r.count("terminate", "") > 0 && len(r.holders()) == 20 && settled(t, w)
	})
	if took := time.Since(joins); took >= cfg.JoinDelay {
		t.Errorf("they share all after %v", took)
	}
}

func TestAMemberThatIsStuckWhileJoiningHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	release := make(chan struct{})
	stuck := w.config("stuck", r)
	stuck.AllocateOnly, stuck.Retriever = false, &brokenSetup{
		setup: func() error { <-release; return context.Canceled },
	}
	var starting sync.WaitGroup
	starting.Go(func() {
		if _, err := w.tryStart(t.Context(), stuck); err == nil {
			t.Error("a setup that fails is not told")
		}
	})
	c := w.client()
	r.until("it is joining", func() bool {
		all, err := c.Members(t.Context())
		return err == nil && len(all) == 1 && all[0].State == "joining"
	})
	w.members(r, newSource(ids(20)...), "a")
	r.until("the other one has all", allHeld(r, 20))
	close(release)
	starting.Wait()
}
