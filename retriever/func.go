package retriever

import (
	"context"
	"slices"

	"github.com/distributed-resource-manager/drm"
)

// Func is a source that is a function. Fetch calls it and returns what it returned; Setup and TearDown do nothing.
type Func func(ctx context.Context) ([]drm.Resource, error)

var _ drm.Retriever = Func(nil)

// Setup does nothing.
func (f Func) Setup(context.Context, drm.API) error { return nil }

// Fetch calls the function.
func (f Func) Fetch(ctx context.Context) ([]drm.Resource, error) { return f(ctx) }

// TearDown does nothing.
func (f Func) TearDown(context.Context) error { return nil }

// Static makes a source that always has the same resources. Fetch tells with a *drm.BadItemsError of those that are not
// valid, and of ids that are there twice. The slice is copied.
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
