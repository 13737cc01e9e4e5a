package scenario_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	values "github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// group returns the app's members as etcd has them.
func (w *world) group() *membership.View {
	w.tb.Helper()
	g, err := membership.Find(w.tb.Context(), w.etcd, drm.DefaultPrefix, w.app)
	if err != nil {
		w.tb.Fatal(err)
	}
	v, err := g.Read(w.tb.Context(), w.etcd)
	if err != nil {
		w.tb.Fatal(err)
	}
	return v
}

// held counts what each member handles.
func (r *recorder) held() map[string]int {
	all := map[string]int{}
	for _, m := range r.holders() {
		all[m]++
	}
	return all
}

func TestAFreshAppIsEvenFromTheFirstClaimOn(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(9)...)
	var starting sync.WaitGroup
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.Retriever, cfg.AllocateOnly, cfg.MinMembers = src, false, 3
		starting.Go(func() { w.start(cfg) })
	}
	starting.Wait()
	r.until("all is handled", func() bool { return len(r.holders()) == 9 })
	for m, n := range r.held() {
		if n != 3 {
			t.Errorf("%s has %d of 9", m, n)
		}
	}
	for _, id := range ids(9) {
		if n := r.count("handle", id); n != 1 {
			t.Errorf("%s was handled %d times", id, n)
		}
	}
}

func TestAnUnevenAppBecomesEvenOnceItIsQuiet(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.BalanceAfter = time.Second
		w.start(cfg)
	}
	w.allocate(ids(30)...)
	r.until("no member has more than its fair share and a shard", func() bool {
		most, all := 0, 0
		for _, n := range r.held() {
			most, all = max(most, n), all+n
		}
		return all == 30 && most <= 12
	})
}

func TestAJoinMovesTheNewMembersShareAndNothingElse(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	const n = 300
	w.members(r, newSource(ids(n)...), "a", "b", "c")
	r.until("all is handled and said", func() bool { return len(r.holders()) == n && settled(t, w) && w.loadsSaid(n) })
	before := r.holders()
	w.members(r, newSource(ids(n)...), "d")
	r.until("d has its share", func() bool { return len(r.holders()) == n && r.held()["d"] >= n/4-10 && settled(t, w) })
	for id, m := range r.holders() {
		if m != before[id] && m != "d" {
			t.Errorf("%s went from %s to %s", id, before[id], m)
		}
	}
	if got := r.held()["d"]; got > n/4+10 {
		t.Errorf("d has %d of %d", got, n)
	}
}

// loadsSaid says whether the members have said that their shards weigh so many resources together.
func (w *world) loadsSaid(n int) bool {
	total := int64(0)
	for _, kv := range w.keysWith("/loads/") {
		total += loadOf(w.tb, kv.Value)
	}
	return total == int64(n)*1000
}

func TestADrainIsPacedAndEndsEvenly(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	const n = 200
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.Retriever, cfg.AllocateOnly = newSource(ids(n)...), false
		cfg.MaxMoving, cfg.MaxMovingPerMember = 20, 10
		w.start(cfg)
	}
	r.until("all is handled and said", func() bool { return len(r.holders()) == n && settled(t, w) && w.loadsSaid(n) })
	before := r.holders()
	if err := w.client().Drain(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if v := w.group(); v.Drains["b"].Keeps == nil {
		t.Error("the drain keeps nothing: it is not paced")
	}
	r.until("b has nothing", func() bool { return len(r.holders()) == n && r.held()["b"] == 0 })
	for id, m := range before {
		if m != "b" && r.holders()[id] != m {
			t.Errorf("%s, which %s had, moved", id, m)
		}
	}
	for _, m := range []string{"a", "c"} {
		if got := r.held()[m]; got > 110 {
			t.Errorf("%s has %d of %d", m, got, n)
		}
	}
}

func TestAStopInOrderMovesWhatTheMemberHadAndNothingTwice(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	const n = 300
	all := w.members(r, newSource(ids(n)...), "a", "b", "c", "d")
	r.until("all is handled and said", func() bool { return len(r.holders()) == n && settled(t, w) && w.loadsSaid(n) })
	before, handled := r.holders(), map[string]int{}
	for id := range before {
		handled[id] = r.count("handle", id)
	}
	w.stop(all["b"])
	r.until("the others have it", func() bool { return len(r.holders()) == n && settled(t, w) })
	for id, m := range before {
		now, again := r.holders()[id], r.count("handle", id)-handled[id]
		if m != "b" && (now != m || again != 0) || m == "b" && again != 1 {
			t.Errorf("%s went from %s to %s and was handled %d times more", id, m, now, again)
		}
	}
	for m, got := range r.held() {
		if got > 110 {
			t.Errorf("%s has %d of %d", m, got, n)
		}
	}
}

func TestWithoutBalanceTheRingDecides(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	for _, id := range []string{"a", "b", "c"} {
		cfg := w.config(id, r)
		cfg.Retriever, cfg.AllocateOnly, cfg.BalanceMoves = newSource(ids(9)...), false, drm.NoBalance
		w.start(cfg)
	}
	r.until("all is handled", func() bool { return len(r.holders()) == 9 })
	if v := w.group(); len(v.Exceptions) != 0 {
		t.Errorf("exceptions: %+v", v.Exceptions)
	}
}

func TestResourcesCountByTheirWeight(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource()
	answer := resources(ids(13)...)
	for i := range answer {
		weight := 1
		if i == 0 {
			weight = 12
		}
		answer[i].Data = fmt.Appendf(nil, `{"id":%q,"load":%d}`, answer[i].ID, weight)
	}
	src.set(answer, nil)
	var starting sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.Retriever, cfg.AllocateOnly, cfg.WeightField, cfg.MinMembers = src, false, "load", 2
		starting.Go(func() { w.start(cfg) })
	}
	starting.Wait()
	r.until("all is handled", func() bool { return len(r.holders()) == 13 && settled(t, w) })
	if held := r.held(); len(held) != 2 || held[r.holders()["r0"]] > 2 {
		t.Errorf("the member with the heavy resource has %v", held)
	}
}

// loadOf adds up what a member says that its shards weigh.
func loadOf(tb testing.TB, value []byte) (total int64) {
	tb.Helper()
	l, err := values.DecodeLoads(value, 4096)
	if err != nil {
		tb.Fatal(err)
	}
	for _, load := range l.Shards {
		total += load
	}
	return total
}

// A new leader of etcd lets the leases of orders begin anew. Here the orders have no lease at all.
func TestTheCoordinatorEndsOrdersThatEtcdDoesNot(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.start(w.config("a", r))
	w.start(w.config("b", r))
	layout := keys.New(drm.DefaultPrefix, w.app)
	over := membership.Restriction{Until: time.Now().Add(-time.Hour)}.Encode()
	stands := membership.Restriction{Until: time.Now().Add(time.Hour)}.Encode()
	for key, order := range map[string]string{
		layout.Drain("a"): over, layout.Cordon("b"): over, layout.Cordon("c"): stands,
	} {
		if _, err := w.etcd.Put(t.Context(), key, order); err != nil {
			t.Fatal(err)
		}
	}
	r.until("what is over has ended", func() bool { v := w.group(); return len(v.Drains)+len(v.Cordons) == 1 })
	if v := w.group(); v.Cordons["c"].Until.IsZero() {
		t.Errorf("cordons %v, want that of c", v.Cordons)
	}
}
