package drm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// userRetriever adapts a Retriever to what package source calls. Whatever the user's code does in a call, and whatever
// the methods of its errors do, happens here, in the goroutine and within the limits of that call.
type userRetriever struct {
	retriever Retriever
	api       API
	quota     catalogue.Quota
}

// Setup implements source.Retriever.
func (u userRetriever) Setup(ctx context.Context) error {
	return safely(func() error { return u.retriever.Setup(ctx, u.api) })
}

// TearDown implements source.Retriever.
func (u userRetriever) TearDown(ctx context.Context) error {
	return safely(func() error { return u.retriever.TearDown(ctx) })
}

// Forget implements source.Retriever. Not every Retriever has it.
func (u userRetriever) Forget() error {
	f, ok := u.retriever.(Forgetter)
	if !ok {
		return nil
	}
	return safely(func() error { f.Forget(); return nil })
}

// Fetch implements source.Retriever.
func (u userRetriever) Fetch(ctx context.Context) (a source.Answer) {
	err := safely(func() error {
		a = u.fetched(u.retriever.Fetch(ctx))
		return nil
	})
	if err != nil { // it panicked
		return source.Answer{Failure: &source.Failure{Err: err}}
	}
	return a
}

// fetched takes down all that a Fetch has returned.
func (u userRetriever) fetched(resources []Resource, err error) source.Answer {
	bad, before := badItemsOf(err)
	if most := u.quota.Resources; most > 0 && len(resources) > most && (err == nil || bad != nil) {
		return source.Answer{Failure: judged(&overQuota{QuotaError{catalogue.MaxAppResources, most, len(resources)}})}
	}
	if err == nil || bad != nil {
		return source.Answer{Items: fetchedItems{resources, bad, u.quota.Bytes}, Before: before}
	}
	if matches(err, ErrNotModified) {
		return source.Answer{Unchanged: true}
	}
	return source.Answer{Failure: judged(err)}
}

// overQuota is the failure of an answer that has too many resources. The same answer would only fail again.
type overQuota struct{ QuotaError }

func (e *overQuota) Error() string {
	return "the answer of the source is refused: " + e.QuotaError.Error()
}

// Unwrap returns the *QuotaError.
func (e *overQuota) Unwrap() error { return &e.QuotaError }

// Retryable implements Retryable.
func (e *overQuota) Retryable() (after time.Duration, again bool) { return 0, false }

// judged takes down all that an error of Fetch has to say: Retryable, Is, As and Unwrap are the user's code, as Error
// is.
func judged(err error) *source.Failure {
	f := &source.Failure{Err: told(err)}
	_ = safely(func() error { // where one of them panics, the error has no advice
		var advice Retryable
		if errors.As(err, &advice) {
			after, again := advice.Retryable()
			f.Advised, f.After, f.Again = true, after, again
		}
		return nil
	})
	return f
}

// onSourceError adapts Config.OnSourceError, which may be nil.
func onSourceError(f func(error)) func(error) error {
	if f == nil {
		return nil
	}
	return func(err error) error { return safely(func() error { f(err); return nil }) }
}

// fetchedItems are the resources that a Fetch has returned, and what its error said is bad.
type fetchedItems struct {
	resources []Resource
	said      *BadItemsError
	bytes     int // how many an item may have; 0: any number
}

// Check implements source.Items.
func (f fetchedItems) Check() ([]catalogue.Item, source.BadItems) {
	items, bad := toItems(f.resources, f.said, f.bytes)
	return items, badItems{bad}
}

// badItems adapts a BadItemsError, the texts of whose errors have been taken down.
type badItems struct{ all *BadItemsError }

// errTooLarge is what is wrong with an item that etcd did not take. Its entry stays what it was.
var errTooLarge = errors.New("it does not fit into one request to etcd")

// Count implements source.BadItems.
func (b badItems) Count() int { return b.all.count }

// Digest implements source.BadItems.
func (b badItems) Digest() uint64 { return b.all.doubt }

// Keep implements source.BadItems.
func (b badItems) Keep() (ids map[string]struct{}, all bool) { return b.all.keep, b.all.keepAll }

// First implements source.BadItems.
func (b badItems) First() []source.BadItem {
	first := make([]source.BadItem, len(b.all.items))
	for i, item := range b.all.items {
		first[i] = source.BadItem{
			Index: item.Index, ID: item.ID, Error: item.Err.Error(), Text: item.describe(),
			TooLarge: item.Err == errTooLarge, //nolint:errorlint // this very one
		}
	}
	return first
}

