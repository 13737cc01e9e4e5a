package order

import (
	"context"
	"errors"
	"fmt"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/shard"
)

// Retry frees a resource that is quarantined. It returns picture.ErrNotFound where the resource is not.
func (d *Desk) Retry(ctx context.Context, id string) error {
	return d.ask(ctx, func(ctx context.Context) error {
		key := d.Reader.Layout.Quarantine(shard.Of(id, d.Reader.Shards), id)
		resp, err := d.Reader.Client.Delete(ctx, key)
		if err == nil && resp.Deleted == 0 {
			return fmt.Errorf("%w: it is not quarantined", picture.ErrNotFound)
		}
		return err
	})
}

// RetryAll frees all resources that are quarantined. It returns the ids of those that it has freed, also where it
// returns an error; it never returns nil.
func (d *Desk) RetryAll(ctx context.Context) ([]string, error) {
	freed := []string{}
	ids, err := d.Reader.Quarantined(ctx)
	if err != nil {
		return freed, err
	}
	for _, id := range ids {
		err := d.Retry(ctx, id)
		if errors.Is(err, picture.ErrNotFound) { // somebody else was faster
			continue
		}
		if err != nil {
			return freed, fmt.Errorf("resource %q: %w", id, err)
		}
		freed = append(freed, id)
	}
	return freed, nil
}
