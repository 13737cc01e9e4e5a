package retriever

import (
	"context"
	"slices"

	"github.com/distributed-resource-manager/drm"
)

// Func makes a source of a function. Fetch calls the function and returns its results; Setup and TearDown do nothing.
type Func func(ctx context.Context) ([]drm.Resource, error)

var _ drm.Retriever = Func(nil)

// Setup does nothing.
func (f Func) Setup(context.Context, drm.API) error { return nil }

// Fetch calls the function.
func (f Func) Fetch(ctx context.Context) ([]drm.Resource, error) { return f(ctx) }

// TearDown does nothing.
func (f Func) TearDown(context.Context) error { return nil }

// Static makes a source that always returns the same resources. If some of them are not valid, or have the id of an
// earlier one, Fetch returns the others together with a *drm.BadItemsError. The slice is copied.
func Static(resources ...drm.Resource) drm.Retriever {
	c := newCollector(DecodeOptions{})
	for _, r := range resources {
		if err := r.Validate(); err != nil {
			ids := idsIn(r.Data)
			c.addBad(drm.BadItem{ID: r.ID, Err: err}, ids.all...)
			continue
		}
		c.addResource(r)
	}
	return Func(func(context.Context) ([]drm.Resource, error) { return slices.Clone(c.resources), c.bad.OrNil() })
}