// AddTooLarge implements source.BadItems.
func (b badItems) AddTooLarge(id string) { b.all.Add(BadItem{Index: -1, ID: id, Err: errTooLarge}) }

// AsError implements source.BadItems. The error has a copy of the items: the user may have it for long.
func (b badItems) AsError(text string) error {
	bad := b.all.told()
	return &toldError{excerpt.Clip(text+bad.Error(), usercode.MaxText), bad}
}

// toItems checks what a Retriever returned. What is not a resource is added to what the Retriever itself said is bad.
func toItems(resources []Resource, said *BadItemsError, bytes int) (items []catalogue.Item, bad *BadItemsError) {
	bad = &BadItemsError{}
	if said != nil {
		bad = said
	}
	items = make([]catalogue.Item, len(resources)) // those of bad ones stay empty
	const piece = 10_000
	found := make([]BadItemsError, (len(resources)+piece-1)/piece) // by piece, so that bad is in the answer's order
	var checking errgroup.Group
	checking.SetLimit(runtime.GOMAXPROCS(0))
	for n := range found {
		checking.Go(func() error {
			for i := n * piece; i < min((n+1)*piece, len(resources)); i++ {
				r := &resources[i]
				object, err := r.checked()
				if err == nil && bytes > 0 && len(object) > bytes {
					err = &QuotaError{catalogue.MaxResourceBytes, bytes, len(object)}
				}
				if err != nil {
					found[n].Add(BadItem{Index: i, ID: r.ID, Err: err}, idWithin(r.Data)...)
					continue
				}
				items[i] = catalogue.Item{ID: r.ID, Data: object}
			}
			return nil
		})
	}
	_ = checking.Wait() // what is bad is in found
	for n := range found {
		bad.merge(&found[n])
	}
	return withoutRepeats(items, bad), bad
}

// withoutRepeats returns the items whose ids are not empty, in their place. An item whose id another one before it has
// is left out, and added to bad.
func withoutRepeats(items []catalogue.Item, bad *BadItemsError) []catalogue.Item {
	type place struct{ good, index int }
	seen := make(map[string]place, len(items))
	good := 0
	for i, item := range items {
		if item.ID == "" {
			continue
		}
		if first, twice := seen[item.ID]; twice {
			want := fmt.Sprintf("an id that item %d does not have already", first.index)
			bad.Add(BadItem{
				Index: i, ID: item.ID, Repeats: bytes.Equal(item.Data, items[first.good].Data),
				Err: &InputError{Field: "id", Value: item.ID, Want: want},
			})
			continue
		}
		seen[item.ID] = place{good, i}
		items[good] = item
		good++
	}
	clear(items[good:])
	return items[:good]
}

// idWithin returns the id that an object has, if it has one that is legible.
func idWithin(text []byte) []string {
	if id, has, err := object.ID(text); has && err == nil {
		return []string{id}
	}
	return nil
}

// badItemsOf finds the BadItemsError of a Fetch, and what the errors around it say before its own text. Another error
// beside it would say that the answer is not whole, so it is looked for only in errors that wrap no other one. It is
// called like told, and what it returns has no code of the user's in it.
func badItemsOf(err error) (bad *BadItemsError, before string) {
	_ = safely(func() error {
		for inner := err; inner != nil; {
			if found, ok := inner.(*BadItemsError); ok { //nolint:errorlint // the loop unwraps
				if found != nil {
					bad, before = found.told(), beginningOf(textOf(err), textOf(found))
				}
				return nil
			}
			wrapper, ok := inner.(interface{ Unwrap() error })
			if !ok {
				return nil
			}
			inner = wrapper.Unwrap()
		}
		return nil
	})
	return bad, before
}

// beginningOf is what a text says before another one that it ends with.
func beginningOf(text, end string) string {
	if len(text) >= len(end) && text[len(text)-len(end):] == end {
		return text[:len(text)-len(end)]
	}
	return ""
}

// told is a copy, with the texts of the user's errors taken down.
func (e *BadItemsError) told() *BadItemsError {
	c := *e
	c.keep = maps.Clone(e.keep)
	c.items = slices.Clone(e.items)
	for i := range c.items {
		c.items[i].Err = told(c.items[i].Err)
	}
	return &c
}
