package picture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// A list of a whole app is read in parts. A part has the resources with ids from one id up to another, of all shards.
// The ids of one shard are a random sample of all ids, so they tell where to cut: a part is a range of keys in each
// shard, and all of these together have about as many keys as they should. So nothing is read twice, and nothing is
// counted that is not read (etcd counts all that follows a page). What is in memory depends neither on the number of
// resources nor on that of shards. Within a part, the resources are sorted in memory.
//
// The order of keys is not quite that of ids, so a listing may have several keys.Spans open: it goes on with the one
// that may have the next id.

// item is a resource as a listing reads it.
type item struct {
	id       string
	shard    int
	claim    claim // its token is 0 if there is none that can be decoded
	modified int64 // at which revision the claim's key was last written
	badClaim bool
	entry    bool // the catalogue has a key of it
	asked    bool // value is what etcd has
	value    *mvccpb.KeyValue
}

func (i item) compare(id string) int { return cmp.Compare(i.id, id) }

// listing reads the resources of an app at one revision, in the order of ids.
type listing struct {
	r     *Reader
	group []*mvccpb.KeyValue // of which view is made
	view  *membership.View
	// What is read: of these shards, the claims, the keys of the catalogue, and the values of some of these.
	shards  []int
	claims  bool
	entries bool
	needs   func(*item) bool

	sums    map[claimGroup]claims.Summary
	summed  bool              // sums is complete
	members map[string]string // one copy of each member's id
	spans   []openSpan
	read    []item  // in order, and not yielded yet
	part    int     // about how many resources the next part should have
	size    sizer   // of the values of catalogue entries
	needing float64 // the share of the last part's resources whose values were needed
}

// listed yields what a listing reads, which begin prepares. It begins anew if etcd compacts the revision before the
// first item was yielded. The items must not be kept.
func (r *Reader) listed(
	ctx context.Context, shards []int, prefix string, begin func(*listing),
) iter.Seq2[*item, error] {
	return func(yield func(*item, error) bool) {
		for try := 1; ; try++ {
			some := false
			err := r.listOnce(ctx, shards, prefix, begin, func(i *item) bool {
				some = true
				return yield(i, nil)
			})
			switch {
			case err == nil:
				return
			case !errors.Is(err, rpctypes.ErrCompacted):
				err = fmt.Errorf("read resources and claims: %w", err)
			case !some && try < maxReads:
				continue
			default:
				err = fmt.Errorf("%w: list it again, or let etcd keep its history for longer", ErrCompacted)
			}
			yield(nil, err)
			return
		}
	}
}

func (r *Reader) listOnce(
	ctx context.Context, shards []int, prefix string, begin func(*listing), yield func(*item) bool,
) error {
	group, err := r.groupKeys(ctx)
	if err != nil {
		return err
	}
	l := &listing{r: r, group: group.Kvs, sums: map[claimGroup]claims.Summary{}}
	l.view = membership.NewView(r.Layout.Root(), r.Shards, group.Kvs, group.Header.Revision)
	l.prepare(shards, prefix)
	begin(l)
	return l.run(ctx, yield)
}

// prepare sets what is listed: of some shards, or of all if shards is empty, the resources whose ids have a prefix.
func (l *listing) prepare(shards []int, prefix string) {
	l.part, l.members = firstPart, map[string]string{}
	for n := range l.r.Shards {
		if len(shards) == 0 || slices.Contains(shards, n) {
			l.shards = append(l.shards, n)
		}
	}
	for _, s := range keys.SpansOf(prefix) {
		l.spans = append(l.spans, openSpan{Span: s})
	}
}

// run yields all items, until yield returns false.
func (l *listing) run(ctx context.Context, yield func(*item) bool) error {
	for len(l.shards) > 0 && (len(l.spans) > 0 || len(l.read) > 0) {
		ready := len(l.read)
		if len(l.spans) > 0 {
			least := l.spans[l.next()].Least
			ready, _ = slices.BinarySearchFunc(l.read, least, item.compare)
		}
		if ready == 0 {
			if err := l.readPart(ctx); err != nil {
				return err
			}
			continue
		}
		for n := range ready {
			i := &l.read[n]
			if !i.asked && l.needs(i) {
				if err := l.readValues(ctx, l.read[n:ready]); err != nil {
					return err
				}
			}
			if !yield(i) {
				return nil
			}
			*i = item{} // so that its value is garbage now
		}
		l.read = l.read[ready:]
	}
	return nil
}

// assignment returns the assignment of an item, and false if the resource is neither wanted nor claimed.
func (l *listing) assignment(i *item) (a Assignment, ok bool) {
	if i.claim.token == 0 {
		if e := i.decode(); e == nil || !e.Wanted() {
			return a, false
		}
	}
	a = assignmentOf(i.id, l.view, i.claim)
	if i.badClaim {
		a.Error = badClaimError
	}
	return a, true
}

// take adds the keys of a shard to the part that is being read. They are sorted, and below the shard's prefixes of
// claims and of catalogue entries.
func (l *listing) take(n int, claimKeys, entryKeys []*mvccpb.KeyValue, values bool) {
	toClaims, toEntries := len(l.r.Layout.Claims(n)), len(l.r.Layout.Resources(n))
	for len(claimKeys) > 0 || len(entryKeys) > 0 {
		var c, e *mvccpb.KeyValue
		var order int
		if len(claimKeys) > 0 && len(entryKeys) > 0 {
			order = cmp.Compare(string(claimKeys[0].Key[toClaims:]), string(entryKeys[0].Key[toEntries:]))
		} else {
			order = cmp.Compare(len(entryKeys), len(claimKeys))
		}
		escaped := ""
		if order <= 0 {
			c, claimKeys = claimKeys[0], claimKeys[1:]
			escaped = string(c.Key[toClaims:])
		}
		if order >= 0 {
			e, entryKeys = entryKeys[0], entryKeys[1:]
			escaped = string(e.Key[toEntries:])
		}
		id, err := keys.Unescape(escaped)
		if err != nil || keys.CheckID(id) != nil || shard.Of(id, l.r.Shards) != n {
			continue // it is no resource's, or no member looks at it there
		}
		i := item{id: id, shard: n, entry: e != nil}
		if e != nil && values {
			i.asked, i.value = true, e
		}
		if c != nil {
			l.takeClaim(&i, c)
		}
		l.read = append(l.read, i)
	}
}

func (l *listing) takeClaim(i *item, kv *mvccpb.KeyValue) {
	record, err := claims.Decode(kv.Value)
	if err != nil {
		i.badClaim = true
		return
	}
	if id, known := l.members[record.Member]; known {
		record.Member = id
	} else {
		l.members[record.Member] = record.Member
	}
	record = l.sums[claimGroup{i.shard, kv.Lease}].Of(record, kv.ModRevision)
	i.modified = kv.ModRevision
	i.claim = claim{record, kv.CreateRevision, kv.Lease}
}
