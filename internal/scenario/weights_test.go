package scenario_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/membership"
)

// weightsOf returns how many slots a member has, its own weight, and the one that counts.
func (w *world) weightsOf(id string) (holds, own, counts int) {
	v := w.group()
	return v.Members[id].Holds(), v.Members[id].Weight, v.WeightOf(id)
}

func (w *world) wantWeights(r *recorder, what, id string, holds, own, counts int) {
	w.tb.Helper()
	r.until(what, func() bool {
		h, o, c := w.weightsOf(id)
		return h == holds && o == own && c == counts
	})
}

func TestAMembersWeightChangesLiveAndOnlyItsShareMoves(t *testing.T) {
	t.Parallel()
	const n = 200
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	all := map[string]*drm.Manager{}
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.BalanceMoves = drm.NoBalance
		all[id] = w.start(cfg)
	}
	w.calm(r, n)
	weigh := func(weight int, may func(from, to string) bool) {
		t.Helper()
		before := r.holders()
		must(t, all["b"].SetWeight(t.Context(), weight))
		if holds, own, counts := w.weightsOf("b"); own != weight || counts != weight || weight > 0 && holds != weight {
			t.Errorf("weight %d: %d slots, own weight %d, and %d counts", weight, holds, own, counts)
		}
		w.calm(r, n)
		for id, to := range r.holders() {
			if from := before[id]; from != to && !may(from, to) {
				t.Errorf("weight %d: %s went from %s to %s", weight, id, from, to)
			}
		}
	}
	takes := func(_, to string) bool { return to == "b" }
	gives := func(from, _ string) bool { return from == "b" }
	weigh(1000, takes)
	if has := len(r.of("b")); has < n*9/10 {
		t.Errorf("with a weight of 1,000 it has %d of %d", has, n)
	}
	weigh(40, gives)
	weigh(0, gives)
	if has := r.of("b"); len(has) > 0 {
		t.Errorf("with weight 0 it has %v", has)
	}
	weigh(2, takes)
	if err := all["b"].SetWeight(t.Context(), 1001); !isInputError(err, "weight") {
		t.Errorf("SetWeight(1001): %v", err)
	}
	w.stop(all["b"])
	if err := all["b"].SetWeight(t.Context(), 3); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("SetWeight after Stop: %v", err)
	}
}

func isInputError(err error, field string) bool {
	var input *drm.InputError
	return errors.As(err, &input) && input.Field == field
}

func TestAMemberKeepsItsWeightWhenItRegistersAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	m := w.members(r, nil, "a", "b")
	must(t, m["b"].SetWeight(t.Context(), 50))
	before := w.group().Members["b"]
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(before.Lease)); err != nil {
		t.Fatal(err)
	}
	r.until("it has registered again", func() bool {
		m := w.group().Members["b"]
		return m.CreateRevision > before.CreateRevision && m.State == membership.Active
	})
	w.wantWeights(r, "its weight is what it was", "b", 50, 50, 50)
	key, at := appLayout.Member("b"), w.group().Members["b"].CreateRevision
	first, err := w.etcd.Get(t.Context(), key, clientv3.WithRev(at))
	must(t, err)
	if value := string(first.Kvs[0].Value); !strings.Contains(value, `"exact_weight":50,`) &&
		!strings.Contains(value, `"exact_weight":50}`) {
		t.Errorf("it came back with another weight: %s", value)
	}
	must(t, m["b"].SetWeight(t.Context(), 3))
	w.wantWeights(r, "it can change again", "b", 3, 3, 3)
}

func TestAnOrderedWeightComesBeforeTheMembersOwn(t *testing.T) {
	t.Parallel()
	const n = 100
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	m := w.members(r, nil, "a", "b")
	w.calm(r, n)
	c := w.client()
	must(t, c.SetWeight(t.Context(), "b", 100, drm.OrderOptions{By: "ann"}))
	w.wantWeights(r, "it has what was ordered", "b", 100, 1, 100)
	w.calm(r, n)
	if has := len(r.of("b")); has < n*8/10 {
		t.Errorf("with a weight of 100 it has %d of %d", has, n)
	}
	must(t, m["b"].SetWeight(t.Context(), 7))
	w.wantWeights(r, "its own weight changes nothing meanwhile", "b", 100, 7, 100)
	if got := w.member("b"); got.Weight != 7 || got.Ordered == nil || *got.Ordered != 100 || len(got.Blocks) != 1 {
		t.Errorf("Members: %+v", got)
	}
	must(t, c.ResetWeight(t.Context(), "b"))
	w.wantWeights(r, "it has its own weight again", "b", 7, 7, 7)

	// A member that comes while such an order stands has that weight from the beginning, and says so.
	must(t, c.SetWeight(t.Context(), "c", 5, drm.OrderOptions{Absent: true, Why: "new"}))
	core, logs := observer.New(zap.InfoLevel)
	cfg := w.config("c", r)
	cfg.Logger = zap.New(core)
	w.start(cfg)
	w.wantWeights(r, "it has what was ordered", "c", 5, 1, 5)
	r.until("it says so", func() bool {
		return logs.FilterLevelExact(zap.WarnLevel).FilterMessageSnippet("another weight is ordered").Len() == 1
	})
}

