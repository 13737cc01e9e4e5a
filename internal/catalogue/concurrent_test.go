package catalogue_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// Operators allocate and deallocate while the coordinator fetches again and again. Each operator has its own ids, so
// the result must be what it did last.
func TestFetchesAndOperatorsAtTheSameTimeLoseNothing(t *testing.T) {
	w := newWorld(t)
	const operators, ids = 4, 12
	var source []catalogue.Item
	for o := range operators {
		for n := range ids / 2 { // the source has every second id
			source = append(source, item(fmt.Sprintf("%d-%d", o, 2*n)))
		}
	}
	w.apply(source...)
	awake := make([]map[string]bool, operators)
	var group errgroup.Group
	for o := range operators {
		awake[o] = map[string]bool{}
		group.Go(func() error {
			for range 60 {
				id := fmt.Sprintf("%d-%d", o, rand.IntN(ids))
				var err error
				if _, touched := awake[o][id]; touched && awake[o][id] {
					awake[o][id] = false
					_, err = w.store.Deallocate(t.Context(), id)
				} else {
					awake[o][id] = true
					_, err = w.store.Allocate(t.Context(), item(id), false)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	finished := make(chan error, 1)
	go func() { finished <- group.Wait() }()
	for fetching := true; fetching; {
		select {
		case err := <-finished:
			if err != nil {
				t.Fatal(err)
			}
			fetching = false
		default:
			w.apply(source...)
		}
	}
	w.apply(source...)

	got := w.entries()
	fromSource := map[string]bool{}
	for _, i := range source {
		fromSource[i.ID] = true
	}
	for o := range operators {
		for n := range ids {
			id := fmt.Sprintf("%d-%d", o, n)
			e, has := got[id]
			wanted, touched := awake[o][id]
			switch {
			case !touched && !fromSource[id] && has, touched && !wanted && !fromSource[id] && has:
				t.Errorf("%q is there, and nobody wants it: %s", id, e.Encode())
			case !touched && !fromSource[id], touched && !wanted && !fromSource[id]:
			case !has:
				t.Errorf("%q is gone", id)
			case e.FromSource != fromSource[id],
				touched && e.Suspended == wanted,
				touched && e.Allocated != wanted,
				!touched && e.Suspended:
				t.Errorf("%q is %s; from the source: %v, touched: %v, allocated: %v", id, e.Encode(), fromSource[id],
					touched, wanted)
			}
		}
	}
}
