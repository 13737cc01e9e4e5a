package drm

import (
	"context"
	"fmt"
	"iter"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// AssignmentFilter narrows what Client.Assignments and Client.EachAssignment list; its zero value takes all.
type AssignmentFilter struct {
	Member     string  // only claims of this member
	Unassigned bool    // only resources without a claim
	Failed     bool    // only resources whose last Handle failed
	Misplaced  bool    // only resources on which another member than the expected one has the claim
	States     []State // only resources in one of these states; empty: in any
	Shards     []int   // only resources of these shards, which are all that is read; empty: of any
	Prefix     string  // only resources whose ids begin with this, which are all that is read then
}

func (f AssignmentFilter) filter() picture.Filter {
	p := picture.Filter{
		Member: f.Member, Unassigned: f.Unassigned, Failed: f.Failed, Misplaced: f.Misplaced, Shards: f.Shards,
		Prefix: f.Prefix,
	}
	for _, s := range f.States {
		p.States = append(p.States, string(s))
	}
	return p
}

// ResourceFilter narrows what Client.EachResource lists; its zero value takes all.
type ResourceFilter struct {
	Shards     []int  // only resources of these shards, which are all that is read then; empty: of any
	Prefix     string // only resources whose ids begin with this, which are all that is read then
	Suspended  bool   // only resources that were deallocated while the source had them
	FromSource bool   // only resources that the last fetch had
	Allocated  bool   // only resources that an Allocate wants
}

// EachAssignment lists who handles what, by id, as it was at one moment: each resource that should be handled, and each
// on which somebody still has a claim. It reads on as the caller asks for more, and holds a few thousand assignments at
// a time, however many there are. Each request to etcd may take CommandTimeout; all of them together may take any time.
// After an error nothing follows; ErrCompacted is one. Where there is no app, there is nothing to list.
func (c *Client) EachAssignment(ctx context.Context, f AssignmentFilter) iter.Seq2[Assignment, error] {
	return eachOf(ctx, c, f.Shards, assignmentOf, func(r *picture.Reader) iter.Seq2[picture.Assignment, error] {
		return r.EachAssignment(ctx, f.filter())
	})
}

// EachResource lists the catalogue by id, with the suspended resources, as EachAssignment lists assignments. It holds
// some megabytes of data at a time.
func (c *Client) EachResource(ctx context.Context, f ResourceFilter) iter.Seq2[CatalogueEntry, error] {
	return eachOf(ctx, c, f.Shards, entryOf, func(r *picture.Reader) iter.Seq2[picture.Resource, error] {
		return r.EachResource(ctx, picture.ResourceFilter(f))
	})
}

// checkShards checks the shards of a filter.
func checkShards(r *picture.Reader, shards []int) error {
	for _, n := range shards {
		if n < 0 || n >= r.Shards {
			return fmt.Errorf("list: %w", &InputError{"Shards", fmt.Sprint(n), fmt.Sprintf("0 to %d", r.Shards-1)})
		}
	}
	return nil
}

// eachOf makes words of this package of what a reader lists.
func eachOf[A, B any](
	ctx context.Context, c *Client, shards []int, word func(A) B, list func(*picture.Reader) iter.Seq2[A, error],
) iter.Seq2[B, error] {
	return func(yield func(B, error) bool) {
		var none B
		r, err := c.reader(ctx)
		if err == nil && r == nil {
			return
		}
		if err == nil {
			err = checkShards(r, shards)
		}
		if err != nil {
			yield(none, err)
			return
		}
		for one, err := range list(r) {
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(word(one), nil) {
				return
			}
		}
	}
}

// Resources lists the catalogue by id, with the suspended resources. EachResource does not hold all of it in memory.
func (c *Client) Resources(ctx context.Context) ([]CatalogueEntry, error) {
	return collected(c.EachResource(ctx, ResourceFilter{}))
}

// Assignments is EachAssignment, with all of them in memory.
func (c *Client) Assignments(ctx context.Context, f AssignmentFilter) ([]Assignment, error) {
	return collected(c.EachAssignment(ctx, f))
}

// collected collects a list. It never returns nil.
func collected[T any](list iter.Seq2[T, error]) ([]T, error) {
	found := []T{}
	for one, err := range list {
		if err != nil {
			return []T{}, err
		}
		found = append(found, one)
	}
	return found, nil
}

// WatchKind says what a Watched is.
type WatchKind string

// The kinds of changes. A watch begins with a list: WatchListBegins, WatchListed for each item in the order of ids,
// WatchListEnds. Then come WatchChanged and WatchGone. Another list follows where something may have been missed.
const (
	// WatchListBegins: a list begins, which replaces all that the watch has shown before. There is no item.
	WatchListBegins = WatchKind(picture.ListBegins)
	// WatchListed: the item is in the list.
	WatchListed = WatchKind(picture.Listed)
	// WatchListEnds: the list is complete. There is no item.
	WatchListEnds = WatchKind(picture.ListEnds)
	// WatchChanged: the item is new in the list, or not as it was.
	WatchChanged = WatchKind(picture.Changed)
	// WatchGone: the item, as it is now, does not belong to the list any more: it is not there, or the filter does not
	// take it now.
	WatchGone = WatchKind(picture.Gone)
)

// Watched is one step of a watch.
type Watched[T any] struct {
	Kind     WatchKind
	Revision int64 // etcd's revision at which the list was read, or at which the change was seen
	Item     T     // zero of WatchListBegins and WatchListEnds
}

// WatchAssignments yields what EachAssignment does, and then each change, as etcd's watches show it; nothing is asked
// for again and again. It holds no assignments in memory. Of several changes that etcd reports together it shows the
// outcome. It goes on until ctx ends; then the last error is the context's cause. Before the first list is complete any
// error ends it; after that it goes on, and lists everything anew where it has missed something.
//
// lost is called with the reason when etcd does not answer, or before everything is listed anew, and with nil when etcd
// answers again. It may be nil; it must not block for long, and may be called by any goroutine.
//
// ErrNoApp says that there is no app.
func (c *Client) WatchAssignments(
	ctx context.Context, f AssignmentFilter, lost func(error),
) iter.Seq2[Watched[Assignment], error] {
	return watchOf(ctx, c, f.Shards, assignmentOf, func(r *picture.Reader) watchedAssignments {
		return r.WatchAssignments(ctx, f.filter(), unlessNil(lost))
	})
}

// WatchResources is EachResource as WatchAssignments is EachAssignment.
func (c *Client) WatchResources(
	ctx context.Context, f ResourceFilter, lost func(error),
) iter.Seq2[Watched[CatalogueEntry], error] {
	return watchOf(ctx, c, f.Shards, entryOf, func(r *picture.Reader) changesOf[picture.Resource] {
		return r.WatchResources(ctx, picture.ResourceFilter(f), unlessNil(lost))
	})
}

// WatchLookup is Lookup as WatchAssignments is EachAssignment, with a list of one resource. It reads no other resource.
// The first error matches ErrNotFound as that of Lookup does; where a resource that was there is not wanted any more,
// and nobody has a claim on it, that is a WatchGone.
func (c *Client) WatchLookup(ctx context.Context, id string, lost func(error)) iter.Seq2[Watched[Assignment], error] {
	return watchOf(ctx, c, nil, assignmentOf, func(r *picture.Reader) watchedAssignments {
		return r.WatchLookup(ctx, id, unlessNil(lost))
	})
}

type watchedAssignments = changesOf[picture.Assignment]

func unlessNil(lost func(error)) func(error) {
	if lost == nil {
		return func(error) {}
	}
	return lost
}

// watchOf makes words of this package of what a reader shows.
func watchOf[A, B any](
	ctx context.Context, c *Client, shards []int, word func(A) B,
	watch func(*picture.Reader) changesOf[A],
) iter.Seq2[Watched[B], error] {
	return func(yield func(Watched[B], error) bool) {
		r, err := c.needReader(ctx)
		if err == nil {
			err = checkShards(r, shards)
		}
		if err != nil {
			yield(Watched[B]{}, err)
			return
		}
		inWords(watch(r), word)(yield)
	}
}

// changesOf is what a reader yields that watches something.
type changesOf[T any] = iter.Seq2[picture.Change[T], error]

// inWords makes words of this package of the changes that a reader yields.
func inWords[A, B any](changes changesOf[A], word func(A) B) iter.Seq2[Watched[B], error] {
	return func(yield func(Watched[B], error) bool) {
		for one, err := range changes {
			if err != nil {
				yield(Watched[B]{}, err)
				return
			}
			change := Watched[B]{Kind: WatchKind(one.Kind), Revision: one.Revision}
			if one.Kind != picture.ListBegins && one.Kind != picture.ListEnds {
				change.Item = word(one.Item)
			}
			if !yield(change, nil) {
				return
			}
		}
	}
}
