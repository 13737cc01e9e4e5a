package scenario_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestAFailedHandleIsReportedAndTriedAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var left atomic.Int32
	left.Store(3)
	r.onHandle = func(context.Context, drm.Claim) error {
		if left.Add(-1) >= 0 {
			return errors.New("the other end is down")
		}
		return nil
	}
	ms := w.members(r, nil, "a")
	if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ms["a"].Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if h, f, e := r.count("handle", ""), r.count("handle_failed", ""), r.count("terminate", ""); h != 4 || f != 3 ||
		e != 0 {
		t.Errorf("%d handles, %d failures told, %d terminates; want 4, 3 and 0", h, f, e)
	}
}

func TestAFailedResourceShowsWhyAndIsNotHeld(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	r.onHandle = func(context.Context, drm.Claim) error { return errors.New("no luck") }
	cfg := w.config("a", r)
	cfg.HandleAttempts = 2
	m := w.start(cfg)
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	c := w.client()
	r.until("it has failed for good", func() bool {
		all, err := c.Assignments(t.Context(), drm.AssignmentFilter{Failed: true})
		return err == nil && len(all) == 1 && all[0].Error == "no luck" && r.count("handle_failed", "") == 2
	})
	if len(m.Held()) != 0 {
		t.Error("a failed resource counts as held")
	}
	_ = waitSays(t, "no luck", func(ctx context.Context) error {
		_, err := m.Wait(ctx, "x")
		return err
	})
}

