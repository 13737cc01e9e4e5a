package picture

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

func tracking(member string) *drainTracker {
	return &drainTracker{
		r: &Reader{Layout: layout, Shards: testShards}, member: member, left: -1, figures: -1,
		slow: map[string]slowClaim{}, news: make(chan struct{}, 1),
	}
}

// claimed is the event of a claim's put; created says whether it is a new one.
func claimed(id, member, state, text string, created bool) *clientv3.Event {
	kv := claimKey(id, member, state, 7, 0x70)
	kv.Value = []byte(strings.Replace(string(kv.Value), `"error":""`, `"error":"`+text+`"`, 1))
	if kv.CreateRevision, kv.ModRevision = 7, 8; created {
		kv.ModRevision = 7
	}
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}
}

func unclaimed(id, member string) *clientv3.Event {
	before := claimKey(id, member, claims.Active, 7, 0x70)
	return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: before.Key}, PrevKv: before}
}

func TestTheProgressOfADrainIsThatOfItsMember(t *testing.T) {
	d, now := tracking("a"), time.Now()
	if p := d.progress(now); p.Left != -1 || p.Gone != 0 || p.Remaining != 0 || p.Waiting != "" {
		t.Errorf("before anything is known: %+v", p)
	}
	d.hears(100, "")
	d.hears(-1, "it has 100 resources")
	var events []*clientv3.Event
	for _, id := range []string{"p", "q", "r", "s"} {
		events = append(events, unclaimed(id, "a"), unclaimed("other-"+id, "b"))
	}
	d.take(events)
	d.hears(100, "") // it has not written its figures since
	p := d.progress(now.Add(2 * time.Second))
	if p.Left != 96 || p.Gone != 4 || p.Rate != 2 || p.Remaining != 48*time.Second || p.Waiting == "" {
		t.Errorf("after 4 in 2 s: %+v", p)
	}
	d.take([]*clientv3.Event{claimed("t", "a", claims.Claimed, "", true), claimed("u", "b", claims.Claimed, "", true)})
	if p := d.progress(now.Add(3 * time.Second)); p.Left != 97 || p.Slowest != "" {
		t.Errorf("after another claim: %+v", p)
	}
	d.hears(50, "")
	if p := d.progress(now.Add(30 * time.Second)); p.Left != 50 || p.Rate != 0 || p.Remaining != 0 {
		t.Errorf("its figures say 50, and nothing moves: %+v", p)
	}
}

func TestTheSlowestIsWhatTerminatesLongest(t *testing.T) {
	d := tracking("a")
	d.take([]*clientv3.Event{
		claimed("late", "a", claims.Active, "terminate has been running since 2026-01-02T03:04:09Z; try 2", false),
		claimed("early", "a", claims.Active, "terminate has been running since 2026-01-02T03:04:07Z", false),
		claimed("others", "b", claims.Active, "terminate has been running since 2026-01-02T03:04:01Z", false),
		claimed("good", "a", claims.Active, "", false),
	})
	p := d.progress(time.Now())
	if p.Slowest != "early" || p.Why != "its terminate has been running since 2026-01-02T03:04:07Z" {
		t.Errorf("%+v", p)
	}
	d.take([]*clientv3.Event{unclaimed("early", "a")})
	if p := d.progress(time.Now()); p.Slowest != "late" || !strings.HasSuffix(p.Why, "; try 2") {
		t.Errorf("%+v", p)
	}
	d.take([]*clientv3.Event{claimed("late", "a", claims.Active, "", false)})
	if p := d.progress(time.Now()); p.Slowest != "" || p.Gone != 1 {
		t.Errorf("%+v", p)
	}
	d.take([]*clientv3.Event{claimed("held", "a", claims.Failed, "no answer", false)})
	if p := d.progress(time.Now()); p.Slowest != "held" || !strings.HasPrefix(p.Why, "it is failed since ") ||
		!strings.HasSuffix(p.Why, ": no answer") {
		t.Errorf("%+v", p)
	}
}
