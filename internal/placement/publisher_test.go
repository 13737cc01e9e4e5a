package placement

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

var client *clientv3.Client

func TestMain(m *testing.M) {
	os.Exit(embeddedtest.Run(m, func(c *clientv3.Client) { client = c }))
}

// Slots are freed only while they are the ghost's, and it is neither there nor expected back: somebody may take them,
// or it may come back, at the same moment.
func TestOnlyTheSlotsOfAGhostAreFreed(t *testing.T) {
	block := membership.EncodeBlock(shard.Block{Slots: 40, Used: 40, Member: "gone"})
	for name, disturb := range map[string]func(put func(key, value string), l keys.Layout){
		"nobody":                        func(func(key, value string), keys.Layout) {},
		"another member takes the slot": func(put func(key, value string), l keys.Layout) { put(l.Slot(1), "new") },
		"another member takes the block": func(put func(key, value string), l keys.Layout) {
			put(l.Block(2), membership.EncodeBlock(shard.Block{Slots: 40, Used: 40, Member: "new"}))
		},
		"it comes back":       func(put func(key, value string), l keys.Layout) { put(l.Member("gone"), "{}") },
		"it is expected back": func(put func(key, value string), l keys.Layout) { put(l.Reservation("gone"), "") },
		"another coordinates": func(put func(key, value string), l keys.Layout) { put(l.Coordinator(), "") },
	} {
		t.Run(name, func(t *testing.T) {
			l := keys.New("/drm", t.Name())
			var last int64
			put := func(key, value string) {
				if key == l.Coordinator() {
					if _, err := client.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
				resp, err := client.Put(t.Context(), key, value)
				if err != nil {
					t.Fatal(err)
				}
				last = resp.Header.Revision
			}
			put(l.Slot(0), "gone")
			put(l.Slot(1), "gone")
			put(l.Block(2), block)
			put(l.Coordinator(), "me")
			publisher := NewPublisher(Options{
				Layout: l, KV: client, Timeout: time.Minute, Limits: &txn.Limits{}, Log: zap.NewNop(), Shards: 1,
				Now: func() time.Duration { return 0 },
			}, last)
			disturb(put, l)
			_, err := publisher.free(context.Background(), Ghost{
				Member: "gone", Slots: []int{0, 1},
				Blocks: []shard.Block{{From: 2, Slots: 40, Used: 40, Member: "gone"}},
			})
			v, readErr := membership.Group{Root: l.Root(), Shards: 1}.Read(t.Context(), client)
			if readErr != nil {
				t.Fatal(readErr)
			}
			freed := slices.Equal(v.Slots, []string{"", ""}) && v.Blocks[0] == shard.Block{From: 2, Slots: 40}
			if want := name == "nobody"; freed != want || want != (err == nil) {
				t.Errorf("slots %q, block %+v, error %v", v.Slots, v.Blocks, err)
			}
			if name == "another coordinates" && !errors.Is(err, ErrDeposed) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A member that is drained and has the weight 0 keeps shards by one of both orders, and a drain that is ignored is not
// the one. What is taken from it is taken out of that order; the other one stays as it is.
func TestWhatAMemberKeepsIsTakenFromTheOrderThatLetsItKeepThat(t *testing.T) {
	const shards = 4
	member := membership.Record{State: membership.Active, Weight: 1, Schema: membership.Schema}.Encode()
	drained := membership.Restriction{}.Encode()
	keeping := membership.Restriction{Keeps: []bool{true, true, false, true}}.Encode()
	for name, test := range map[string]struct {
		drain, ofOther string // the drain of the member, and that of the only other one that has a weight
		drainKeeps     bool   // the drain lets the member keep its shards
	}{
		"the drain":                       {keeping, "", true},
		"the weight":                      {drained, "", false},
		"the weight, the drain's ignored": {keeping, drained, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := keys.New("/drm", t.Name())
			before := map[string]string{
				l.Member("me"): member, l.Member("b"): member, l.Drain("b"): test.drain,
				l.Weight("b"): membership.WeightOrder{Keeps: []bool{true, true, false, true}}.Encode(),
			}
			if test.ofOther != "" {
				before[l.Drain("me")] = test.ofOther
			}
			for key, value := range before {
				if _, err := client.Put(t.Context(), key, value); err != nil {
					t.Fatal(err)
				}
			}
			elected, err := client.Put(t.Context(), l.Coordinator(), "me")
			if err != nil {
				t.Fatal(err)
			}
			group := membership.Group{Root: l.Root(), Shards: shards}
			v, err := group.Read(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			publisher := NewPublisher(Options{
				Layout: l, KV: client, Timeout: time.Minute, Limits: &txn.Limits{}, Log: zap.NewNop(), Shards: shards,
				Now: func() time.Duration { return 0 },
			}, elected.Header.Revision)
			publisher.See(v)
			left := []bool{true, false, false, false}
			if _, err := publisher.publish(t.Context(), &Plan{Keeps: map[string][]bool{"b": left}}); err != nil {
				t.Fatal(err)
			}
			after, err := group.Read(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			drain, weight := after.Drains["b"], after.Weights["b"]
			changed, same := weight.Keeps, drain.ModRevision == v.Drains["b"].ModRevision
			if test.drainKeeps {
				changed, same = drain.Keeps, weight.ModRevision == v.Weights["b"].ModRevision
			}
			if !slices.Equal(changed, left) || !same {
				t.Errorf("left to it was %v; its drain says %+v, its weight %+v", left, drain, weight)
			}
		})
	}
}

// What cannot be freed does not keep the coordinator busy: it looks again after the usual pause.
func TestSlotsThatCannotBeFreedArePutOff(t *testing.T) {
	few := embeddedtest.Client(t,
		embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = 3 }).Endpoint())
	l := keys.New("/drm", t.Name())
	var term int64
	for _, kv := range [][2]string{{l.Slot(0), "gone"}, {l.Coordinator(), "me"}} {
		resp, err := few.Put(t.Context(), kv[0], kv[1])
		if err != nil {
			t.Fatal(err)
		}
		term = resp.Header.Revision
	}
	v, err := membership.Group{Root: l.Root(), Shards: 1}.Read(t.Context(), few)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Hour
	publisher := NewPublisher(Options{
		Layout: l, KV: few, Timeout: time.Minute, Limits: &txn.Limits{}, Log: zap.NewNop(), Shards: 1,
		Now: func() time.Duration { return now }, Wall: func() time.Time { return time.Unix(0, 0) },
	}, term)
	publisher.See(v)
	for ; now < 2*time.Hour; now += ghostLook {
		if _, err := publisher.Turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := publisher.Turn(t.Context()); err == nil {
		t.Fatal("etcd takes four comparisons, though its limit is three")
	}
	for end := now + ghostLook; now < end; now += time.Second {
		if _, err := publisher.Turn(t.Context()); err != nil {
			t.Fatalf("tried again %v before the pause is over: %v", end-now, err)
		}
	}
	if _, err := publisher.Turn(t.Context()); err == nil {
		t.Error("not tried again after the pause")
	}
}

// deaf is an etcd that carries out transactions, and whose answers to them are lost.
type deaf struct{ clientv3.KV }

func (d deaf) Txn(ctx context.Context) clientv3.Txn { return deafTxn{d.KV.Txn(ctx)} }

type deafTxn struct{ clientv3.Txn }

func (t deafTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { return deafTxn{t.Txn.If(cs...)} }
func (t deafTxn) Then(ops ...clientv3.Op) clientv3.Txn { return deafTxn{t.Txn.Then(ops...)} }
func (t deafTxn) Else(ops ...clientv3.Op) clientv3.Txn { return deafTxn{t.Txn.Else(ops...)} }

func (t deafTxn) Commit() (*clientv3.TxnResponse, error) {
	if _, err := t.Txn.Commit(); err != nil {
		return nil, err
	}
	return nil, context.DeadlineExceeded
}

// A coordinator that has heard no answer does not plan by what it knew before, since etcd may have carried the plan
// out: it would choose otherwise now, and send more than may be on its way.
func TestNothingIsPlannedBeforeAPlanWithoutAnAnswerShows(t *testing.T) {
	const shards = 8
	l := keys.New("/drm", t.Name())
	put := func(key, value string) (revision int64) {
		resp, err := client.Put(t.Context(), key, value)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	for i, id := range []string{"me", "b"} {
		put(l.Slot(i), id)
		put(l.Member(id), membership.Record{
			State: membership.Active, Weight: 1, Slots: []int{i}, Schema: membership.Schema,
		}.Encode())
	}
	for n := range shards {
		put(l.Exception(n), membership.Exception{Member: "b", Why: membership.WhyRing}.Encode())
	}
	term := put(l.Coordinator(), "me")
	group := membership.Group{Root: l.Root(), Shards: shards}
	view := func() *membership.View {
		v, err := group.Read(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := time.Hour
	publisher := NewPublisher(Options{
		Rules:  Rules{PerMinute: 1 << 30, Moving: 1 << 30, MovingPerMember: 1000, Quiet: time.Second, Again: time.Hour},
		Member: "me", Layout: l, KV: deaf{client}, Timeout: time.Minute, Limits: &txn.Limits{}, Log: zap.NewNop(),
		Shards: shards, Now: func() time.Duration { return now }, Wall: func() time.Time { return time.Unix(0, 0) },
	}, term)
	v := view()
	publisher.See(v)
	load := claims.Loads{Shards: map[int]int64{}}
	for n := range shards {
		load.Shards[n] = 1000
	}
	publisher.Take("b", load, v.Revision)
	publisher.Take("me", claims.Loads{}, v.Revision)
	now += time.Minute
	if _, err := publisher.Turn(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the first turn: %v", err)
	}
	moved := view().Owned("me")
	if slices.Index(moved, true) < 0 {
		t.Fatal("nothing is moved")
	}
	for n := range shards {
		if !moved[n] {
			load.Shards[n] = 2000
		}
	}
	publisher.Take("b", load, v.Revision+1)
	for range 2 {
		if _, err := publisher.Turn(t.Context()); err != nil {
			t.Fatalf("something is published by an old view: %v", err)
		}
	}
	if now := view().Owned("me"); !slices.Equal(now, moved) {
		t.Errorf("the member had %v, and has %v, before it has said anything", moved, now)
	}
	publisher.See(view())
	publisher.Take("me", claims.Loads{Shards: map[int]int64{slices.Index(moved, true): 1000}}, view().Revision)
	now += time.Minute
	if _, err := publisher.Turn(t.Context()); err == nil {
		t.Error("nothing is published by the view that shows what was published before")
	}
}
