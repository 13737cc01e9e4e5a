package picture

import (
	"encoding/json"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// fuzzKeys makes keys from a text that has one key with its value in each line.
func fuzzKeys(text string) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	seen := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		if key = layout.Root() + key; seen[key] {
			continue
		}
		seen[key] = true
		number := int64(crc32.ChecksumIEEE([]byte(key))) + 1
		kvs = append(kvs, &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte(value), CreateRevision: number, ModRevision: number, Lease: number % 3,
		})
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return kvs
}

func seedKeys() string {
	n, root := shard.Of("a", testShards), layout.Root()
	return strings.Join([]string{
		strings.TrimPrefix(layout.Claim(n, "a"), root) +
			`={"member":"m","state":"active","since":"2026-01-02T03:04:05Z","error":""}`,
		strings.TrimPrefix(layout.Resource(n, "a"), root) +
			`={"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"a"}}`,
		`group/members/m={"state":"active","weight":1,"slots":[0]}`,
		"group/slots/00000=m", "group/coordinator=m", "stats/m={}", "what=?",
	}, "\n")
}

// Commands can read any keys at all, and count each of them once.
func FuzzPicture(f *testing.F) {
	f.Add(seedKeys())
	f.Fuzz(func(t *testing.T, text string) {
		var group, below []*mvccpb.KeyValue
		for _, kv := range fuzzKeys(text) {
			switch key := string(kv.Key); {
			case strings.HasPrefix(key, layout.Group()):
				group = append(group, kv)
			case strings.HasPrefix(key, layout.Shards()):
				below = append(below, kv)
			}
		}
		p := newPicture(layout, membership.NewView(layout.Root(), testShards, group, 9))
		for _, kv := range below {
			p.take(kv)
		}
		if got := len(p.entries) + len(p.claims) + len(p.sums) + len(p.corrupt) + len(p.strays); got != len(below) {
			t.Fatalf("%q: of %d keys there are %d", text, len(below), got)
		}
		s := p.Status()
		if s.Active+s.Failed+s.Unassigned > s.Resources {
			t.Fatalf("%q: %+v", text, s)
		}
		found := map[Kind]int{}
		for _, v := range p.verify(nil, time.Now()) {
			found[v.Kind]++
		}
		if found[KindCorrupt] != len(p.corrupt) || found[KindWrongShard] != len(p.strays) ||
			found[KindUnassigned] != s.Unassigned {
			t.Fatalf("%q: %v of %+v", text, found, s)
		}
		p.Assignments(Filter{})
		for _, r := range p.Resources() {
			if o := object.WithID(r.Data, r.ID); !json.Valid(o) {
				t.Fatalf("%q: the object of %q is %s", text, r.ID, o)
			}
		}
		(&Roll{View: p.view}).Members()
	})
}

// FollowOwners reports each claim that can be decoded once, and its end.
func FuzzFollowOwners(f *testing.F) {
	f.Add(seedKeys(), "shards/0000/claims/b={}")
	f.Fuzz(func(t *testing.T, first, then string) {
		owners := map[string]string{}
		o := newOwnerFollower(layout, func(c OwnerChange) {
			if c.Before != owners[c.Resource] && owners[c.Resource] != "" {
				t.Fatalf("%+v, though it was %q's", c, owners[c.Resource])
			}
			owners[c.Resource] = c.Member
		})
		o.Reset(nil, 1)
		o.Reset(fuzzKeys(first), 2)
		var events []*clientv3.Event
		for _, kv := range fuzzKeys(then) {
			events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
		}
		o.Apply(events, 3)
		for _, ev := range events {
			ev.Type = clientv3.EventTypeDelete
		}
		o.Apply(events, 4)
		o.Reset(nil, 5)
		for resource, member := range owners {
			if member != "" {
				t.Fatalf("%q is %q's, though there is nothing", resource, member)
			}
		}
	})
}
