package picture

import (
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// If a value that cannot be decoded has replaced a claim during a gap, the end of the claim is reported.
func TestFollowOwnersTellsTheEndOfAClaimThatGarbageReplaced(t *testing.T) {
	var told []OwnerChange
	o := newOwnerFollower(layout, func(c OwnerChange) { told = append(told, c) })
	claim := func(value string, token int64) []*mvccpb.KeyValue {
		key := []byte(layout.Claim(3, "a"))
		return []*mvccpb.KeyValue{{Key: key, Value: []byte(value), CreateRevision: token}}
	}
	o.Reset(claim(`{"member":"m","state":"active"}`, 5), 6)
	o.Reset(claim("?", 5), 7) // the token is the same, so m still has the claim
	o.Reset(claim("?", 8), 9)
	o.Reset(nil, 10)
	if want := []OwnerChange{{Resource: "a", Before: "m", Token: 5, Revision: 9}}; !slices.Equal(told, want) {
		t.Errorf("told %+v, want %+v", told, want)
	}
}

// The highest token of a resource is remembered for as long as the catalogue has the resource, and for an hour more. It
// is not remembered for ever: with a source that always has new ids, that would take more and more memory.
func TestFollowOwnersForgetsWhatIsGoneForAnHour(t *testing.T) {
	var told []OwnerChange
	o := newOwnerFollower(layout, func(c OwnerChange) { told = append(told, c) })
	now := time.Now()
	o.now = func() time.Time { return now }
	claim := func(id string, token int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{
			Key: []byte(layout.Claim(3, id)), Value: []byte(`{"member":"m","state":"active"}`),
			CreateRevision: token, ModRevision: token,
		}
	}
	entry := func(id string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(layout.Resource(3, id)), CreateRevision: 1, ModRevision: 1}
	}
	fell := func(id string, token int64) bool {
		t.Helper()
		told = nil
		o.Apply([]*clientv3.Event{{Type: clientv3.EventTypePut, Kv: claim(id, token)}}, token)
		if len(told) != 1 {
			t.Fatalf("told %+v", told)
		}
		return told[0].Fell
	}
	end := func(kvs ...*mvccpb.KeyValue) {
		for _, kv := range kvs {
			kv.ModRevision++
			o.Apply([]*clientv3.Event{{Type: clientv3.EventTypeDelete, Kv: kv}}, kv.ModRevision)
		}
	}
	o.Reset(
		[]*mvccpb.KeyValue{entry("kept"), claim("kept", 10), entry("gone"), claim("gone", 11), claim("held", 12)},
		12,
	)
	end(claim("kept", 10), claim("gone", 11), entry("gone"))

	now = now.Add(forgetAfter)
	o.Reset([]*mvccpb.KeyValue{entry("kept"), claim("held", 12)}, 20)
	if !fell("gone", 9) {
		t.Error("within the hour, a token that fell is not noticed")
	}
	end(claim("gone", 9))
	now = now.Add(forgetAfter)
	o.Reset([]*mvccpb.KeyValue{entry("kept"), claim("held", 12)}, 21)
	now = now.Add(time.Second)
	o.Reset([]*mvccpb.KeyValue{entry("kept"), claim("held", 12)}, 22)
	if len(o.trails) != 2 {
		t.Errorf("%d are remembered, of 1 in the catalogue and 1 claimed", len(o.trails))
	}
	if !fell("kept", 9) {
		t.Error("of what the catalogue has, a token that fell is not noticed")
	}
	o.Reset(nil, 23) // both end while nobody listens
	now = now.Add(forgetAfter + time.Second)
	o.Reset(nil, 24)
	if len(o.trails) != 0 {
		t.Errorf("%d are remembered, and nothing is there", len(o.trails))
	}
}
