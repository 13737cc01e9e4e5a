package drm

import (
	"encoding/json"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const fuzzShards = 16

var fuzzLayout = keys.New("/drm", "app")

// fuzzKeys makes keys of a text with a key and its value a line.
func fuzzKeys(text string) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	seen := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		if key = fuzzLayout.Root() + key; seen[key] {
			continue
		}
		seen[key] = true
		number := int64(crc32.ChecksumIEEE([]byte(key))) + 1
		kvs = append(kvs, &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: number, ModRevision: number, Lease: number % 3})
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return kvs
}

func seedKeys() string {
	claim, entry := fuzzLayout.Claim(shard.Of("a", fuzzShards), "a"), fuzzLayout.Resource(shard.Of("a", fuzzShards), "a")
	root := fuzzLayout.Root()
	return strings.TrimPrefix(claim, root) + `={"member":"m","state":"active","since":"2026-01-02T03:04:05Z","error":""}` + "\n" +
		strings.TrimPrefix(entry, root) + `={"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"a"}}` + "\n" +
		`group/members/m={"state":"active","weight":1,"slots":[0]}` + "\n" + "group/slots/00000=m\ngroup/coordinator=m\nstats/m={}\nwhat=?"
}

// What commands make of any keys at all.
func FuzzPicture(f *testing.F) {
	f.Add(seedKeys())
	f.Fuzz(func(t *testing.T, text string) {
		p, r := newPicture(), &reader{layout: fuzzLayout}
		var group []*mvccpb.KeyValue
		take := p.take(fuzzLayout, fuzzShards)
		below := 0
		for _, kv := range fuzzKeys(text) {
			switch key := string(kv.Key); {
			case strings.HasPrefix(key, fuzzLayout.Group()):
				group = append(group, kv)
			case strings.HasPrefix(key, fuzzLayout.Shards()):
				below++
				take(kv)
			}
		}
		p.view = membership.NewView(r.layout.Root(), fuzzShards, group, 9)
		if got := len(p.entries) + len(p.claims) + len(p.corrupt) + len(p.strays); got != below {
			t.Fatalf("%q: of %d keys there are %d", text, below, got)
		}
		s := p.status("app", fuzzShards)
		if s.Active+s.Failed+s.Unassigned > s.Resources {
			t.Fatalf("%q: %+v", text, s)
		}
		found := map[ViolationKind]int{}
		for _, v := range p.verify(fuzzShards, nil, time.Now()) {
			found[v.Kind]++
		}
		if found[ViolationCorrupt] != len(p.corrupt) || found[ViolationWrongShard] != len(p.strays) || found[ViolationUnassigned] != s.Unassigned {
			t.Fatalf("%q: %v of %+v", text, found, s)
		}
		p.assignments(fuzzShards, AssignmentFilter{})
		if _, err := json.Marshal(p.resources(fuzzShards)); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		(&roll{view: p.view}).members()
	})
}

// Whoever follows the owners is told of each claim that it understands, once, and that it ended.
func FuzzFollowOwners(f *testing.F) {
	f.Add(seedKeys(), "shards/0000/claims/b={}")
	f.Fuzz(func(t *testing.T, first, then string) {
		owners := map[string]string{}
		o := newOwnerFollower(fuzzLayout, func(c OwnerChange) {
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
