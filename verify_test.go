package drm_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestVerifyFindsNothingInASettledApp(t *testing.T) {
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(20)...), "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == 20 && settled(t, w) })
	found, err := w.client().Verify(t.Context())
	if err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestVerifyFindsEachViolation(t *testing.T) {
	w := newWorld(t)
	layout := keys.New(drm.DefaultPrefix, "app")
	lease, err := w.etcd.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string, opts ...clientv3.OpOption) {
		t.Helper()
		if _, err := w.etcd.Put(t.Context(), key, value, opts...); err != nil {
			t.Fatal(err)
		}
	}
	leased := clientv3.WithLease(lease.ID)
	member := func(slots string) string {
		return `{"state":"active","weight":1,"slots":[` + slots + `],"started":"2026-01-01T00:00:00Z","source":false}`
	}
	claim := func(id, by string, opts ...clientv3.OpOption) {
		put(layout.Claim(shard.Of(id, 64), id), fmt.Sprintf(`{"member":%q,"state":"active","since":"2026-01-01T00:00:00Z","error":""}`, by), opts...)
	}
	entry := func(id string, suspended bool) {
		put(layout.Resource(shard.Of(id, 64), id), fmt.Sprintf(`{"from_source":true,"allocated":false,"own_data":false,"suspended":%v,"data":{"id":%q}}`, suspended, id))
	}
	put(layout.Config(), `{"schema":1,"shards":64}`)
	put(layout.Member("a"), member("0"), leased)
	put(layout.Member("b"), member("0"), leased)
	put(layout.Member("c"), member("7"))
	put(layout.Slot(0), "a")
	entry("fine", false)
	claim("fine", "a", leased)
	entry("nobody", false)
	entry("misplaced", false)
	claim("misplaced", "b", leased)
	entry("suspended", true)
	claim("suspended", "a", leased)
	claim("unknown", "a", leased)
	entry("ghost", false)
	claim("ghost", "gone", leased)
	entry("forever", false)
	claim("forever", "a")
	put(layout.Resource(63-shard.Of("stray", 64), "stray"), `{}`)
	put(layout.Shards()+"zzzz", "what is this")
	put(layout.Resource(shard.Of("corrupt", 64), "corrupt"), "{")

	found, err := w.client().Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, v := range found {
		what := v.Resource
		if what == "" {
			what = v.Member
		}
		got[string(v.Kind)+" "+what]++
	}
	want := map[string]int{
		"unassigned nobody": 1, "misplaced misplaced": 1, "misplaced ghost": 1, "orphan suspended": 1, "orphan unknown": 1,
		"unknown-member ghost": 1, "no-lease forever": 1, "no-lease c": 1, "slot-shared a": 1, "slot-stray b": 1,
		"slot-stray c": 1, "wrong-shard ": 1, "corrupt ": 2,
	}
	if !maps.Equal(got, want) {
		t.Errorf("found %v\nwant  %v", got, want)
	}
}

func TestForeignAndCorruptKeysAreIgnoredAndLeftAlone(t *testing.T) {
	w, r := newWorld(t), newRecorder(t)
	m := w.members(r, nil, "a")["a"]
	layout := keys.New(drm.DefaultPrefix, "app")
	foreign := map[string]string{
		layout.Shard(3) + "what":                            "?",
		layout.Resource(shard.Of("corrupt", 64), "corrupt"): "{",
		layout.Resource(63-shard.Of("stray", 64), "stray"):  `{"from_source":false,"allocated":true,"own_data":true,"suspended":false,"data":{"id":"stray"}}`,
		layout.Group() + "what":                             "?",
		layout.Member("broken"):                             "not JSON",
		layout.Root() + "what":                              "?",
	}
	for key, value := range foreign {
		if _, err := w.etcd.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	w.stop(m)
	for _, c := range r.all() {
		if c.Resource != "x" {
			t.Errorf("%+v", c)
		}
	}
	for key, value := range foreign {
		resp, err := w.etcd.Get(context.Background(), key)
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
			t.Errorf("%s was touched: %v, %v", key, resp, err)
		}
	}
}

func TestFollowOwnersTellsEachChangeWithItsToken(t *testing.T) {
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, nil, "a")
	c := w.client()
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan drm.OwnerChange, 100)
	ended := make(chan error, 1)
	if err := c.Allocate(t.Context(), drm.Resource{ID: "before"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- c.FollowOwners(ctx, func(o drm.OwnerChange) { changes <- o }) }()
	// Whatever is allocated before the follower has its first list is not told; so one after another, until one is.
	var first drm.OwnerChange
	r.until("a claim is told", func() bool {
		id := fmt.Sprintf("x%d", r.count("handle", ""))
		if err := c.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		select {
		case first = <-changes:
			return true
		default:
			return false
		}
	})
	if first.Before != "" || first.Member != "a" || first.Token == 0 || first.Revision < first.Token || first.Fell {
		t.Errorf("%+v", first)
	}
	w.stop(ms["a"])
	for o := range changes {
		if o.Resource == first.Resource {
			if o.Before != "a" || o.Member != "" || o.Token != first.Token {
				t.Errorf("%+v", o)
			}
			break
		}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it returned nil")
	}
}
