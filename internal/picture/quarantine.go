package picture

import (
	"context"
	"fmt"
	"slices"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// shardsAtOnce is how many shards are read at once where most of them have nothing to read. etcd takes 128 reads in a
// request by default.
const shardsAtOnce = 100

// Quarantined lists the ids of the resources of which there is a record of quarantine, in order. It reads nothing but
// these records. It never returns nil.
func (r *Reader) Quarantined(ctx context.Context) ([]string, error) {
	ids := []string{}
	for from := 0; from < r.Shards; from += shardsAtOnce {
		var prefixes []string
		for n := from; n < min(from+shardsAtOnce, r.Shards); n++ {
			prefixes = append(prefixes, r.Layout.Quarantines(n))
		}
		found, err := r.below(ctx, prefixes)
		if err != nil {
			return ids, fmt.Errorf("read the records of quarantine: %w", err)
		}
		for _, kvs := range found {
			for _, kv := range kvs {
				key := r.Layout.Parse(string(kv.Key))
				if key.Kind == keys.Quarantine && key.Home(r.Shards) == key.Number {
					ids = append(ids, key.ID)
				}
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}
