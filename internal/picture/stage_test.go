package picture

import (
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const testShards = 16

var layout = keys.New("/drm", "app")

// shardOf is the shard of a resource in the tests' app.
func shardOf(id string) int { return shard.Of(id, testShards) }

// key makes a key on a lease, whose create and mod revision are the token.
func key(name, value string, token, lease int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(name), Value: []byte(value), CreateRevision: token, ModRevision: token, Lease: lease,
	}
}

func memberKey(id, state string, lease int64) *mvccpb.KeyValue {
	return key(layout.Member(id), `{"state":"`+state+`","weight":1,"slots":[`+slotOf(id)+`]}`, 1, lease)
}

// slotOf is the slot of a member in the tests: 0 of "a", 1 of "b", and so on.
func slotOf(id string) string { return string(rune('0' + id[0] - 'a')) }

func slotKey(id string) *mvccpb.KeyValue { return key(layout.Slot(int(id[0]-'a')), id, 1, 0) }

func entryKey(id string, suspended bool) *mvccpb.KeyValue {
	text := `{"from_source":true,"allocated":false,"own_data":false,"suspended":false,"data":{"id":"` + id + `"}}`
	if suspended {
		text = strings.Replace(text, `"suspended":false`, `"suspended":true`, 1)
	}
	return key(layout.Resource(shardOf(id), id), text, 2, 0)
}

// suspendedEntry is the entry of a resource that an operator has suspended.
func suspendedEntry(id string) *mvccpb.KeyValue {
	kv := entryKey(id, true)
	by := `"suspension":{"by":"ann","why":"it floods"},"data"`
	kv.Value = []byte(strings.Replace(string(kv.Value), `"data"`, by, 1))
	return kv
}

func claimKey(id, member, state string, token, lease int64) *mvccpb.KeyValue {
	value := `{"member":"` + member + `","state":"` + state + `","since":"2026-01-02T03:04:05Z","error":""}`
	return key(layout.Claim(shardOf(id), id), value, token, lease)
}

// of makes a picture of keys of the group, of shards, and others. Summaries must come before their claims.
func of(kvs ...*mvccpb.KeyValue) *Picture {
	var group, rest []*mvccpb.KeyValue
	for _, kv := range kvs {
		if strings.HasPrefix(string(kv.Key), layout.Group()) {
			group = append(group, kv)
		} else {
			rest = append(rest, kv)
		}
	}
	p := newPicture(layout, membership.NewView(layout.Root(), testShards, group, 9))
	for _, kv := range rest {
		if strings.HasPrefix(string(kv.Key), layout.Shards()) {
			p.take(kv)
		} else {
			p.takeRest(kv)
		}
	}
	return p
}
