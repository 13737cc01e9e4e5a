package picture

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// WatchAssignments yields the assignments as EachAssignment does, and then each that changes, until ctx ends; then the
// last error is its cause. lost is called as WatchResources says. It keeps no assignments in memory: the events show
// what a claim and an entry were before, and what a change of the members or of a summary means for the resources of a
// shard is read from the shard. Of changes that etcd reports together it shows the outcome.
func (r *Reader) WatchAssignments(
	ctx context.Context, f Filter, lost func(error),
) iter.Seq2[Change[Assignment], error] {
	return followed(ctx, r, []string{r.Layout.Root()}, &watchedAssignments{r: r, f: f}, lost)
}

// moment is what the assignments of an app follow from besides the claims and the catalogue.
type moment struct {
	view *membership.View
	sums map[claimGroup]claims.Summary
}

// watchedAssignments follows the assignments of an app.
type watchedAssignments struct {
	r     *Reader
	f     Filter
	group map[string]*mvccpb.KeyValue // of which the view is made
	moment
}

// touched is a resource whose claim or entry events are about: what they were before the first of these, and are after
// the last.
type touched struct {
	shard         int
	claim, entry  [2]*mvccpb.KeyValue // before and after; nil: there is none
	claimKnown    bool
	entryKnown    bool
	unknownBefore bool // what there was before has been compacted
}

func (w *watchedAssignments) list(ctx context.Context, begun func(int64) bool, yield func(Assignment) bool) error {
	var l *listing
	err := w.r.listOnce(ctx, w.f.Shards, w.f.Prefix, w.f.begin(func(begins *listing) {
		l = begins
		begun(l.view.Revision)
	}), func(i *item) bool {
		a, ok := l.assignment(i)
		return !ok || !w.f.takes(&a) || yield(a)
	})
	if err != nil {
		return err
	}
	w.moment = moment{l.view, l.sums}
	w.group = map[string]*mvccpb.KeyValue{}
	for _, kv := range l.group {
		w.group[string(kv.Key)] = kv
	}
	return nil
}

func (w *watchedAssignments) apply(
	ctx context.Context, events []*clientv3.Event, revision int64, yield func(ChangeKind, Assignment) bool,
) error {
	before := w.moment
	all, resummed := w.sort(events, revision)
	if w.view != before.view { // resources that were moved by themselves
		for _, moves := range []map[string]membership.Move{before.view.Moves, w.view.Moves} {
			for id := range moves {
				_, was := before.view.OwnerOf(id)
				n, is := w.view.OwnerOf(id)
				if all[id] == nil && was != is && w.f.takesID(id, n) {
					all[id] = &touched{shard: n}
				}
			}
		}
	}
	if err := w.complete(ctx, all, revision); err != nil {
		return err
	}
	tell := func(id string, was, is Assignment, listedBefore, listedNow bool) bool {
		listedBefore = listedBefore && w.f.takes(&was)
		listedNow = listedNow && w.f.takes(&is)
		switch {
		case listedNow && (!listedBefore || was != is):
			return yield(Changed, is)
		case listedBefore && !listedNow:
			return yield(Gone, is)
		}
		return true
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		t := all[id]
		was, listedBefore := before.assignment(id, t, 0)
		is, listedNow := w.assignment(id, t, 1)
		if t.unknownBefore { // it may have been in the list
			kind := Changed
			if !listedNow || !w.f.takes(&is) {
				kind = Gone
			}
			if !yield(kind, is) {
				return nil
			}
			continue
		}
		if !tell(id, was, is, listedBefore, listedNow) {
			return nil
		}
	}
	return w.reread(ctx, before, all, resummed, revision, tell)
}

