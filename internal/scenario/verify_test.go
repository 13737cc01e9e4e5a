package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

func TestVerifyFindsNothingInASettledApp(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(20)...), "a", "b")
	r.until("all is settled", func() bool { return len(r.holders()) == 20 && settled(t, w) })
	found, err := w.client().Verify(t.Context())
	if err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestVerifyFindsEachViolation(t *testing.T) {
	t.Parallel()
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
		put(layout.Claim(shard.Of(id, 64), id), activeClaim(by), opts...)
	}
	entry := func(id string, suspended bool) {
		put(layout.Resource(shard.Of(id, 64), id),
			fmt.Sprintf(`{"from_source":true,"allocated":false,"own_data":false,"suspended":%v,"data":{"id":%q}}`,
				suspended, id))
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
	entry("waits", false)
	put(layout.Claim(shard.Of("waits", 64), "waits"),
		`{"member":"a","state":"claimed","since":"2026-01-01T00:00:00Z","error":""}`, leased)
	put(layout.Resource(63-shard.Of("stray", 64), "stray"), `{}`)
	put(layout.Shards()+"zzzz", "what is this")
	put(layout.Resource(shard.Of("corrupt", 64), "corrupt"), "{")
	put(layout.Resource(shard.Of("another", 64), "another"),
		`{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"x"}}`)
	entry("garbled", false)
	put(layout.Claim(shard.Of("garbled", 64), "garbled"), "?", leased)
	put(layout.Group()+"what", "?")
	put(layout.Root()+"what", "?")
	put(layout.Stats("a"), `{"shards":-1}`, leased)
	put(layout.Stats("b"), `{"shards":1}`)
	put(layout.Coordinator(), "nobody")
	put(layout.Source(), `{"resources":7,"too_large":1,"rejected":["big"]}`)

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
		"unassigned nobody": 1, "misplaced misplaced": 1, "misplaced ghost": 1, "orphan suspended": 1,
		"orphan unknown": 1, "unknown-member ghost": 1, "no-lease forever": 1, "no-lease c": 1,
		"slot-shared a": 1, "slot-stray b": 1, "slot-stray c": 1, "wrong-shard ": 1,
		"corrupt ": 3, "corrupt corrupt": 1, "corrupt another": 1, "corrupt garbled": 1, "corrupt a": 1,
		"unassigned garbled": 1, "stale waits": 1, "no-lease b": 1, "no-lease nobody": 1,
		"unknown-member nobody": 1, "too-large big": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("found %v\nwant  %v", got, want)
	}
	// One of the corrupt keys is in another resource's shard.
	if s, err := w.client().Status(t.Context()); err != nil || s.Corrupt != 8 {
		t.Errorf("status %+v, %v, want 8 corrupt keys", s, err)
	}
	if a, err := w.client().Lookup(t.Context(), "garbled"); err != nil || !strings.Contains(a.Error, "claim") {
		t.Errorf("a resource with a claim that is not understood: %+v, %v", a, err)
	}
}

func TestVerifyReportsWhatNobodyHandlesThoughNobodyCould(t *testing.T) {
	t.Parallel()
	c := newWorld(t).client()
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	found, err := c.Verify(t.Context())
	if err != nil || len(found) != 2 || found[1].Kind != drm.ViolationUnassigned ||
		found[1].Detail != "there is no live member" {
		t.Errorf("%+v, %v", found, err)
	}
}

