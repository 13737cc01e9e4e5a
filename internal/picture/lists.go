package picture

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

// Filter narrows what a list of assignments has. Its zero value lists everything.
type Filter struct {
	Member     string   // only claims of this member
	Unassigned bool     // only resources without a claim
	Failed     bool     // only resources whose last Handle failed
	Misplaced  bool     // only claims of another member than the one that the resource belongs to
	States     []string // only resources in one of these states; empty: in any
	Shards     []int    // only resources of these shards; empty: of all
	Prefix     string   // only resources whose id begins with this
}

// takes says whether the filter takes an assignment.
func (f *Filter) takes(a *Assignment) bool {
	switch {
	case f.Member != "" && a.Member != f.Member,
		f.Unassigned && a.State != StateUnassigned,
		f.Failed && a.State != claims.Failed,
		f.Misplaced && (a.Member == "" || a.Member == a.Expected),
		len(f.States) > 0 && !slices.Contains(f.States, a.State):
		return false
	}
	return f.takesID(a.Resource, a.Shard)
}

func (f *Filter) takesID(id string, shard int) bool {
	return strings.HasPrefix(id, f.Prefix) && (len(f.Shards) == 0 || slices.Contains(f.Shards, shard))
}

// onlyClaimed says that the filter takes only resources on which somebody has a claim.
func (f *Filter) onlyClaimed() bool {
	return f.Member != "" || f.Failed || f.Misplaced || len(f.States) > 0 && !slices.Contains(f.States, StateUnassigned)
}

// EachAssignment yields the resources that are wanted, or that somebody still has a claim on, in the order of ids, all
// at one revision. It keeps few of them in memory. After an error nothing follows; it matches ErrCompacted if etcd has
// dropped the revision meanwhile, and something was yielded.
func (r *Reader) EachAssignment(ctx context.Context, f Filter) iter.Seq2[Assignment, error] {
	return func(yield func(Assignment, error) bool) {
		var l *listing
		for i, err := range r.listed(ctx, f.Shards, f.Prefix, f.begin(func(begun *listing) { l = begun })) {
			if err != nil {
				yield(Assignment{}, err)
				return
			}
			if a, ok := l.assignment(i); ok && f.takes(&a) && !yield(a, nil) {
				return
			}
		}
	}
}

// ResourceFilter narrows what a list of the catalogue has. Its zero value lists everything.
type ResourceFilter struct {
	Shards     []int  // only resources of these shards; empty: of all
	Prefix     string // only resources whose id begins with this
	Suspended  bool   // only resources that were deallocated
	FromSource bool   // only resources that the last fetch had
	Allocated  bool   // only resources that somebody allocated
}

func (f *ResourceFilter) takes(r *Resource) bool {
	if f.Suspended && !r.Suspended || f.FromSource && !r.FromSource || f.Allocated && !r.Allocated {
		return false
	}
	return strings.HasPrefix(r.ID, f.Prefix) && (len(f.Shards) == 0 || slices.Contains(f.Shards, r.Shard))
}

// EachResource yields the catalogue, in the order of ids, all at one revision. It keeps few entries in memory. Errors
// are as those of EachAssignment.
func (r *Reader) EachResource(ctx context.Context, f ResourceFilter) iter.Seq2[Resource, error] {
	return func(yield func(Resource, error) bool) {
		for i, err := range r.listed(ctx, f.Shards, f.Prefix, f.begin(func(*listing) {})) {
			if err != nil {
				yield(Resource{}, err)
				return
			}
			one, ok := f.resource(i.id, i.shard, i.value)
			if ok && !yield(one, nil) {
				return
			}
		}
	}
}
