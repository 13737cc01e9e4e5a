package drm

import (
	"bytes"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/object"
)

// toItems checks what a Retriever returned. What is not a resource is added to what the Retriever itself said is bad.
func toItems(resources []Resource, said *BadItemsError) (items []catalogue.Item, bad *BadItemsError) {
	bad = &BadItemsError{}
	if said != nil {
		bad = said
	}
	items = make([]catalogue.Item, len(resources))
	const piece = 10_000
	found := make([]BadItemsError, (len(resources)+piece-1)/piece) // by piece, so that the first ones are told of
	var checking errgroup.Group
	checking.SetLimit(runtime.GOMAXPROCS(0))
	for n := range found {
		checking.Go(func() error {
			for i := n * piece; i < min((n+1)*piece, len(resources)); i++ {
				object, err := resources[i].checked()
				if err != nil {
					found[n].Add(BadItem{Index: i, ID: resources[i].ID, Err: err}, idWithin(resources[i].Data)...)
					continue
				}
				items[i] = catalogue.Item{ID: resources[i].ID, Data: object}
			}
			return nil
		})
	}
	_ = checking.Wait() // what is bad is in found
	for n := range found {
		bad.merge(&found[n])
	}
	type place struct{ good, index int }
	seen := make(map[string]place, len(items))
	good := 0
	for i, item := range items {
		if item.ID == "" { // it is bad
			continue
		}
		if first, twice := seen[item.ID]; twice {
			bad.Add(BadItem{
				Index: i, ID: item.ID, Repeats: bytes.Equal(item.Data, items[first.good].Data),
				Err: &InputError{Field: "id", Value: item.ID, Want: fmt.Sprintf("an id that item %d does not have already", first.index)},
			})
			continue
		}
		seen[item.ID] = place{good, i}
		items[good] = item
		good++
	}
	clear(items[good:])
	return items[:good], bad
}

// idWithin returns the id that an object has, if it has one that is legible.
func idWithin(text []byte) []string {
	if id, has, err := object.ID(text); has && err == nil {
		return []string{id}
	}
	return nil
}
