package drm

import (
	"context"
	"iter"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// ErrCompacted says that etcd has dropped the revision at which a list was read, before all of it was read, so that what
// was listed is a part of it. It happens where the caller is slow, and etcd keeps little of its history.
var ErrCompacted = picture.ErrCompacted

// AssignmentFilter narrows what Client.Assignments and Client.EachAssignment list; its zero value takes all.
type AssignmentFilter struct {
	Member     string  // only claims of this member
	Unassigned bool    // only resources without a claim
	Failed     bool    // only resources whose last Handle failed
	Misplaced  bool    // only resources on which another member than the expected one has the claim
	States     []State // only resources in one of these states; empty: in any
	Shards     []int   // only resources of these shards, which are all that is read then; empty: of any
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
	return eachOf(ctx, c, assignmentOf, func(r *picture.Reader) iter.Seq2[picture.Assignment, error] {
		return r.EachAssignment(ctx, f.filter())
	})
}

// EachResource lists the catalogue by id, with the suspended resources, as EachAssignment lists assignments. It holds
// some megabytes of data at a time.
func (c *Client) EachResource(ctx context.Context, f ResourceFilter) iter.Seq2[CatalogueEntry, error] {
	return eachOf(ctx, c, entryOf, func(r *picture.Reader) iter.Seq2[picture.Resource, error] {
		return r.EachResource(ctx, picture.ResourceFilter(f))
	})
}

// eachOf makes words of this package of what a reader lists.
func eachOf[A, B any](
	ctx context.Context, c *Client, word func(A) B, list func(*picture.Reader) iter.Seq2[A, error],
) iter.Seq2[B, error] {
	return func(yield func(B, error) bool) {
		var none B
		r, err := c.reader(ctx)
		if err != nil {
			yield(none, err)
			return
		}
		if r == nil {
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
