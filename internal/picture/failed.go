package picture

import (
	"context"
	"fmt"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// EachFailed calls f with the ids of the resources whose claims say that they have failed, a few shards at a time,
// until f returns an error. It reads nothing but the claims, and not all of them at one revision.
func (r *Reader) EachFailed(ctx context.Context, f func(ids []string) error) error {
	for from := 0; from < r.Shards; from += sweepBatch {
		var prefixes []string
		for n := from; n < min(from+sweepBatch, r.Shards); n++ {
			prefixes = append(prefixes, r.Layout.Claims(n))
		}
		found, err := r.below(ctx, prefixes)
		if err != nil {
			return fmt.Errorf("read the claims: %w", err)
		}
		var ids []string
		for _, kvs := range found {
			for _, kv := range kvs {
				key := r.Layout.Parse(string(kv.Key))
				if key.Kind != keys.Claim || key.Home(r.Shards) != key.Number {
					continue
				}
				if c, err := claims.Decode(kv.Value); err == nil && c.State == claims.Failed {
					ids = append(ids, key.ID)
				}
			}
		}
		if len(ids) == 0 {
			continue
		}
		if err := f(ids); err != nil {
			return err
		}
	}
	return nil
}
