package follow

import (
	"maps"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"
)

// The answer to latest shows that nothing has changed exactly where each key is there that was, as it was.
func TestTheLatestKeyAndTheNumberOfKeysTellWhetherAnythingHasChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		revision := int64(1)
		now := map[int]int64{} // for each key: the revision at which it was modified last
		change := func(times int) {
			for range times {
				revision++
				key := rapid.IntRange(0, 4).Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					delete(now, key)
				} else {
					now[key] = revision
				}
			}
		}
		change(rapid.IntRange(0, 10).Draw(t, "before"))
		listed, since := maps.Clone(now), revision
		change(rapid.IntRange(0, 6).Draw(t, "after"))
		resp := &pb.RangeResponse{Count: int64(len(now))}
		for _, modified := range now {
			if len(resp.Kvs) == 0 || modified > resp.Kvs[0].ModRevision {
				resp.Kvs = []*mvccpb.KeyValue{{ModRevision: modified}}
			}
		}
		var last int64
		for _, modified := range listed {
			last = max(last, modified)
		}
		for _, known := range []int64{0, last} {
			if got, want := unchanged(resp, int64(len(listed)), since, known), maps.Equal(listed, now); got != want {
				t.Fatalf("%v became %v, and %d is known: unchanged %t, want %t", listed, now, known, got, want)
			}
		}
	})
}

// etcd was restored from a snapshot and has made up for the lost revisions unnoticed: a key has its former value again.
func TestAKeyThatHasItsFormerValueAgainHasChanged(t *testing.T) {
	before := []*mvccpb.KeyValue{{ModRevision: 5}, {ModRevision: 8}} // the second one was written at 3 too
	after := &pb.RangeResponse{Count: 2, Kvs: []*mvccpb.KeyValue{{ModRevision: 5}}}
	if unchanged(after, 2, 9, lastOf(before)) {
		t.Error("what was modified at revision 8, and is not any more, counts as unchanged")
	}
}
