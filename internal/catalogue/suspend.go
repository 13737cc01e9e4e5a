package catalogue

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Suspend makes an entry say that nobody handles the resource until Resume, though the source or an allocation wants
// it. What is suspended already keeps the time at which it was, and what the order does not say. Suspend returns the
// revision at which etcd has it.
//
// Errors: ErrNotFound if nobody wants the resource; ErrAppGone; ErrTooLarge; etcd's, after which it may or may not have
// been done.
func (s *Store) Suspend(ctx context.Context, id string, order Suspension) (int64, error) {
	rev, err := s.change(ctx, id, func(old *Entry, _ bool, _ *mvccpb.KeyValue) (*Entry, error) {
		switch {
		case old == nil:
			return nil, ErrNotFound
		case old.deallocated():
			return nil, fmt.Errorf("%w: it was deallocated", ErrNotFound)
		}
		e, given := *old, order
		if was := old.Suspension; was != nil {
			if given.Why == "" {
				return nil, errUnchanged
			}
			given.Since = was.Since
			if given.By == "" {
				given.By = was.By
			}
		}
		e.Suspended, e.Suspension = true, &given
		return &e, nil
	})
	if err != nil {
		return 0, fmt.Errorf("suspend %q: %w", id, err)
	}
	return rev, nil
}

// Resume ends the suspension of a resource, also of one that was deallocated while the source has it: a program of an
// older version may have written the entry without its Suspension, which then looks like that. It leaves alone what is
// not suspended. It returns the revision at which etcd has it. Its errors are those of Suspend.
func (s *Store) Resume(ctx context.Context, id string) (int64, error) {
	rev, err := s.change(ctx, id, func(old *Entry, _ bool, _ *mvccpb.KeyValue) (*Entry, error) {
		switch {
		case old == nil:
			return nil, ErrNotFound
		case !old.Suspended:
			return nil, errUnchanged
		case !old.FromSource && !old.Allocated:
			return nil, fmt.Errorf("%w: it was deallocated, and its source does not have it", ErrNotFound)
		}
		e := *old
		e.Suspended, e.Suspension = false, nil
		return &e, nil
	})
	if err != nil {
		return 0, fmt.Errorf("resume %q: %w", id, err)
	}
	return rev, nil
}