func TestOneBadResourceHurtsNoOther(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	release := make(chan struct{})
	r.onHandle = func(ctx context.Context, c drm.Claim) error {
		switch c.Resource.ID {
		case "panics":
			panic("boom")
		case "hangs":
			<-release // ignores its context
		case "slow":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	cfg := w.config("a", r)
	cfg.HandleTimeout, cfg.TerminateTimeout, cfg.HandleConcurrency = 50*time.Millisecond, 50*time.Millisecond, 2
	m := w.start(cfg)
	for _, id := range append([]string{"panics", "hangs", "slow"}, ids(20)...) {
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids(20) {
		if _, err := m.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.until("the slow one is terminated after its timeout, and tried again", func() bool {
		return r.count("terminate", "slow") >= 1 && r.count("handle", "slow") >= 2
	})
	r.until("the panic is terminated, and tried again", func() bool {
		return r.count("terminate", "panics") >= 1 && r.count("handle", "panics") >= 2
	})
	if r.count("handle", "hangs") != 1 {
		t.Error("a resource whose call has not returned was handled again")
	}
	close(release)
	r.until("the one that hung is cleaned up", func() bool { return r.count("terminate", "hangs") >= 1 })
}

func TestStopIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRecorder(t)
	release, entered := make(chan struct{}), make(chan struct{})
	r.onTerminate = func(context.Context, drm.Claim) error { close(entered); <-release; return nil }
	m, err := w.tryStart(t.Context(), w.config("a", r))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if err := m.Stop(ctx); err == nil ||
		!strings.Contains(err.Error(), "1 of 1 claims, which expire by themselves: 1 in a call of the handler") {
		t.Errorf("Stop with a call that hangs says %v", err)
	}
	a, err := w.client().Lookup(t.Context(), "x")
	if err != nil || a.Token == 0 {
		t.Errorf("the claim of what is still being terminated was given away: %+v, %v", a, err)
	}
	close(release)
}

func TestCallbacksMayCallTheManager(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var m atomic.Pointer[drm.Manager]
	started := make(chan struct{})
	r.onHandle = func(ctx context.Context, c drm.Claim) error {
		<-started
		if c.Resource.ID == "first" {
			m.Load().Held()
			if err := m.Load().Allocate(ctx, drm.Resource{ID: "second"}); err != nil {
				return err
			}
			_, err := m.Load().Wait(ctx, "second")
			return err
		}
		return nil
	}
	r.onTerminate = func(ctx context.Context, c drm.Claim) error {
		if c.Resource.ID == "first" {
			return m.Load().Deallocate(ctx, "second")
		}
		return nil
	}
	m.Store(w.members(r, nil, "a")["a"])
	close(started)
	if err := m.Load().Allocate(t.Context(), drm.Resource{ID: "first"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Load().Wait(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if err := m.Load().Deallocate(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	r.until("both have ended", allHeld(r, 0))
}

// keysWith returns the app's keys that contain a text.
func (w *world) keysWith(text string) []*mvccpb.KeyValue {
	w.tb.Helper()
	resp, err := w.etcd.Get(context.Background(), "/drm/app/", clientv3.WithPrefix())
	if err != nil {
		w.tb.Fatal(err)
	}
	return slices.DeleteFunc(resp.Kvs, func(kv *mvccpb.KeyValue) bool {
		return !strings.Contains(string(kv.Key), text)
	})
}

// deleteKeys deletes the app's keys that contain a text, by hand.
func (w *world) deleteKeys(containing string) {
	w.tb.Helper()
	for _, kv := range w.keysWith(containing) {
		if _, err := w.etcd.Delete(context.Background(), string(kv.Key)); err != nil {
			w.tb.Fatal(err)
		}
	}
}

func TestAMemberWhoseKeyWasDeletedRegistersAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(10)...), "a")
	r.until("all are handled", allHeld(r, 10))
	w.deleteKeys("group/members/a")
	r.until("all were terminated and are handled again", func() bool {
		return r.count("terminate", "") >= 10 && len(r.holders()) == 10
	})
}

func TestAClaimThatVanishedIsTerminatedAndClaimedAfresh(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, newSource("x"), "a")
	r.until("it is handled", allHeld(r, 1))
	before, err := ms["a"].Wait(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	w.deleteKeys("/claims/")
	r.until("it was terminated and is handled again", func() bool {
		return r.count("terminate", "x") == 1 && len(r.holders()) == 1
	})
	after, err := ms["a"].Wait(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if after.Token <= before.Token {
		t.Errorf("the token went from %d to %d", before.Token, after.Token)
	}
}

// This test revokes the leases of the claims, and then those of the members' keys.
// TestLosingAllLeasesAtOnceMakesNoStorm revokes both at once: there another member could claim what its owner does not
// know yet to be lost, if each did not make a random pause.
func TestRevokedLeasesAreRoutine(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	r.onTerminate = r.hasItsTime
	w.members(r, newSource(ids(20)...), "a", "b")
	// Before the group has settled, the next owner of a resource may wait for its claim already.
	r.until("two share all", func() bool { return allHeld(r, 20)() && settled(t, w) })
	for _, kind := range []string{"/claims/", "/group/members/"} {
		revoked := map[int64]bool{}
		for _, kv := range w.keysWith(kind) {
			if revoked[kv.Lease] {
				continue
			}
			revoked[kv.Lease] = true
			if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(kv.Lease)); err != nil {
				t.Fatal(err)
			}
		}
		r.until("all were terminated and are handled again", func() bool {
			for _, kv := range w.keysWith(kind) {
				if revoked[kv.Lease] {
					return false
				}
			}
			return r.count("terminate", "") >= 20 && len(r.holders()) == 20 && settled(t, w)
		})
	}
}

// A lease may end while a resource on it is being terminated for another reason. What the handler still has of the
// resource then, nobody else would ever end.
func TestATerminateThatTheEndOfItsLeaseCutShortFollowsAgain(t *testing.T) {
	t.Parallel()
	for policy, name := range map[drm.TerminatePolicy]string{
		drm.ReleaseAnyway: "release", drm.HoldUntilTerminated: "hold",
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			r.onTerminate = func(ctx context.Context, c drm.Claim) error {
				if c.Resource.ID != "x" || r.count("terminate", "x") > 1 {
					return r.hasItsTime(ctx, c)
				}
				<-ctx.Done()
				return ctx.Err()
			}
			cfg := w.config("a", r)
			cfg.TerminatePolicy = policy
			m := w.start(cfg)
			for _, id := range []string{"x", "y"} {
				if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			r.until("both are handled", allHeld(r, 2))
			claim := w.keysWith("/claims/")[0]
			if err := m.Deallocate(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			r.until("it is being terminated", func() bool { return r.count("terminate", "x") == 1 })
			if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(claim.Lease)); err != nil {
				t.Fatal(err)
			}
			r.until("only the other is handled, anew", func() bool {
				return len(r.holders()) == 1 && r.count("handle", "y") == 2 && len(m.Held()) == 1
			})
			if n, told := r.count("terminate", "x"), r.count("terminate_failed", "x"); n != 2 || told != 0 {
				t.Errorf("it was terminated %d times, and %d failures were told; want 2, and none", n, told)
			}
		})
	}
}

func TestWithoutItsConfigKeyAnAppClaimsNothing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, nil, "a")
	if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: "before"}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled", allHeld(r, 1))
	w.deleteKeys("app/config")
	if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: "after"}); !errors.Is(err, drm.ErrAppGone) {
		t.Errorf("Allocate in an app that is gone: %v", err)
	}
	if r.count("handle", "") != 1 || len(ms["a"].Held()) != 1 {
		t.Errorf("calls %v, held %v; want the one that was held to go on", r.all(), ms["a"].Held())
	}
	began := time.Now()
	w.stop(ms["a"])
	if took := time.Since(began); took > soon || r.count("terminate", "before") != 1 {
		t.Errorf("the member stopped after %v: %v", took, r.all())
	}
	if claim, _ := w.get(claimOf("before")); claim != "" {
		t.Errorf("left behind: %s", claim)
	}
}

func TestStopWithEtcdGoneTerminatesEverythingAndEnds(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embeddedtest.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w, r := worldAt(t, server.Endpoint()), newRecorder(t)
	cfg := w.config("a", r)
	cfg.LeaseTTL, cfg.Etcd.CommandTimeout = 2*time.Second, time.Second
	cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(10)...)
	m, err := w.tryStart(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.until("all are handled", allHeld(r, 10))
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	w.stop(m)
	if len(r.holders()) != 0 || r.count("terminate", "") != 10 {
		t.Errorf("calls: %v", r.all())
	}
}