// Without a member, no violation can pass by itself, so VerifySettled does not wait. Where nothing is wanted, no member
// is needed.
func TestVerifySaysAtOnceThatThereIsNoMember(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := w.clientOf(drm.ClientConfig{Create: true, Shards: 64})
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := c.VerifySettled(bounded, time.Hour)
	if err != nil || len(found) != 2 || found[0].Kind != drm.ViolationNoMembers ||
		!strings.Contains(found[0].Detail, "1 resources") {
		t.Errorf("%+v, %v", found, err)
	}
	w.members(r, nil, "a")
	if found, err := c.VerifySettled(bounded, patience); err != nil || len(found) != 0 {
		t.Errorf("with a member: %+v, %v", found, err)
	}
	if err := c.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitGone(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if found, err := c.Verify(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("with nothing to handle: %+v, %v", found, err)
	}
}

func TestVerifyFindsClaimsAndMembersWhoseLeaseNobodyRenews(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	layout := keys.New(drm.DefaultPrefix, "app")
	w.members(r, nil, "a") // a renews its lease
	c := w.client()
	if err := c.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	var lease clientv3.LeaseID
	begin := func() { // a member that dies at once, and its claim
		granted, err := w.etcd.Grant(t.Context(), 4)
		if err != nil {
			t.Fatal(err)
		}
		lease = granted.ID
		const leaving = `{"state":"leaving","weight":1,"slots":[],"started":"2026-01-01T00:00:00Z","source":false}`
		for key, value := range map[string]string{
			layout.Member("b"):                         leaving,
			layout.Claim(shard.Of("gone", 64), "gone"): activeClaim("b"),
		} {
			if _, err := w.etcd.Put(t.Context(), key, value, clientv3.WithLease(lease)); err != nil {
				t.Fatal(err)
			}
		}
	}
	begin()
	r.until("both are stale, and nothing else is", func() bool {
		found, err := c.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stale := map[string]bool{}
		for _, v := range found {
			if v.Kind == drm.ViolationStale {
				stale[v.Resource+" of "+v.Member] = true
			}
		}
		if stale["x of a"] || stale[" of a"] {
			t.Fatalf("a lease that is renewed: %+v", found)
		}
		// Where the lease has expired meanwhile, this looks at another one.
		if ttl, err := w.etcd.TimeToLive(t.Context(), lease); err == nil && ttl.TTL < 0 {
			begin()
		}
		return stale["gone of b"] && stale[" of b"]
	})
}

func TestVerifySettledGivesWhatPassesTheTimeToPass(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := w.client()
	layout := keys.New(drm.DefaultPrefix, "app")
	if _, err := w.etcd.Put(t.Context(), layout.Config(), `{"schema":1,"shards":64}`); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"x", "stays"} {
		if err := c.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.etcd.Put(t.Context(), layout.Claim(shard.Of("stays", 64), "stays"), "?"); err != nil {
		t.Fatal(err)
	}
	before, err := c.Verify(t.Context())
	if err != nil || len(before) != 4 {
		t.Fatalf("%+v, %v", before, err)
	}
	w.members(r, nil, "a")
	found, err := c.VerifySettled(t.Context(), 3*time.Second)
	if err != nil || len(found) != 2 || found[0].Kind != drm.ViolationCorrupt ||
		found[1].Kind != drm.ViolationUnassigned || found[1].Resource != "stays" {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := w.etcd.Delete(t.Context(), layout.Claim(shard.Of("stays", 64), "stays")); err != nil {
		t.Fatal(err)
	}
	if found, err := c.VerifySettled(t.Context(), patience); err != nil || len(found) != 0 {
		t.Errorf("once it is repaired: %+v, %v", found, err)
	}
}

// compacting is a KV that compacts everything before each second page of a list.
type compacting struct {
	clientv3.KV
	left int
}

func (k *compacting) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if strings.HasSuffix(key, "\x00") && k.left > 0 {
		k.left--
		now, err := k.KV.Put(ctx, "elsewhere", "")
		if err != nil {
			return nil, err
		}
		if _, err := k.Compact(ctx, now.Header.Revision); err != nil {
			return nil, err
		}
	}
	return k.KV.Get(ctx, key, opts...)
}

func TestACompactionBetweenTwoPagesIsNoError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	layout := keys.New(drm.DefaultPrefix, "app")
	if err := w.client().Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	const resources = 2100 // more than a page
	app, err := w.etcd.Get(t.Context(), layout.Config())
	if err != nil {
		t.Fatal(err)
	}
	var number struct{ Shards int }
	if err := json.Unmarshal(app.Kvs[0].Value, &number); err != nil {
		t.Fatal(err)
	}
	for chunk := range slices.Chunk(ids(resources), 100) {
		var ops []clientv3.Op
		for _, id := range chunk {
			ops = append(ops, clientv3.OpPut(layout.Resource(shard.Of(id, number.Shards), id),
				`{"from_source":false,"allocated":true,"own_data":false,"suspended":false,"data":{"id":"`+id+`"}}`))
		}
		if _, err := w.etcd.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	kv := &compacting{KV: w.etcd.KV, left: 2}
	w.etcd.KV = kv
	s, err := w.client().Status(t.Context())
	if err != nil || s.Resources != resources+1 || kv.left != 0 {
		t.Errorf("%+v, %v; %d compactions left", s, err, kv.left)
	}
	kv.left = 1
	// Each of the resources is unassigned, and there is no member.
	if found, err := w.client().Verify(t.Context()); err != nil || len(found) != resources+2 {
		t.Errorf("%d violations, %v", len(found), err)
	}
}

func TestFollowOwnersTellsEachChangeWithItsToken(t *testing.T) {
	t.Parallel()
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
	go func() { ended <- c.FollowOwners(ctx, func(o drm.OwnerChange) { changes <- o }, nil) }()
	// FollowOwners does not tell of what is allocated before it has its first list. So this allocates one resource
	// after another until it hears of one.
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