// sort takes over what events say of the group and of summaries, and returns the resources that others are about, and
// the shards of which a summary has changed.
func (w *watchedAssignments) sort(
	events []*clientv3.Event, revision int64,
) (all map[string]*touched, resummed map[int]bool) {
	all, resummed = map[string]*touched{}, map[int]bool{}
	regroup := false
	for _, ev := range events {
		if strings.HasPrefix(string(ev.Kv.Key), w.r.Layout.Group()) {
			regroup = true
			if ev.Type == clientv3.EventTypeDelete {
				delete(w.group, string(ev.Kv.Key))
			} else {
				w.group[string(ev.Kv.Key)] = ev.Kv
			}
			continue
		}
		key := w.r.Layout.Parse(string(ev.Kv.Key))
		switch key.Kind {
		case keys.Claim, keys.Resource:
			if key.Home(w.r.Shards) == key.Number && w.f.takesID(key.ID, key.Number) {
				touch(all, key, ev)
			}
		case keys.Summary:
			if len(resummed) == 0 {
				w.sums = maps.Clone(w.sums) // the former ones are needed still
			}
			resummed[key.Number] = true
			delete(w.sums, claimGroup{key.Number, key.Lease})
			if ev.Type != clientv3.EventTypeDelete {
				if s, err := claims.DecodeSummaryOf(key, ev.Kv); err == nil {
					w.sums[claimGroup{key.Number, key.Lease}] = s
				}
			}
		default:
		}
	}
	if regroup {
		kvs := make([]*mvccpb.KeyValue, 0, len(w.group))
		for _, kv := range w.group {
			kvs = append(kvs, kv)
		}
		w.view = membership.NewView(w.r.Layout.Root(), w.r.Shards, kvs, revision)
	}
	return all, resummed
}

// touch notes an event about a claim or an entry.
func touch(all map[string]*touched, key keys.Key, ev *clientv3.Event) {
	t := all[key.ID]
	if t == nil {
		t = &touched{shard: key.Number}
		all[key.ID] = t
	}
	pair, known := &t.claim, &t.claimKnown
	if key.Kind == keys.Resource {
		pair, known = &t.entry, &t.entryKnown
	}
	if !*known {
		*known = true
		pair[0] = ev.PrevKv
		t.unknownBefore = t.unknownBefore || ev.PrevKv == nil && !ev.IsCreate()
	}
	pair[1] = nil
	if ev.Type != clientv3.EventTypeDelete {
		pair[1] = ev.Kv
	}
}

// complete reads what the events do not show of the resources, and what is the same before and after them: the claim,
// and, where nobody has one, the entry.
func (w *watchedAssignments) complete(ctx context.Context, all map[string]*touched, revision int64) error {
	var missing []*[2]*mvccpb.KeyValue
	var gets []clientv3.Op
	for id, t := range all {
		if !t.claimKnown {
			t.claimKnown = true
			missing = append(missing, &t.claim)
			gets = append(gets, clientv3.OpGet(w.r.Layout.Claim(t.shard, id), clientv3.WithRev(revision)))
		}
	}
	if err := w.r.getPairs(ctx, gets, missing); err != nil {
		return err
	}
	missing, gets = nil, nil
	for id, t := range all {
		if c, _ := w.claimOf(t.shard, t.claim[1]); !t.entryKnown && c.token == 0 {
			t.entryKnown = true
			missing = append(missing, &t.entry)
			gets = append(gets, clientv3.OpGet(w.r.Layout.Resource(t.shard, id), clientv3.WithRev(revision)))
		}
	}
	return w.r.getPairs(ctx, gets, missing)
}

// getPairs reads single keys, each of which is the same before and after.
func (r *Reader) getPairs(ctx context.Context, gets []clientv3.Op, into []*[2]*mvccpb.KeyValue) error {
	batch := func(n int) []clientv3.Op { return gets[n*partOps : min((n+1)*partOps, len(gets))] }
	jobs, at := (len(gets)+partOps-1)/partOps, 0
	for found, err := range ahead(ctx, jobs, func(ctx context.Context, n int) ([][]*mvccpb.KeyValue, error) {
		asking, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		found, _, err := r.getAll(asking, batch(n)...)
		return found, etcd.Unreachable(ctx, err)
	}) {
		if err != nil {
			return err
		}
		for _, kvs := range found {
			for _, kv := range kvs {
				*into[at] = [2]*mvccpb.KeyValue{kv, kv}
			}
			at++
		}
	}
	return nil
}

