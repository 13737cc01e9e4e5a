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
