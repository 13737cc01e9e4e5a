package picture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/shard"
)

// mirror is the list of somebody who follows a watch.
type mirror map[string]Assignment

func (m mirror) apply(kind ChangeKind, a Assignment) bool {
	if kind == Gone {
		delete(m, a.Resource)
	} else {
		m[a.Resource] = a
	}
	return true
}

// changeAnything does something random to an app that mixed has made.
func changeAnything(t *testing.T, client *clientv3.Client, random *rand.Rand, lease clientv3.LeaseID, shards int) {
	t.Helper()
	var ids []string
	found, err := client.Get(t.Context(), layout.Shards(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range found.Kvs {
		if k := layout.Parse(string(kv.Key)); k.ID != "" {
			ids = append(ids, k.ID)
		}
	}
	var ops []clientv3.Op
	used := map[string]bool{}
	do := func(op clientv3.Op) {
		if key := string(op.KeyBytes()); !used[key] {
			used[key] = true
			ops = append(ops, op)
		}
	}
	on := clientv3.WithLease(lease)
	for range 1 + random.IntN(30) {
		id := ids[random.IntN(len(ids))]
		if random.IntN(8) == 0 {
			id = fmt.Sprint("new", random.IntN(1000))
		}
		n := shard.Of(id, shards)
		member := []string{"a", "b", "gone"}[random.IntN(3)]
		switch random.IntN(12) {
		case 0, 1, 2:
			state := []string{claims.Claimed, claims.Claimed, claims.Active, claims.Failed}[random.IntN(4)]
			do(clientv3.OpPut(layout.Claim(n, id), fmt.Sprintf(
				`{"member":%q,"state":%q,"since":"2026-01-02T03:04:05Z","error":""}`, member, state), on))
		case 3, 4:
			do(clientv3.OpDelete(layout.Claim(n, id)))
		case 5:
			do(clientv3.OpDelete(layout.Resource(n, id)))
		case 6, 7:
			do(clientv3.OpPut(layout.Resource(n, id), entryValue(id, random.IntN(3) == 0, random.IntN(20))))
		case 8:
			do(clientv3.OpPut(layout.Summary(random.IntN(shards), int64(lease)),
				string(claims.Summary{Member: member, Through: found.Header.Revision}.Encode()), on))
		case 9:
			do(clientv3.OpPut(layout.Claim(n, id), "?"))
		case 10:
			if random.IntN(3) == 0 {
				do(clientv3.OpPut(layout.Move(id), fmt.Sprintf(`{"member":%q}`, member)))
			} else {
				do(clientv3.OpDelete(layout.Move(id)))
			}
		case 11:
			switch random.IntN(4) {
			case 0:
				do(clientv3.OpDelete(layout.Member(member)))
			case 1:
				do(clientv3.OpPut(layout.Drain(member), `{"why":"x"}`))
			case 2:
				do(clientv3.OpDelete(layout.Drain(member)))
			default:
				if member != "gone" {
					do(memberPut(member, on))
				}
			}
		}
	}
	put(t, client, ops...)
}

func memberPut(id string, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpPut(layout.Member(id), `{"state":"active","weight":1,"slots":[`+slotOf(id)+`]}`, opts...)
}

func TestAWatchLeadsToTheListThatThereIs(t *testing.T) {
	const shards, rounds = 8, 40
	client := embeddedtest.Client(t)
	mixed(t, client, shards, 400)
	lease, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	r := readerOf(client, shards)
	random := rand.New(rand.NewPCG(5, 6))
	type follower struct {
		w    *watchedAssignments
		list mirror
	}
	var all []*follower
	revision := int64(0)
	for _, f := range []Filter{
		{},
		{Member: "a"},
		{Unassigned: true},
		{Failed: true},
		{Misplaced: true},
		{States: []string{claims.Active}},
		{Shards: []int{1, 2}},
		{Prefix: "é"},
		{Prefix: "new"},
	} {
		one := &follower{&watchedAssignments{r: r, f: f}, mirror{}}
		err := one.w.list(t.Context(), func(at int64) bool { revision = at; return true }, func(a Assignment) bool {
			return one.list.apply(Listed, a)
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	events := r.watchAll(t.Context(), []string{layout.Root()}, revision+1)
	for round := range rounds {
		changeAnything(t, client, random, lease.ID, shards)
		p, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for revision < p.view.Revision {
			resp, open := <-events
			if !open || resp.Err() != nil {
				t.Fatal(resp.Err())
			}
			revision = resp.Events[len(resp.Events)-1].Kv.ModRevision
			for _, one := range all {
				if err := one.w.apply(t.Context(), resp.Events, revision, one.list.apply); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, one := range all {
			want := mirror{}
			for _, a := range p.Assignments(one.w.f) {
				want[a.Resource] = a
			}
			if maps.Equal(one.list, want) {
				continue
			}
			for id, a := range want {
				if one.list[id] != a {
					t.Errorf("round %d, %+v: got %+v, want %+v", round, one.w.f, one.list[id], a)
				}
			}
			t.Fatalf("round %d, %+v: got %d, want %d", round, one.w.f, len(one.list), len(want))
		}
	}
}

func TestAWatchTellsWhatItHasMissedByAnotherList(t *testing.T) {
	client := embeddedtest.Client(t)
	put(t, client, entryOp("a"), entryOp("b"))
	r := readerOf(client, testShards)
	var lists atomic.Int64
	lost := func(err error) {
		if errors.Is(err, ErrCompacted) {
			lists.Add(1)
		}
	}
	bounded, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	ctx, cancel := context.WithCancelCause(bounded)
	defer cancel(nil)
	enough := errors.New("enough")
	var steps []string
	var last error
	for c, err := range r.WatchResources(ctx, ResourceFilter{}, lost) {
		if err != nil {
			last = err
			continue
		}
		steps = append(steps, strings.TrimSpace(string(c.Kind)+" "+c.Item.ID))
		switch {
		case len(steps) == 1: // the list goes on at the revision at which it has begun, or fails
			put(t, client, entryOp("c"), clientv3.OpDelete(layout.Resource(shardOf("a"), "a")))
			compact(t, client)
		case c.Kind == ListEnds && lists.Load() > 0:
			put(t, client, clientv3.OpDelete(layout.Resource(shardOf("b"), "b")))
			put(t, client, entryOp("d"))
		case c.Item.ID == "d":
			cancel(enough)
		}
	}
	if !errors.Is(last, enough) || lists.Load() == 0 {
		t.Errorf("it ended with %v, after %d lists that were lost", last, lists.Load())
	}
	want := []string{"list", "listed b", "listed c", "end", "gone b", "changed d"}
	if n := len(steps) - len(want); n < 1 || !slices.Equal(steps[n:], want) {
		t.Errorf("got %q, want %q at the end", steps, want)
	}
}

func TestALookupThatIsWatched(t *testing.T) {
	client := embeddedtest.Client(t)
	r := readerOf(client, testShards)
	for _, err := range r.WatchLookup(t.Context(), "r", func(error) {}) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("of a resource that is not there: %v", err)
		}
	}
	lease, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	on := clientv3.WithLease(lease.ID)
	put(t, client, entryOp("r"), entryOp("r2"))
	n := shardOf("r")
	var steps []string
	for c, err := range r.WatchLookup(t.Context(), "r", func(error) {}) {
		if err != nil {
			t.Fatal(err)
		}
		step := fmt.Sprint(c.Kind, " ", c.Item.State, " ", c.Item.Member, c.Item.Expected)
		steps = append(steps, strings.TrimSpace(step))
		switch len(steps) {
		case 3:
			put(t, client, clientv3.OpPut(layout.Slot(0), "a"), memberPut("a", on))
		case 4:
			put(t, client, clientv3.OpPut(layout.Claim(n, "r"),
				`{"member":"a","state":"claimed","since":"2026-01-02T03:04:05Z","error":""}`, on))
		case 5:
			put(t, client, clientv3.OpPut(layout.Summary(n, int64(lease.ID)),
				string(claims.Summary{Member: "a", Through: 1 << 40}.Encode()), on))
		case 6:
			put(t, client, clientv3.OpDelete(layout.Resource(n, "r")))
			put(t, client, clientv3.OpDelete(layout.Claim(n, "r")))
		}
		if c.Kind == Gone {
			break
		}
	}
	want := []string{
		"list", "listed unassigned", "end", "changed unassigned a", "changed claimed aa", "changed active aa",
		"gone unassigned a",
	}
	if !slices.Equal(steps, want) {
		t.Errorf("got %q, want %q", steps, want)
	}
}

func TestAListWhoseRevisionIsCompactedSaysSo(t *testing.T) {
	const n = 3000
	client := embeddedtest.Client(t)
	var ops []clientv3.Op
	for i := range n {
		ops = append(ops, entryOp(fmt.Sprintf("r%05d", i)))
	}
	put(t, client, ops...)
	r := readerOf(client, testShards)
	rows := 0
	var last error
	for _, err := range r.EachResource(t.Context(), ResourceFilter{}) {
		if last = err; err != nil {
			break
		}
		if rows++; rows == 1 {
			put(t, client, entryOp("another"))
			compact(t, client)
		}
	}
	if !errors.Is(last, ErrCompacted) || rows == 0 || rows >= n {
		t.Errorf("%d rows, then %v", rows, last)
	}
}

func entryOp(id string) clientv3.Op {
	return clientv3.OpPut(layout.Resource(shardOf(id), id), entryValue(id, false, 0))
}

// compact makes etcd forget all that was before now.
func compact(t *testing.T, client *clientv3.Client) {
	t.Helper()
	resp, err := client.Get(t.Context(), layout.Root())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
}
