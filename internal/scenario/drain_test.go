package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// catalogueOf puts n resources into the catalogue of an app with 64 shards.
func (w *world) catalogueOf(n int) { w.catalogueIn(n, 64) }

// catalogueIn puts n resources into the catalogue of an app with that many shards.
func (w *world) catalogueIn(n, shards int) {
	w.tb.Helper()
	layout := keys.New(drm.DefaultPrefix, w.app)
	config := fmt.Sprintf(`{"schema":1,"shards":%d}`, shards)
	if _, err := w.etcd.Put(w.tb.Context(), layout.Config(), config); err != nil {
		w.tb.Fatal(err)
	}
	for chunk := range slices.Chunk(ids(n), 100) {
		var ops []clientv3.Op
		for _, id := range chunk {
			ops = append(ops, clientv3.OpPut(layout.Resource(shard.Of(id, shards), id),
				`{"from_source":false,"allocated":true,"own_data":false,"suspended":false,"data":{"id":"`+id+`"}}`))
		}
		if _, err := w.etcd.Txn(w.tb.Context()).Then(ops...).Commit(); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// counting counts the keys that a client reads, by the part of the app that they are in.
type counting struct {
	clientv3.KV
	resources, claims, others int
}

func (k *counting) count(kvs []string) {
	for _, key := range kvs {
		switch {
		case strings.Contains(key, "/resources/"):
			k.resources++
		case strings.Contains(key, "/claims/"):
			k.claims++
		default:
			k.others++
		}
	}
}

func (k *counting) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := k.KV.Get(ctx, key, opts...)
	if err == nil {
		for _, kv := range resp.Kvs {
			k.count([]string{string(kv.Key)})
		}
	}
	return resp, err
}

func (k *counting) Txn(ctx context.Context) clientv3.Txn { return countedTxn{k.KV.Txn(ctx), k} }

type countedTxn struct {
	clientv3.Txn
	k *counting
}

func (t countedTxn) Then(ops ...clientv3.Op) clientv3.Txn { return countedTxn{t.Txn.Then(ops...), t.k} }

func (t countedTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.Txn.Commit()
	if err == nil {
		for _, one := range resp.Responses {
			if r := one.GetResponseRange(); r != nil {
				for _, kv := range r.Kvs {
					t.k.count([]string{string(kv.Key)})
				}
			}
		}
	}
	return resp, err
}

func TestMembersAndDrainsReadNoCatalogue(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	const n = 3000
	w.catalogueOf(n)
	w.members(r, nil, "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == n && settled(t, w) })
	all := map[string]int{}
	for _, m := range r.holders() {
		all[m]++
	}
	k := &counting{KV: w.etcd.KV}
	w.etcd.KV = k
	c := w.client()
	r.until("the members say what they have", func() bool {
		ms, err := c.Members(t.Context())
		return err == nil && len(ms) == 2 && ms[0].Resources == all["a"] && ms[1].Resources == all["b"]
	})
	for what, err := range map[string]error{
		"drain": c.Drain(t.Context(), "a"), "undrain": c.Undrain(t.Context(), "a"),
		"drain again": c.Drain(t.Context(), "a"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.Drains(t.Context()); err != nil {
		t.Error(err)
	}
	if k.resources+k.claims != 0 {
		t.Errorf("%d entries and %d claims were read to tell of members", k.resources, k.claims)
	}
	if err := c.WaitDrained(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if k.resources != 0 || k.claims > 5*n {
		t.Errorf("to wait for a drain, %d entries and %d claims were read", k.resources, k.claims)
	}
	if ms, err := c.Members(t.Context()); err != nil || ms[0].Resources != 0 {
		t.Errorf("drained: %+v, %v", ms, err)
	}
	*k = counting{KV: k.KV}
	if err := c.Undrain(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitUndrained(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if k.resources > 5*n { // the member's share, and some of it again that was incomplete at first
		t.Errorf("to wait for the end of a drain, %d entries were read", k.resources)
	}
	if ms, err := c.Members(t.Context()); err != nil || ms[0].Resources != all["a"] {
		t.Errorf("undrained: %+v, %v, want %d", ms, err, all["a"])
	}
}

func TestTheLastMemberIsNotDrained(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(20)...), "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == 20 && settled(t, w) })
	c := w.client()
	if err := c.Drain(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(t.Context(), "b"); !errors.Is(err, drm.ErrLastMember) ||
		!strings.Contains(err.Error(), "start another member, or undrain one") {
		t.Errorf("to drain the last one: %v", err)
	}
	if err := c.Drain(t.Context(), "a"); err != nil {
		t.Errorf("what is ordered already: %v", err)
	}
	// Two orders at the same moment may both have been accepted.
	layout := keys.New(drm.DefaultPrefix, "app")
	if _, err := w.etcd.Put(t.Context(), layout.Drain("b"), ""); err != nil {
		t.Fatal(err)
	}
	ms, err := c.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if m.State != "active" || m.Drain != drm.DrainIgnored {
			t.Errorf("%+v, want it active, and its drain ignored", m)
		}
	}
	if err := c.WaitDrained(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "every member is drained") {
		t.Errorf("draining everyone: %v", err)
	}
	orders, err := c.Drains(t.Context())
	if err != nil || len(orders) != 2 || !orders[0].Ignored || !orders[0].Live || orders[0].Since.IsZero() ||
		!orders[1].Since.IsZero() {
		t.Errorf("%+v, %v", orders, err)
	}
}

func TestAMemberThatIsNotThereCanBeDrainedAndUndrained(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, newSource(ids(20)...), "a", "b")
	w.stop(ms["b"])
	c := w.client()
	if err := c.Drain(t.Context(), "nobody"); !errors.Is(err, drm.ErrNotFound) || errors.Is(err, drm.ErrNoApp) {
		t.Errorf("one that nobody knows: %v", err)
	}
	if err := c.DrainAbsent(t.Context(), "nobody"); err != nil {
		t.Errorf("to be drained when it comes: %v", err)
	}
	if err := c.Drain(t.Context(), "b"); err != nil {
		t.Fatalf("one whose slot is kept: %v", err)
	}
	if err := c.WaitDrained(t.Context(), "b"); err != nil {
		t.Error(err)
	}
	s, err := c.Status(t.Context())
	if err != nil || len(s.Drains) != 2 || s.Drains[0].Member != "b" || s.Drains[0].Live ||
		time.Since(s.Drains[0].Since).Abs() > time.Hour {
		t.Errorf("%+v, %v", s.Drains, err)
	}

	// The id is used again, and the member says why it has nothing.
	core, logs := observer.New(zap.InfoLevel)
	cfg := w.config("b", r)
	cfg.Logger = zap.New(core)
	w.start(cfg)
	said := func(what string) func() bool {
		return func() bool { return logs.FilterMessageSnippet(what).Len() > 0 }
	}
	r.until("it says that it is drained",
		said("drained by order: this member takes nothing until it is undrained (drmctl undrain b)"))
	if f := logs.FilterMessageSnippet("drained by order").All()[0].ContextMap(); f["since"] == nil {
		t.Errorf("it does not say since when: %v", f)
	}
	if err := c.Undrain(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	r.until("it says that this is over", said("the order to be drained was taken back"))
	if err := c.WaitUndrained(t.Context(), "b"); err != nil {
		t.Error(err)
	}

	// This member is gone for good.
	if err := c.Undrain(t.Context(), "nobody"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitUndrained(t.Context(), "nobody"); err != nil {
		t.Errorf("there is nothing to wait for: %v", err)
	}
	if err := c.Undrain(t.Context(), "nobody"); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestAWaitThatEndsSaysWhatItSawLast(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := w.clientOf(drm.ClientConfig{Create: true, Shards: 64})
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	says := func(what, want string, wait func(context.Context) error) {
		t.Helper()
		err := waitSays(t, want, wait)
		var ended *drm.WaitError
		if !errors.As(err, &ended) || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(ended.Last, want) || !strings.Contains(err.Error(), ended.Last) {
			t.Errorf("%s: %v, want it to say %q", what, err, want)
		}
	}
	says("allocate", "there is no live member", func(ctx context.Context) error {
		_, err := c.Wait(ctx, "x")
		return err
	})

	release := make(chan struct{})
	r.onTerminate = func(context.Context, drm.Claim) error { <-release; return nil }
	w.members(r, nil, "a", "b")
	if _, err := c.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	owner := r.holders()["x"]
	r.until("it says that it has one", func() bool {
		ms, err := c.Members(t.Context())
		return err == nil && slices.ContainsFunc(ms, func(m drm.MemberInfo) bool {
			return m.ID == owner && m.Resources == 1
		})
	})
	if err := c.Drain(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	says("drain", "it has 1 resources", func(ctx context.Context) error { return c.WaitDrained(ctx, owner) })
	other := map[string]string{"a": "b", "b": "a"}[owner]
	says("the other", fmt.Sprintf("%q is still with %q", "x", owner), func(ctx context.Context) error {
		return c.WaitUndrained(ctx, other)
	})
	if err := c.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	says("deallocate", fmt.Sprintf("%q still has it", owner), func(ctx context.Context) error {
		return c.WaitGone(ctx, "x")
	})
	close(release)
	if err := c.WaitGone(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestAWaitSaysThatEtcdIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.client().Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	q := newRequests("app")
	c := w.clientOf(drm.ClientConfig{
		Etcd: drm.EtcdConfig{Client: q.client(t, w.endpoint), CommandTimeout: 100 * time.Millisecond},
	})
	await(t, "it is looked up", func() bool { _, err := c.Lookup(t.Context(), "x"); return err == nil })
	q.spoil = func(kind, int, int) fault { return loseRequest }
	err := waitSays(t, "etcd unreachable", func(ctx context.Context) error {
		_, err := c.Wait(ctx, "x")
		return err
	})
	var ended *drm.WaitError
	if !errors.As(err, &ended) || !strings.Contains(ended.Last, "etcd unreachable") {
		t.Errorf("%v", err)
	}
}

func TestAllocateMakesAnAppOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x := drm.Resource{ID: "x"}
	if err := w.clientOf(drm.ClientConfig{}).Allocate(t.Context(), x); !errors.Is(err, drm.ErrNoApp) {
		t.Errorf("it made an app: %v", err)
	}
	if err := w.clientOf(drm.ClientConfig{Create: true, Shards: 7}).Allocate(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if err := w.clientOf(drm.ClientConfig{}).Allocate(t.Context(), x); err != nil {
		t.Errorf("in an app that is there: %v", err)
	}
	var input *drm.InputError
	if err := w.clientOf(drm.ClientConfig{Create: true, Shards: 8}).Allocate(t.Context(), x); !errors.As(err, &input) ||
		!strings.Contains(err.Error(), "the 7 that") {
		t.Errorf("with other shards: %v", err)
	}
	for _, cfg := range []drm.ClientConfig{{Shards: 7}, {Create: true, Shards: -1}, {Create: true, Shards: 4097}} {
		cfg.App, cfg.Etcd.Client = "app", w.etcd
		if _, err := drm.NewClient(t.Context(), cfg); !errors.As(err, &input) || input.Field != "Shards" {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	for _, app := range []string{"feeds", "a/b"} {
		if _, err := w.etcd.Put(t.Context(), keys.New(drm.DefaultPrefix, app).Config(), ""); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[string][]string{"": {"a/b", "app"}, "b": {"feeds"}, "z": {}} {
		if got, err := w.client().Apps(t.Context(), from, 2); err != nil || !slices.Equal(got, want) {
			t.Errorf("apps from %q: %q, %v, want %q", from, got, err, want)
		}
	}
}

// A client that looks at the members soon after a change finds the new figures, without waiting for the interval.
func TestFiguresAreWrittenWhenAMemberHasComeToRest(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.options.StatsInterval = time.Hour
	m := w.members(r, nil, "a")["a"]
	c := w.client()
	shows := func(n int) func() bool {
		return func() bool {
			ms, err := c.Members(t.Context())
			return err == nil && len(ms) == 1 && ms[0].Resources == n
		}
	}
	for _, id := range []string{"x", "y"} {
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("it says that it has two", shows(2))
	if err := m.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.until("it says that it has one", shows(1))
}
