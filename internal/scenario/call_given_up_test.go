package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// A call that hangs is given up, and another member handles the resource. Before that member's Handle begins, the old
// handling is over, whichever call hung.
func TestNothingOfACallThatIsGivenUpGoesOn(t *testing.T) {
	t.Parallel()
	for _, hung := range []string{"handle", "update", "terminate"} {
		t.Run(hung, func(t *testing.T) {
			t.Parallel()
			w, seen := newWorld(t), &witness{}
			hangs, release := make(chan struct{}), make(chan struct{})
			hang := func(call string) {
				if call == hung {
					close(hangs)
					<-release
				}
			}
			a := w.config("a", handler.New(handler.Funcs{
				Handle: func(ctx context.Context, c drm.Claim) error {
					seen.saw(ctx, c)
					hang("handle")
					return nil
				},
				Update:    func(context.Context, drm.Claim) error { hang("update"); return nil },
				Terminate: func(context.Context, drm.Claim) error { hang("terminate"); return nil },
			}))
			a.HandleTimeout, a.TerminateTimeout = 100*time.Millisecond, 100*time.Millisecond
			a.LeaseTTL = time.Minute // so long that no lease ends in this test
			taken := make(chan given, 1)
			w.start(w.config("b", handler.New(handler.Funcs{Handle: func(context.Context, drm.Claim) error {
				if old, ok := seen.of("a", "r"); ok {
					taken <- old
					if !old.isOver() {
						t.Errorf("b begins to handle while a's handling is alive: %v", old)
					}
				}
				return nil
			}})))
			stuck := w.probe(w.start(a)).Stuck
			t.Cleanup(func() { // a stops next, and would leave the call behind; b keeps r, so that a begins no other
				close(release)
				await(t, "the call that hung returns", func() bool { return stuck() == 0 })
			})
			w.pin("a", "r")
			w.allocate("r")
			await(t, "a handles r", func() bool { _, ok := seen.of("a", "r"); return ok })
			if hung == "update" {
				if err := w.client().Allocate(t.Context(), drm.Resource{
					ID: "r", Data: json.RawMessage(`{"id":"r","v":2}`),
				}); err != nil {
					t.Fatal(err)
				}
				<-hangs
			}
			w.pin("b", "r")
			select {
			case <-taken:
			case <-time.After(patience):
				t.Fatal("b does not take over")
			}
			// The context of the Handle that hangs ended before, by its timeout.
			if old, _ := seen.of("a", "r"); !errors.Is(context.Cause(old.ctx), drm.CauseGivenUp) && hung != "handle" {
				t.Errorf("the context ended because of %v", context.Cause(old.ctx))
			}
		})
	}
}

// A claim is deleted by hand while Terminate runs, or while a Handle that was cancelled for another reason has not
// returned. The member ends at once what it can, without waiting for the call.
func TestALostClaimIsActedUponDuringTerminate(t *testing.T) {
	t.Parallel()
	for _, during := range []string{"terminate", "a handle that was cancelled"} {
		t.Run(during, func(t *testing.T) {
			t.Parallel()
			w, seen := newWorld(t), &witness{}
			busy, release := make(chan struct{}), make(chan struct{})
			w.start(w.config("a", handler.New(handler.Funcs{
				Handle: func(ctx context.Context, c drm.Claim) error {
					seen.saw(ctx, c)
					if during != "terminate" {
						<-ctx.Done()
						close(busy)
						<-release
					}
					return nil
				},
				Terminate: func(ctx context.Context, c drm.Claim) error {
					if during == "terminate" {
						close(busy)
						<-release
						if ctx.Err() != nil {
							t.Errorf("the context of Terminate, which is to clean up, ended: %v", context.Cause(ctx))
						}
					}
					return nil
				},
			})))
			t.Cleanup(func() { close(release) })
			w.start(w.config("b", handler.New(handler.Funcs{})))
			w.pin("a", "r")
			w.allocate("r")
			await(t, "a handles r", func() bool { _, ok := seen.of("a", "r"); return ok })
			w.pin("b", "r")
			<-busy
			if g, _ := seen.of("a", "r"); !g.claim.Valid() {
				t.Errorf("the claim is this member's until Terminate has returned: %v", g)
			}
			if _, err := w.etcd.Delete(t.Context(), claimOf("r")); err != nil {
				t.Fatal(err)
			}
			await(t, "nothing of a's handling is alive", func() bool { g, _ := seen.of("a", "r"); return g.isOver() })
		})
	}
}
