package picture

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/shard"
)

// sightEvery is how often something is looked at, at most, that people follow: more often nobody can read it.
const sightEvery = time.Second

// sight is one thing that is looked at anew whenever a key has changed that concerns it. It is a watched list of at
// most one item.
type sight[T any] struct {
	look     func(context.Context) (T, error) // the error matches ErrNotFound if the thing is not there
	revision func(T) int64                    // at which it was looked at; also if it is not there
	still    func(T) T                        // the thing without what changes all the time
	// concerns reports whether an event may be about the thing, given what was seen last.
	concerns func(ev *clientv3.Event, last T) bool

	known  bool // the thing was there at some look
	there  bool // the thing was there at the last look
	last   T    // what the last look saw; if it is not there: what was seen before
	seen   int64
	looked time.Time     // when the last look has ended
	took   time.Duration // how long it took
}

// see looks. there is false if the thing is not there.
func (s *sight[T]) see(ctx context.Context) (seen T, there bool, err error) {
	began := time.Now()
	seen, err = s.look(ctx)
	s.looked = time.Now()
	s.took = s.looked.Sub(began)
	if there = err == nil; there || errors.Is(err, ErrNotFound) && s.known {
		s.known, err = true, nil
		s.seen = max(s.seen, s.revision(seen))
	}
	return seen, there, err
}

func (s *sight[T]) list(ctx context.Context, begun func(int64) bool, yield func(T) bool) error {
	s.seen = 0 // etcd may have gone back in time
	seen, there, err := s.see(ctx)
	if err != nil {
		return err
	}
	if s.there = there; there {
		s.last = seen
	}
	if begun(s.seen) && there {
		yield(seen)
	}
	return nil
}

func (s *sight[T]) apply(
	ctx context.Context, events []*clientv3.Event, _ int64, yield func(ChangeKind, T) bool,
) error {
	if !s.concerned(events) {
		return nil
	}
	// The events that come meanwhile wait, and most of them are old news after the look.
	if rest := max(sightEvery, s.took) - time.Since(s.looked); rest > 0 && !pace.Wait(ctx, rest) {
		return context.Cause(ctx)
	}
	seen, there, err := s.see(ctx)
	switch {
	case err != nil:
		return err
	case !there:
		if s.there {
			s.there = false
			yield(Gone, s.last)
		}
	case !s.there || !reflect.DeepEqual(s.still(seen), s.still(s.last)):
		s.there, s.last = true, seen
		yield(Changed, seen)
	}
	return nil
}

// concerned reports whether one of the events is about the thing, and newer than what was seen.
func (s *sight[T]) concerned(events []*clientv3.Event) bool {
	for _, ev := range events {
		if ev.Kv.ModRevision > s.seen && s.concerns(ev, s.last) {
			return true
		}
	}
	return false
}

// WatchMember yields what DescribeMember tells, and then what it tells after each change of more than the revision and
// the time left of leases, until ctx ends; then the last error is its cause. It looks once in a second at most. The
// first error matches ErrNotFound if nothing is known of the member; if that is so later, it yields Gone, with what was
// known last. lost is called as WatchResources says.
func (r *Reader) WatchMember(
	ctx context.Context, id string, lost func(error),
) iter.Seq2[Change[MemberDetail], error] {
	own := map[string]bool{
		r.Layout.Stats(id): true, r.Layout.Load(id): true, r.Layout.Lives(id): true, r.Layout.Deaths(id): true,
		r.Layout.Alone(): true,
	}
	return followed(ctx, r, []string{r.Layout.Root()}, &sight[MemberDetail]{
		look:     func(ctx context.Context) (MemberDetail, error) { return r.DescribeMember(ctx, id) },
		revision: func(d MemberDetail) int64 { return d.Revision },
		still:    MemberDetail.still,
		concerns: func(ev *clientv3.Event, _ MemberDetail) bool {
			if key := string(ev.Kv.Key); own[key] || strings.HasPrefix(key, r.Layout.Group()) {
				return true
			}
			switch r.Layout.Parse(string(ev.Kv.Key)).Kind {
			case keys.Trail: // each member writes many
				return trailNames(ev.Kv, id) || ev.PrevKv == nil && !ev.IsCreate() || trailNames(ev.PrevKv, id)
			case keys.Quarantine:
				return true
			default:
				return false
			}
		},
	}, lost)
}

// trailNames reports whether a trail is that of a member.
func trailNames(kv *mvccpb.KeyValue, member string) bool {
	if kv == nil || len(kv.Value) == 0 {
		return false
	}
	t, err := claims.DecodeTrail(kv.Value)
	return err == nil && t.Member == member
}

func (d MemberDetail) still() MemberDetail {
	d.Revision, d.Lease.Left = 0, 0
	if d.Reservation != nil {
		back := *d.Reservation
		back.Lease.Left = 0
		d.Reservation = &back
	}
	return d
}

// WatchShard yields what DescribeShard tells, and what it tells after changes, as WatchMember does.
func (r *Reader) WatchShard(ctx context.Context, n int, lost func(error)) iter.Seq2[Change[ShardDetail], error] {
	return followed(ctx, r, []string{r.Layout.Group(), r.Layout.Shard(n)}, &sight[ShardDetail]{
		look:     func(ctx context.Context) (ShardDetail, error) { return r.DescribeShard(ctx, n) },
		revision: func(d ShardDetail) int64 { return d.Revision },
		still:    func(d ShardDetail) ShardDetail { d.Revision = 0; return d },
		concerns: func(*clientv3.Event, ShardDetail) bool { return true },
	}, lost)
}

// WatchResource yields what DescribeResource tells, and what it tells after changes, as WatchMember does. created is
// the create revision of the app's config key.
func (r *Reader) WatchResource(
	ctx context.Context, id string, created int64, lost func(error),
) iter.Seq2[Change[ResourceDetail], error] {
	n := shard.Of(id, r.Shards)
	prefixes := []string{
		r.Layout.Config(), r.Layout.Group(), r.Layout.Resource(n, id), r.Layout.Claim(n, id), r.Layout.Summaries(n),
		r.Layout.Trails(n), r.Layout.Quarantine(n, id), r.Layout.Alone(), r.Layout.Source(), r.Layout.Figures(),
	}
	return followed(ctx, r, prefixes, &sight[ResourceDetail]{
		look: func(ctx context.Context) (ResourceDetail, error) { return r.DescribeResource(ctx, id, created) },
		revision: func(d ResourceDetail) int64 {
			return d.Revision
		},
		still: func(d ResourceDetail) ResourceDetail {
			d.Explanation = d.Explanation.still()
			return d
		},
		concerns: func(ev *clientv3.Event, last ResourceDetail) bool {
			key := r.Layout.Parse(string(ev.Kv.Key))
			switch key.Kind {
			case keys.Stats: // those of the members that have to do with it
				return key.ID == last.Expected || last.Claim != nil && key.ID == last.Claim.Member
			case keys.Trail:
				return last.Claim != nil && key.Lease == last.Claim.Lease.ID
			case keys.Resource, keys.Claim, keys.Quarantine: // the prefix is that of longer ids too
				return key.ID == id
			default:
				return true
			}
		},
	}, lost)
}
