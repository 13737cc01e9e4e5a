package order

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Rebalance orders that the coordinator even the load out now. It returns once etcd has the order; the coordinator
// deletes it when it begins, and Reader.WaitBegun waits for that.
//
// Errors: ErrNoPlacer, ErrChanged, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Rebalance(ctx context.Context, o Options) (picture.Order, error) {
	value, err := json.Marshal(o.order(d.now()))
	if err != nil {
		return picture.Order{}, err
	}
	for range attempts {
		view, err := d.Reader.Group(ctx)
		if err != nil {
			return picture.Order{}, err
		}
		if !view.HasGuide() {
			return picture.Order{}, ErrNoPlacer
		}
		same, err := d.unchanged(ctx, view, o.IfRevision)
		if err != nil {
			return picture.Order{}, err
		}
		given, err := d.toCoordinator(ctx, d.Reader.Layout.RebalanceOrder(), string(value), same...)
		if !errors.Is(err, errBusy) {
			return given, tooMany(err, o.IfRevision)
		}
	}
	return picture.Order{}, errBusy
}
