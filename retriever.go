package drm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Retriever is a source of resources. Setup and TearDown run once on every member; Fetch runs on the coordinator
// only, one call at a time, between the two.
type Retriever interface {
	// Setup prepares the retriever. It may keep api and use it from any goroutine until TearDown has returned.
	Setup(ctx context.Context, api API) error
	// Fetch returns every resource that should be handled now, each id once. The catalogue then becomes what Fetch
	// returned (allocated resources aside). An error leaves the catalogue as it is; so does ErrNotModified, which is a
	// success. Beside the good resources, Fetch may return a *BadItemsError that tells of items that are no resources;
	// DRM adds to it resources whose Validate fails, and ids that are there twice. Where a Fetch does not return long
	// after its context has ended, the member resigns as coordinator, so that another member's Retriever is asked, and
	// what the Fetch returns in the end is thrown away.
	Fetch(ctx context.Context) ([]Resource, error)
	// TearDown releases what Setup took. It is called after every resource was terminated and Fetch has returned,
	// unless Fetch ignores the end of its context. It also follows a Setup that took longer than FetchTimeout, ignored
	// the end of its context, and succeeded after all.
	TearDown(ctx context.Context) error
}

// Retryable is what an error of Fetch may implement, or wrap, to say whether and when the source may be asked again;
// retriever.StatusError does. After another error the source is asked again, after 1, 2, 4, … s, within
// Config.FetchRetryBudget.
type Retryable interface {
	// Retryable returns again false where trying again would only meet the same error: the fetch then counts as failed
	// at once, and the next poll asks again. after is how long the source wants to be left alone: until then neither a
	// retry, a poll, a Refetch nor another coordinator asks it, since the time is kept in etcd. Where the budget does
	// not last that long, the fetch has failed. 0 sets no time; more than 24 h counts as 24 h.
	Retryable() (after time.Duration, again bool)
}

// API is what a Retriever may call. It is safe for use from any goroutine.
type API interface {
	// Allocate adds a resource to the catalogue, or changes its data. It returns once etcd has it.
	Allocate(ctx context.Context, r Resource) error
	// Deallocate takes a resource out. ErrNotFound says that there is none.
	Deallocate(ctx context.Context, id string) error
	// Refetch makes DRM call Fetch soon, because the source has news. It returns at once. Only the coordinator's
	// Retriever is asked: another member remembers it, in case it becomes the coordinator.
	Refetch()
}

// Forgetter is what a Retriever that returns ErrNotModified should implement besides: Forget makes the next Fetch
// return everything. DRM calls it where the answer that ErrNotModified is, or would be, about is not the one that the
// catalogue stands for: DRM refused that answer, or it came after FetchTimeout, or another member's answer came later.
// A Fetch follows in the same goroutine, and both have FetchTimeout together. Where that Fetch returns ErrNotModified
// all the same, it has failed.
type Forgetter interface {
	Forget()
}

// MaxBadItems is how many bad items of an answer are listed. The others are only counted.
const MaxBadItems = 100

// maxKept bounds the ids that a BadItemsError remembers. An answer with bad items of more ids than that removes
// nothing.
const maxKept = 10_000

// BadItem is an item of a source's answer that is not a resource.
type BadItem struct {
	Index int    // the item's place in the answer, from 0, counted over all pages; -1: not known
	ID    string // the item's id; empty where it has none that could be a resource's
	// Err says what is wrong with the item. Its text is logged, and kept in etcd: it should name fields, and never tell
	// their values, except that of the id.
	Err error
	// Repeats says that a good item of the answer is the same as this one, so that nothing is in doubt.
	Repeats bool
}

func (b BadItem) describe() string {
	switch id := excerpt.Of(b.ID); {
	case b.Index < 0:
		return fmt.Sprintf("id %q: %v", id, b.Err)
	case b.ID == "":
		return fmt.Sprintf("item %d: %v", b.Index, b.Err)
	default:
		return fmt.Sprintf("item %d (id %q): %v", b.Index, id, b.Err)
	}
}

