package calls_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
)

// The new instance of a service may know how to check, as after an update.
func TestAnotherInstanceIsAskedToCheckAgain(t *testing.T) {
	for name, restarts := range map[string]bool{"another instance": true, "the same one": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &service{instance: "one"}
				u := v.user()
				asked := map[string]int{}
				u.checks = patient
				u.check = func(ctx context.Context, _ calls.Claim) calls.Checked {
					instance, _ := u.instance(ctx)
					asked[instance]++
					return calls.Checked{OK: instance == "two", Unsupported: instance == "one"}
				}
				s := newStage(t, u)
				s.Handle(s.clock.Now(), handle("a"), s.lease)
				s.run(time.Minute)
				synctest.Wait()
				if asked["one"] != 1 {
					t.Errorf("it was asked %d times", asked["one"])
				}
				if restarts {
					v.restart("two", nil)
				}
				s.Handle(s.clock.Now(), handle("b"), s.lease)
				s.run(time.Minute)
				synctest.Wait()
				if asked["one"] != 1 || (asked["two"] > 1) != restarts {
					t.Errorf("they were asked %v", asked)
				}
			})
		})
	}
}

// The answer of the instance before, which could not check, comes late.
func TestALateAnswerDoesNotEndTheChecksOfAnotherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, let, asked := &service{instance: "one"}, make(chan struct{}), 0
		u := v.user()
		u.checks = patient
		u.checks.Timeout = time.Hour
		u.check = func(context.Context, calls.Claim) calls.Checked {
			if asked++; asked > 1 {
				return calls.Checked{OK: true}
			}
			<-let
			return calls.Checked{Unsupported: true}
		}
		s := newStage(t, u)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Minute)
		v.restart("two", nil)
		s.Handle(s.clock.Now(), handle("b"), s.lease)
		s.run(time.Second)
		close(let)
		s.run(time.Minute)
		synctest.Wait()
		if asked < 3 {
			t.Errorf("checked %d times", asked)
		}
	})
}

// Of instances that take turns, none is asked again: it would be all the time.
func TestInstancesThatTakeTurnsAreNotAskedToCheckAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, asked := &service{instance: "one"}, 0
		u := v.user()
		u.checks = patient
		u.check = func(context.Context, calls.Claim) calls.Checked {
			asked++
			return calls.Checked{Unsupported: true}
		}
		s := newStage(t, u)
		for i := range 20 {
			v.restart(among(2)(i), nil)
			s.Handle(s.clock.Now(), handle("a"), s.lease)
			s.run(time.Minute)
		}
		synctest.Wait()
		if asked > 3 {
			t.Errorf("asked %d times", asked)
		}
	})
}
