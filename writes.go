package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// allocate and deallocate serve the Manager and the Client alike.

func newStore(etcd txn.Committer, limits *txn.Limits, layout keys.Layout, app appconfig.Config, timeout time.Duration) *catalogue.Store {
	return &catalogue.Store{
		Etcd: etcd, Limits: limits, Layout: layout, Shards: app.Shards, Config: app.CreateRevision, Timeout: timeout,
	}
}

func allocate(ctx context.Context, store *catalogue.Store, timeout time.Duration, r Resource) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	item := catalogue.Item{ID: r.ID, Data: r.Object()}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := store.Allocate(bounded, item, saysMoreThanID(item.Data))
	if errors.Is(err, catalogue.ErrTooLarge) {
		return fmt.Errorf("allocate %q: %w", r.ID, &InputError{
			Field: "data", Value: fmt.Sprintf("%d bytes", len(r.Data)), Want: "what fits into one request to etcd, 1.5 MiB by default",
		})
	}
	return writeError(ctx, err)
}

func deallocate(ctx context.Context, store *catalogue.Store, timeout time.Duration, id string) error {
	if err := (Resource{ID: id}).Validate(); err != nil {
		return fmt.Errorf("deallocate: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := store.Deallocate(bounded, id)
	return writeError(ctx, err)
}

// writeError makes an error of the catalogue match the root's.
func writeError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, catalogue.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, ErrAppGone):
		return err
	default:
		return etcd.Unreachable(ctx, err)
	}
}

// saysMoreThanID says whether an object has a field besides "id": an allocation without data of its own leaves the data
// that the catalogue has.
func saysMoreThanID(object []byte) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(object, &fields) != nil || len(fields) > 1
}
