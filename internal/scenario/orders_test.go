package scenario_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// of returns what a member handles, in order.
func (r *recorder) of(member string) []string {
	var all []string
	for id, m := range r.holders() {
		if m == member {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// calm waits until n resources are handled where they belong.
func (w *world) calm(r *recorder, n int) {
	w.tb.Helper()
	r.until("all is settled", func() bool { return len(r.holders()) == n && settled(w.tb, w) })
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestACordonedMemberKeepsWhatItHasAndTakesNothingNew(t *testing.T) {
	t.Parallel()
	const n = 200
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	start := func(id string) *drm.Manager {
		cfg := w.config(id, r)
		cfg.BalanceAfter = time.Second
		return w.start(cfg)
	}
	a, b, c := start("a"), start("b"), start("c")
	w.calm(r, n)
	client := w.client()
	had := r.of("b")
	hasNothingNew := func(when string) {
		t.Helper()
		w.calm(r, n)
		for _, id := range r.of("b") {
			if !slices.Contains(had, id) {
				t.Errorf("%s it has %s, which it had not", when, id)
			}
		}
	}
	must(t, client.Cordon(t.Context(), "b", drm.OrderOptions{By: "ann", Why: "slow"}))
	w.stop(c)
	hasNothingNew("after another has left,")
	if has := r.of("b"); !slices.Equal(has, had) {
		t.Errorf("after another has left, it has %d, before %d", len(has), len(had))
	}
	d := start("d")
	hasNothingNew("after another has joined,")
	w.stop(d)
	hasNothingNew("after that one has left,")
	w.stop(b)
	w.calm(r, n)
	start("b")
	hasNothingNew("after a restart")
	w.stop(a)
	r.until("it takes what there is, since nobody else does", func() bool { return len(r.of("b")) == n })
	start("a")
	hasNothingNew("since others are there again,")
	must(t, client.Uncordon(t.Context(), "b"))
	w.stop(start("e"))
	w.calm(r, n)
	if len(r.of("b")) == 0 {
		t.Error("it takes nothing, though it is uncordoned")
	}
}

func TestAMemberLogsTheOrdersAboutIt(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, nil, "a")
	c := w.client()
	orders := drm.OrderOptions{By: "ann", Why: "a new disk", For: time.Hour, Absent: true}
	must(t, c.DrainWith(t.Context(), "b", orders))
	must(t, c.Cordon(t.Context(), "b", orders))
	orders.For = 0
	must(t, c.Pin(t.Context(), 3, "b", orders))
	w.put(appLayout.Weight("b"), membership.WeightOrder{}.Encode())
	core, logs := observer.New(zap.InfoLevel)
	cfg := w.config("b", r)
	cfg.Logger = zap.New(core)
	w.start(cfg)
	for _, what := range []string{"drained by order", "cordoned by order"} {
		r.until("it says that it is "+what, func() bool { return logs.FilterMessageSnippet(what).Len() > 0 })
		said := logs.FilterMessageSnippet(what).All()[0]
		f := said.ContextMap()
		if said.Level != zap.WarnLevel || f["by"] != "ann" || f["why"] != "a new disk" || f["since"] == nil ||
			f["until"] == nil {
			t.Errorf("%s: %+v, %v", what, said, f)
		}
	}
	for what, level := range map[string]int{
		"the weight is 0 by order": int(zap.WarnLevel), "shards are pinned to this member by order": int(zap.InfoLevel),
	} {
		r.until("it says that "+what, func() bool { return logs.FilterMessageSnippet(what).Len() > 0 })
		if said := logs.FilterMessageSnippet(what).All()[0]; int(said.Level) != level {
			t.Errorf("%+v", said)
		}
	}
	must(t, c.Undrain(t.Context(), "b"))
	must(t, c.Uncordon(t.Context(), "b"))
	for _, what := range []string{"to be drained was taken back", "to be cordoned was taken back"} {
		r.until("it says: "+what, func() bool { return logs.FilterMessageSnippet(what).Len() > 0 })
	}
}

func TestADrainExpiresAndTheMemberHasItsShareAgain(t *testing.T) {
	t.Parallel()
	const n = 60
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	w.members(r, nil, "a", "b")
	w.calm(r, n)
	had := r.of("a")
	c := w.client()
	must(t, c.DrainWith(t.Context(), "a", drm.OrderOptions{For: 5 * time.Second, AtOnce: true}))
	r.until("it has nothing", func() bool { return len(r.of("a")) == 0 })
	r.until("it has its share again", func() bool { return slices.Equal(r.of("a"), had) && settled(t, w) })
	if orders, err := c.Orders(t.Context()); err != nil || len(orders) != 0 {
		t.Errorf("orders: %+v, %v", orders, err)
	}
}

func TestAWaitForADrainThatExpiresFails(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var hangs atomic.Bool
	release := make(chan struct{})
	r.onTerminate = func(context.Context, drm.Claim) error {
		if hangs.Load() {
			<-release
		}
		return nil
	}
	w.catalogueOf(20)
	w.members(r, nil, "a", "b")
	w.calm(r, 20)
	hangs.Store(true)
	c := w.client()
	must(t, c.DrainWith(t.Context(), "a", drm.OrderOptions{For: time.Second}))
	err := c.WaitDrained(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), "the order was taken back, or has expired") {
		t.Errorf("%v", err)
	}
	close(release)
}

func TestADrainedMemberLetsGoOfAFewShardsAtATime(t *testing.T) {
	t.Parallel()
	const n, most = 200, 20
	w, r := newWorld(t), newRecorder(t)
	var hangs atomic.Bool
	release := make(chan struct{})
	r.onHandle = func(ctx context.Context, _ drm.Claim) error {
		if hangs.Load() {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	}
	w.catalogueOf(n)
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.MaxMoving, cfg.MaxMovingPerMember = most, most
		w.start(cfg)
	}
	w.calm(r, n)
	had := r.of("a")
	for _, id := range []string{"a", "b"} { // the coordinator paces what it knows the load of
		r.until("the coordinator knows the load", func() bool {
			load, _ := w.get(appLayout.Load(id))
			return load != ""
		})
	}
	hangs.Store(true)
	c := w.client()
	must(t, c.Drain(t.Context(), "a"))
	r.until("some have gone", func() bool { return len(r.of("a")) < len(had) })
	var ended *drm.WaitError
	if err := c.WaitDrained(timeout(t, time.Second), "a"); !errors.As(err, &ended) || ended.Last == "" {
		t.Errorf("the wait ended: %v", err)
	}
	if has := r.of("a"); len(has) < len(had)-most {
		t.Errorf("it has %d, before %d, and no more than %d may be on their way", len(has), len(had), most)
	}
	if ms, err := c.Members(t.Context()); err != nil || ms[0].State != "draining" || ms[0].Shards == 0 {
		t.Errorf("%+v, %v", ms, err)
	}
	close(release)
	must(t, c.WaitDrained(t.Context(), "a"))
	w.calm(r, n)
	if has := r.of("a"); len(has) != 0 {
		t.Errorf("it has %d", len(has))
	}
}

func TestByForceNobodyHandlesAnything(t *testing.T) {
	t.Parallel()
	const n = 20
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	ms := w.members(r, nil, "a", "b")
	w.calm(r, n)
	c := w.client()
	must(t, c.Drain(t.Context(), "a"))
	w.calm(r, n)
	if err := c.DrainWith(t.Context(), "b", drm.OrderOptions{Why: "all off"}); !errors.Is(err, drm.ErrLastMember) {
		t.Errorf("without force: %v", err)
	}
	must(t, c.DrainWith(t.Context(), "b", drm.OrderOptions{Why: "all off", Force: true}))
	must(t, c.WaitDrained(t.Context(), "b"))
	r.until("nothing is handled", func() bool { return len(r.holders()) == 0 })
	a, err := c.Lookup(t.Context(), "r0")
	if err != nil || a.Expected != "" || !strings.Contains(a.Error, "all are drained") {
		t.Errorf("%+v, %v", a, err)
	}
	// What is drained already gets force too, and the orders survive a restart of everybody.
	must(t, c.DrainWith(t.Context(), "a", drm.OrderOptions{Force: true}))
	for _, m := range ms {
		w.stop(m)
	}
	w.members(r, nil, "a", "b")
	if _, err := c.Wait(timeout(t, time.Second), "r0"); err == nil {
		t.Error("it is handled after a restart")
	}
	must(t, c.Undrain(t.Context(), "b"))
	w.calm(r, n)
	if len(r.of("b")) != n {
		t.Errorf("undrained, it has %d", len(r.of("b")))
	}
}

func timeout(tb testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

func TestPinsAndMovesOutliveTheMembers(t *testing.T) {
	t.Parallel()
	const n = 100
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	ms := w.members(r, nil, "a", "b")
	w.calm(r, n)
	c := w.client()
	has := r.of("a")
	first, last := shard.Of(has[0], 64), shard.Of(has[len(has)-1], 64)
	if first == last {
		t.Fatalf("%q are in one shard", has)
	}
	in := func(number int) (count int) {
		for _, id := range ids(n) {
			if shard.Of(id, 64) == number {
				count++
			}
		}
		return count
	}
	if s, err := c.Shard(t.Context(), first); err != nil || s.Member != "a" || s.Resources != in(first) {
		t.Errorf("%+v, %v, want %d", s, err, in(first))
	}
	must(t, c.Pin(t.Context(), first, "b", drm.OrderOptions{By: "ann"}))
	if moved, err := c.Move(t.Context(), last, "b", drm.OrderOptions{By: "ann"}); !moved || err != nil {
		t.Errorf("%v, %v", moved, err)
	}
	must(t, c.WaitMoved(t.Context(), first, "b"))
	must(t, c.WaitMoved(t.Context(), last, "b"))
	w.calm(r, n)
	want := r.holders()
	if want[has[0]] != "b" || want[has[len(has)-1]] != "b" {
		t.Errorf("%q is with %q, %q with %q", has[0], want[has[0]], has[len(has)-1], want[has[len(has)-1]])
	}

	w.stop(ms["b"])
	r.until("a has all", func() bool { return len(r.of("a")) == n })
	if err := c.WaitMoved(timeout(t, time.Second), first, "b"); err == nil ||
		!strings.Contains(err.Error(), `belongs to "a"`) {
		t.Errorf("a wait for one that is gone: %v", err)
	}
	w.members(r, nil, "b")
	must(t, c.WaitMoved(t.Context(), first, "b"))
	if was, err := c.Unpin(t.Context(), first); was != "b" || err != nil {
		t.Errorf("%q, %v", was, err)
	}
	must(t, c.WaitMoved(t.Context(), first, "a"))
}

// Older versions write when the drain was given, or nothing, as the value of its key.
func TestTheDrainOfAnOlderVersionIsObeyed(t *testing.T) {
	t.Parallel()
	const n = 20
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	w.members(r, nil, "a", "b")
	w.calm(r, n)
	c := w.client()
	for _, value := range []string{"", "2026-01-02T03:04:05Z", "\xff", `{"keeps":"0-"}`, `{"keeps":7}`} {
		w.put(appLayout.Drain("a"), value)
		must(t, c.WaitDrained(t.Context(), "a"))
		orders, err := c.Orders(t.Context())
		if err != nil || len(orders) != 1 || orders[0].Kind != drm.OrderDrain || orders[0].Member != "a" ||
			orders[0].Since.IsZero() == strings.HasPrefix(value, "2026") {
			t.Errorf("%q: %+v, %v", value, orders, err)
		}
		must(t, c.Undrain(t.Context(), "a"))
		must(t, c.WaitUndrained(t.Context(), "a"))
	}
}

func TestACordonThatCannotBeReadKeepsNothing(t *testing.T) {
	t.Parallel()
	const n = 20
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	w.members(r, nil, "a", "b")
	w.calm(r, n)
	w.put(appLayout.Cordon("a"), "\xff")
	r.until("b has all", func() bool { return len(r.of("b")) == n })
	c := w.client()
	must(t, c.Cordon(t.Context(), "a", drm.OrderOptions{Why: "written anew"}))
	orders, err := c.Orders(t.Context())
	if err != nil || len(orders) != 1 || orders[0].Why != "written anew" {
		t.Errorf("%+v, %v", orders, err)
	}
	must(t, c.Uncordon(t.Context(), "a"))
	w.calm(r, n)
	if len(r.of("a")) == 0 {
		t.Error("it has nothing")
	}
}
