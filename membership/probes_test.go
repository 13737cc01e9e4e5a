package membership

import (
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// oneShots is a group in which 500 members have been once, and three are left.
func oneShots(shards int) (Group, []*mvccpb.KeyValue) {
	g := Group{Root: fuzzLayout.Root(), Shards: shards}
	l := keys.At(g.Root)
	var kvs []*mvccpb.KeyValue
	add := func(key, value string) {
		kvs = append(kvs, &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: 1, ModRevision: 1})
	}
	for n := range 500 {
		add(l.Slot(n), fmt.Sprint("job-", n))
	}
	for _, n := range []int{17, 230, 499} {
		add(l.Member(fmt.Sprint("job-", n)), Record{State: Active, Weight: 1, Slots: []int{n}, Schema: Schema}.Encode())
	}
	return g, kvs
}

// What an app with many members that never come back has computed once serves all views after that.
func TestViewsOfASparseRingShareWhatTheyCompute(t *testing.T) {
	g, kvs := oneShots(256)
	var views []*View
	f := &follower{group: g, onView: func(v *View) { views = append(views, v) }}
	f.reset(kvs, 1)
	f.apply(nil, 2)
	if views[0].probes == nil || views[0].probes != views[1].probes {
		t.Error("the second view has computed the probes again")
	}
	if want := g.View(kvs, 1); !slices.Equal(views[1].Owners(), want.Owners()) || slices.Contains(want.Owners(), "") {
		t.Errorf("owned by %v, want %v", views[1].Owners(), want.Owners())
	}
}

func BenchmarkViewsOfASparseRing(b *testing.B) {
	g, kvs := oneShots(4096)
	b.Run("each by itself", func(b *testing.B) {
		for b.Loop() {
			g.View(kvs, 1)
		}
	})
	b.Run("one after the other", func(b *testing.B) {
		f := &follower{group: g, onView: func(*View) {}}
		f.reset(kvs, 1)
		for b.Loop() {
			f.apply(nil, 2)
		}
	})
}