func TestAMemberOfWeight0HoldsNothing(t *testing.T) {
	t.Parallel()
	const n = 100
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	w.members(r, nil, "a", "b")
	w.calm(r, n)
	c := w.client()
	had := r.of("b")
	must(t, c.SetWeight(t.Context(), "b", 0, drm.OrderOptions{}))
	r.until("b has nothing", func() bool { return len(r.of("b")) == 0 && len(r.of("a")) == n })
	if err := c.SetWeight(t.Context(), "a", 0, drm.OrderOptions{}); !errors.Is(err, drm.ErrLastMember) {
		t.Errorf("weight 0 of the last member: %v", err)
	}
	if err := c.Drain(t.Context(), "a"); !errors.Is(err, drm.ErrLastMember) {
		t.Errorf("a drain of the last member: %v", err)
	}
	must(t, c.ResetWeight(t.Context(), "b"))
	w.calm(r, n)
	if has := len(r.of("b")); has < len(had)/2 {
		t.Errorf("it had %d, and has %d after that", len(had), has)
	}
}

// A weight that comes while the member stops neither makes it active again, nor ends the wait for its return.
func TestAWeightDuringAStopDoesNotBringTheMemberBack(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(50)
	w.members(r, nil, "a")
	for i := range 4 {
		cfg := w.config("b", r)
		cfg.Rejoin = time.Minute
		b := w.startOnly(cfg)
		w.calm(r, 50)
		ctx, cancel := context.WithCancel(t.Context())
		var weighing sync.WaitGroup
		for k := range 2 {
			weighing.Go(func() {
				for n := 1; ctx.Err() == nil; n++ {
					if err := b.SetWeight(ctx, 1+(n+k)%5); err != nil {
						return
					}
				}
			})
		}
		hasty, hurry := context.WithCancel(t.Context())
		if i == 3 {
			hurry() // Stop does not wait for what the member is doing
		}
		_ = b.Stop(hasty)
		hurry()
		cancel()
		weighing.Wait()
		v := w.group()
		if m, there := v.Members["b"]; there && m.State != membership.Leaving {
			t.Fatalf("after a stop it is %s", m.State)
		}
		if _, awaited := v.Awaited("b"); !awaited && i < 3 {
			t.Fatal("its shards do not wait for it")
		}
		r.until("its key is gone", func() bool { _, there := w.group().Members["b"]; return !there })
	}
}

// A newcomer of weight 0 that is not ready needs no slots, however few members are ready. It does not ask for any again
// and again.
func TestANewcomerOfWeight0ThatIsNotReadyLeavesItsKeyAlone(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	for _, id := range []string{"a", "b"} {
		if id == "b" {
			must(t, w.client().SetWeight(t.Context(), id, 0, drm.OrderOptions{Absent: true}))
		}
		cfg := w.config(id, r)
		cfg.Ready, cfg.ReadyInterval = (&health{err: errSick}).ready, 100*time.Millisecond
		w.start(cfg)
		r.until("it is unready", func() bool { return w.group().Members[id].State == membership.Unready })
	}
	if v := w.group(); !v.UnreadyIgnored() || v.Owner(0) != "a" {
		t.Fatalf("unreadiness is ignored: %v, shard 0 is %q's", v.UnreadyIgnored(), v.Owner(0))
	}
	for range 30 { // each makes a view, by which the member looks at its key
		w.put(appLayout.Drain("nobody"), "")
	}
	w.put(appLayout.Weight("b"), membership.WeightOrder{Weight: 3}.Encode())
	w.wantWeights(r, "it takes the slots of another weight", "b", 3, 1, 3)
	key, err := w.etcd.Get(t.Context(), appLayout.Member("b"))
	must(t, err)
	if writes := key.Kvs[0].Version; writes > 5 {
		t.Errorf("it has written its key %d times", writes)
	}
}

// If etcd carries out late what the member has written before it got its weight, the member writes that again.
func TestAWriteThatComesLateTakesNoWeightAway(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	m := w.members(r, nil, "a", "b")
	earlier, lease := w.get(appLayout.Member("b"))
	must(t, m["b"].SetWeight(t.Context(), 50))
	w.put(appLayout.Member("b"), earlier, clientv3.WithLease(clientv3.LeaseID(lease)))
	w.wantWeights(r, "it has its weight again", "b", 50, 50, 50)
}
