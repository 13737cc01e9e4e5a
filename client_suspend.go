package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Suspension says who has suspended a resource (Client.Suspend), why, and since when by the clock of whoever did.
type Suspension struct {
	By    string    `json:"by"` // empty where that is not known
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// SuspendedInfo is a resource that an operator has suspended.
type SuspendedInfo struct {
	Resource string
	Suspension
}

func suspensionOf(s *catalogue.Suspension) *Suspension {
	if s == nil {
		return nil
	}
	word := Suspension(*s)
	return &word
}

func suspendedOf(s picture.Suspended) SuspendedInfo {
	return SuspendedInfo{Resource: s.Resource, Suspension: Suspension(s.Suspension)}
}

// Suspend has a resource handled no more until Resume, though the source has it or an allocation wants it. It returns
// once etcd knows, before the resource is terminated; WaitGone waits for that. The suspension lasts whatever the source
// answers and whoever allocates the resource. It ends with the resource: when it is deallocated, or when the source
// drops what nobody has allocated. Of the options, By and Why count. A resource that is suspended already keeps the
// time at which it was, and what the options do not say.
//
// Coordinators of older versions keep it suspended too, but may forget who has suspended it and that an allocation
// wants it. ErrNotFound says that there is no such resource, or that it was deallocated.
func (c *Client) Suspend(ctx context.Context, id string, o OrderOptions) error {
	if o.For != 0 {
		return fmt.Errorf("suspend: %w",
			&InputError{"For", o.For.String(), "0: a suspension stands until the resource is resumed"})
	}
	if err := o.Validate(); err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	return c.writeEntry(ctx, "suspend", id, func(ctx context.Context, store *catalogue.Store) (int64, error) {
		since, o := time.Now().UTC().Truncate(time.Second), c.said(o)
		return store.Suspend(ctx, id, catalogue.Suspension{By: o.By, Why: o.Why, Since: since})
	})
}

// Resume has a resource handled again that was suspended. One that is not suspended it leaves alone. One that was
// deallocated while its source has it is handled again too, since its source wants it. It does not wait for that; Wait
// does. ErrNotFound says that there is no such resource, or that nobody wants it.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.writeEntry(ctx, "resume", id, func(ctx context.Context, store *catalogue.Store) (int64, error) {
		return store.Resume(ctx, id)
	})
}

// writeEntry changes the catalogue's entry of a resource.
func (c *Client) writeEntry(
	ctx context.Context, what, id string, write func(context.Context, *catalogue.Store) (int64, error),
) error {
	if err := (Resource{ID: id}).Validate(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	store, err := c.store(ctx, false)
	if err != nil {
		return fmt.Errorf("%s %q: %w", what, id, err)
	}
	bounded, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	_, err = write(bounded, store)
	if errors.Is(err, catalogue.ErrTooLarge) {
		return fmt.Errorf("%s %q: the entry would not fit into one request to etcd: %w", what, id, err)
	}
	return writeError(ctx, err)
}
