package order

import (
	"context"
	"encoding/json"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Rebalance orders that the coordinator even the load out now. It returns once etcd has the order; the coordinator
// deletes it when it begins, and Reader.WaitBegun waits for that.
//
// Errors: ErrNoPlacer, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Rebalance(ctx context.Context, o Options) (picture.Order, error) {
	view, err := d.Reader.Group(ctx)
	if err != nil {
		return picture.Order{}, err
	}
	if !view.HasGuide() {
		return picture.Order{}, ErrNoPlacer
	}
	value, err := json.Marshal(o.order(d.now()))
	if err != nil {
		return picture.Order{}, err
	}
	return d.toCoordinator(ctx, d.Reader.Layout.RebalanceOrder(), string(value))
}
