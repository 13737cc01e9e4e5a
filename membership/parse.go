package membership

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// Parse reads one key below group/ of the app with that Root, for whoever tells what has changed. It returns a View
// that has nothing but what this key says, and false if the key is not understood. The View has no owners, so only its
// fields are of use. It lacks slots and declines.
func Parse(root string, shards int, kv *mvccpb.KeyValue) (*View, bool) {
	key := keys.At(root).Parse(string(kv.Key))
	v := &View{Revision: kv.ModRevision, Shards: shards}
	switch key.Kind {
	case keys.Member:
		v.Members = map[string]Member{}
	case keys.Drain:
		v.Drains = map[string]Restriction{}
	case keys.Cordon:
		v.Cordons = map[string]Restriction{}
	case keys.Weight:
		v.Weights = map[string]WeightOrder{}
	case keys.Reservation:
		v.Reservations = map[string]Reservation{}
	case keys.Pin:
		v.Pins = map[int]Pin{}
	case keys.Exception:
		v.Exceptions = map[int]Exception{}
	case keys.Move:
		v.Moves = map[string]Move{}
	case keys.Prepared:
		v.Prepared = map[string]int64{}
	case keys.Slot:
		id := string(kv.Value)
		return v, id == "" || keys.CheckID(id) == nil
	case keys.Block:
		var b shard.Block
		b, ok := decodeBlock(key, kv)
		v.Blocks = []shard.Block{b}
		return v, ok
	case keys.Decline:
		_, ok := decodeDecline(kv)
		return v, ok
	}
	ok := v.take(key, kv, nil)
	return v, ok
}