// BadItemsError is what a Retriever's Fetch returns together with the resources of an answer, some items of which are
// bad. The resources are taken all the same, unless Config.SourceStrict is set or there are more bad items than good
// ones. A resource that a bad item may stand for is neither removed nor changed because of that. The zero value has no
// item.
type BadItemsError struct {
	count   int
	items   []BadItem           // the first MaxBadItems
	keep    map[string]struct{} // at most maxKept
	keepAll bool
	doubt   uint64 // the sum of the ids' hashes: which ids are bad, in whatever order
}

// Add adds a bad item. The item may stand for the resource with its id, and for those with the further ids. Where one
// of these ids is not one that a resource can have, it may stand for any resource, unless it Repeats another item.
func (e *BadItemsError) Add(item BadItem, further ...string) {
	if keys.CheckID(item.ID) != nil {
		item.ID = ""
		e.keepAll = e.keepAll || !item.Repeats
	}
	if item.Err == nil {
		item.Err = errors.New("it is bad")
	}
	e.count++
	if len(e.items) < MaxBadItems {
		e.items = append(e.items, item)
	}
	e.mark(item.ID)
	if item.Repeats {
		return
	}
	if item.ID != "" {
		e.keepID(item.ID)
	}
	for _, id := range further {
		if keys.CheckID(id) != nil {
			e.keepAll = true
		} else {
			e.keepID(id)
		}
	}
}

func (e *BadItemsError) keepID(id string) {
	if e.Keeps(id) {
		return
	}
	if len(e.keep) == maxKept {
		e.keepAll = true
		return
	}
	if e.keep == nil {
		e.keep = map[string]struct{}{}
	}
	e.keep[id] = struct{}{}
}

// mark adds an id to doubt.
func (e *BadItemsError) mark(id string) { e.doubt += xxhash.Sum64String(id) }

// merge adds the items of another one.
func (e *BadItemsError) merge(other *BadItemsError) {
	e.count += other.count
	e.items = append(e.items, other.items[:min(len(other.items), MaxBadItems-len(e.items))]...)
	e.keepAll = e.keepAll || other.keepAll
	e.doubt += other.doubt
	for id := range other.keep {
		e.keepID(id)
	}
}

// Count is how many items are bad.
func (e *BadItemsError) Count() int { return e.count }

// Items returns the first MaxBadItems of them.
func (e *BadItemsError) Items() []BadItem { return slices.Clone(e.items) }

// Keeps reports whether a bad item may stand for the resource with an id, which is then neither removed nor changed.
func (e *BadItemsError) Keeps(id string) bool {
	_, keeps := e.keep[id]
	return keeps
}

// KeepsAll reports whether a bad item may stand for any resource, so that the answer removes none. That is also so
// where bad items stand for more than 10,000 resources.
func (e *BadItemsError) KeepsAll() bool { return e.keepAll }

// OrNil returns e where it has an item, and nil where it has none.
func (e *BadItemsError) OrNil() error {
	if e == nil || e.count == 0 {
		return nil
	}
	return e
}

func (e *BadItemsError) Error() string {
	switch {
	case len(e.items) == 0:
		return "no item is bad"
	case e.count == 1:
		return e.items[0].describe()
	case e.count == 2:
		return e.items[0].describe() + ", and another one"
	default:
		return fmt.Sprintf("%s, and %d others", e.items[0].describe(), e.count-1)
	}
}

// GoString keeps %#v from listing all ids.
func (e *BadItemsError) GoString() string { return fmt.Sprintf("drm.BadItemsError{%s}", e.Error()) }

// Unwrap returns what is wrong with each of Items.
func (e *BadItemsError) Unwrap() []error {
	all := make([]error, len(e.items))
	for i, item := range e.items {
		all[i] = item.Err
	}
	return all
}