// claimOf returns the claim of a key at that moment; bad says that it cannot be decoded.
func (m *moment) claimOf(shard int, kv *mvccpb.KeyValue) (c claim, bad bool) {
	if kv == nil {
		return claim{}, false
	}
	record, err := claims.Decode(kv.Value)
	if err != nil {
		return claim{}, true
	}
	record = m.sums[claimGroup{shard, kv.Lease}].Of(record, kv.ModRevision)
	return claim{record, kv.CreateRevision, kv.Lease}, false
}

// assignment returns what the assignment of a resource is at that moment, with the keys of that side: 0 is before the
// events, and 1 after them. listed is false if the resource is neither wanted nor claimed.
func (m *moment) assignment(id string, t *touched, side int) (a Assignment, listed bool) {
	c, bad := m.claimOf(t.shard, t.claim[side])
	a = assignmentOf(id, m.view, c)
	if c.token != 0 || !t.entryKnown { // nobody claims what the catalogue does not want
		return a, true
	}
	var entry *catalogue.Entry
	if kv := t.entry[side]; kv != nil {
		if e, err := catalogue.DecodeOf(id, kv.Value); err == nil {
			entry = &e
		}
	}
	if err := notWanted(entry); err != nil {
		a.Error = err.Error()
		return a, false
	}
	if bad {
		a.Error = badClaimError
	}
	return a, true
}

// reread reads the shards whose owner has changed, or of which a summary has, and tells of the resources whose
// assignment follows from that, apart from those of all.
func (w *watchedAssignments) reread(
	ctx context.Context, before moment, all map[string]*touched, resummed map[int]bool, revision int64,
	tell func(id string, was, is Assignment, listedBefore, listedNow bool) bool,
) error {
	var claimed, whole []int // shards of which the claims are read, and those of which the entries are, too
	for n := range w.r.Shards {
		owner, was := w.view.Owner(n), before.view.Owner(n)
		switch {
		case len(w.f.Shards) > 0 && !slices.Contains(w.f.Shards, n):
		case w.view != before.view && (owner != was || why(w.view, n, owner) != why(before.view, n, was)):
			whole = append(whole, n)
		case resummed[n]:
			claimed = append(claimed, n)
		}
	}
	for _, part := range []struct {
		shards  []int
		entries bool
	}{{claimed, false}, {whole, !w.f.onlyClaimed()}} {
		if len(part.shards) == 0 {
			continue
		}
		l := &listing{
			r: w.r, view: membership.NewView(w.r.Layout.Root(), 0, nil, revision), summed: true,
			claims: true, entries: part.entries,
			needs: func(i *item) bool { return i.entry && i.claim.token == 0 },
		}
		l.prepare(part.shards, w.f.Prefix)
		err := l.run(ctx, func(i *item) bool {
			if all[i.id] != nil {
				return true
			}
			was, listedBefore := before.assignmentOf(i)
			is, listedNow := w.assignmentOf(i)
			return tell(i.id, was, is, listedBefore, listedNow)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// assignmentOf returns the assignment of an item at that moment. The item was read without summaries.
func (m *moment) assignmentOf(i *item) (a Assignment, listed bool) {
	c := i.claim
	if c.token != 0 {
		c.Record = m.sums[claimGroup{i.shard, c.lease}].Of(c.Record, i.modified)
	} else if e := i.decode(); e == nil || !e.Wanted() {
		return a, false
	}
	a = assignmentOf(i.id, m.view, c)
	if i.badClaim {
		a.Error = badClaimError
	}
	return a, true
}

// begin prepares a listing for the filter.
func (f *Filter) begin(also func(*listing)) func(*listing) {
	return func(l *listing) {
		l.claims, l.entries = true, !f.onlyClaimed()
		l.needs = func(i *item) bool { return i.entry && i.claim.token == 0 }
		also(l)
	}
}
