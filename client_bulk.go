package drm

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/intake"
)

// BulkOutcome says what became of one of the many resources of an AllocateAll or a DeallocateAll.
type BulkOutcome struct {
	Index int    // its place in the sequence, from 0
	ID    string // of the resource; as it was given, where it is none
	Err   error  // nil: it was done
}

const (
	// bulkMost and bulkBytes bound how much of the sequence is in memory, and in progress, at once.
	bulkMost  = 4096
	bulkBytes = 8 << 20
)

// AllocateAll is Allocate for any number of resources, thousands a second: in as few requests as etcd takes, several
// at once. A resource that is as it should be already costs a read only, so that a run that was interrupted can be
// begun anew. Where an id comes twice, it counts in the order of the sequence.
//
// resources is called once, in another goroutine, and as far ahead as a few thousand resources; it may be endless, and
// may pause: what it has given by then is allocated. AllocateAll returns after resources does, so where resources
// blocks it should end when ctx does. told is called for each resource that etcd, or the check of the resource, has
// decided about, in no particular order and never by two goroutines at once; BulkOutcome.Err is an error of Allocate.
//
// The error says why AllocateAll ended before it had come to the end: ErrNoApp, ErrAppGone, ErrUnreachable, that ctx
// has ended. The resources that told was not called for may or may not have been allocated then.
func (c *Client) AllocateAll(ctx context.Context, resources iter.Seq[Resource], told func(BulkOutcome)) error {
	store, err := c.store(ctx, c.cfg.Create)
	if err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	size := func(r Resource) int { return len(r.ID) + len(r.Data) }
	return inBulk(ctx, "allocate", resources, size, func(first int, part []Resource) error {
		wants, at := make([]catalogue.Want, 0, len(part)), make([]int, 0, len(part))
		for i, r := range part {
			data, err := r.checked()
			if err != nil {
				told(BulkOutcome{first + i, r.ID, err})
				continue
			}
			item := catalogue.Item{ID: r.ID, Data: data}
			wants, at = append(wants, catalogue.Want{Item: item, OwnData: saysMoreThanID(data)}), append(at, i)
		}
		return store.AllocateAll(ctx, wants, func(n int, err error) {
			r := part[at[n]]
			told(BulkOutcome{first + at[n], r.ID, allocateError(ctx, r, err)})
		})
	})
}

// DeallocateAll is Deallocate for any number of ids, as AllocateAll is Allocate. BulkOutcome.Err matches ErrNotFound
// where the catalogue has no such resource, or it was deallocated already.
func (c *Client) DeallocateAll(ctx context.Context, ids iter.Seq[string], told func(BulkOutcome)) error {
	store, err := c.store(ctx, false)
	if err != nil {
		return fmt.Errorf("deallocate: %w", err)
	}
	size := func(id string) int { return len(id) }
	return inBulk(ctx, "deallocate", ids, size, func(first int, part []string) error {
		good, at := make([]string, 0, len(part)), make([]int, 0, len(part))
		for i, id := range part {
			if err := (Resource{ID: id}).Validate(); err != nil {
				told(BulkOutcome{first + i, id, err})
				continue
			}
			good, at = append(good, id), append(at, i)
		}
		return store.DeallocateAll(ctx, good, func(n int, err error) {
			told(BulkOutcome{first + at[n], good[n], writeError(ctx, err)})
		})
	})
}

// inBulk calls do with parts of a sequence, until it fails. first is the place of the part's first item.
func inBulk[T any](
	ctx context.Context, doing string, all iter.Seq[T], size func(T) int, do func(first int, part []T) error,
) error {
	queue := intake.New[T](bulkMost, bulkBytes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer queue.Close()
		for item := range all {
			if !queue.Put(ctx, item, size(item)) {
				return
			}
		}
	}()
	defer func() { cancel(); <-ended }()
	for first := 0; ; {
		part, ok := queue.Take(ctx)
		if !ok {
			break
		}
		if err := do(first, part); err != nil {
			if errors.Is(err, ErrAppGone) {
				return fmt.Errorf("%s: %w", doing, err)
			}
			return fmt.Errorf("%s: %w", doing, etcd.Unreachable(ctx, err))
		}
		first += len(part)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
