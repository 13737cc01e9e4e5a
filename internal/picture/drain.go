package picture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// patienceWithFigures bounds the wait for the figures of a member that already has the claims that it should have. A
// member of another version may take 10 s to write its figures, and one that hangs writes none.
const patienceWithFigures = 2 * time.Second

// WaitDrained returns when a member has no claim, and its own figures say so too, if it is live and writes them soon.
// It fails if every member is ordered to be drained, because the orders are ignored then. If ctx ends first, the error
// is a *WaitError.
func (r *Reader) WaitDrained(ctx context.Context, member string) error {
	return r.waitDrained(ctx, member, nil)
}

// waitDrained is WaitDrained. It tells t, which may be nil, what it sees.
func (r *Reader) waitDrained(ctx context.Context, member string, t *drainTracker) error {
	for again := false; ; again = true {
		heard, err := r.sweepDrained(ctx, member, t)
		if err != nil {
			return err
		}
		err = r.awaitFigures(ctx, member, func(f claims.Figures) bool { return f.Claims == 0 && f.Shards == 0 })
		if err != nil || heard || again {
			return err
		}
		// Sweep once more: the member may not have known of the order yet, and may have claimed something in a shard
		// after that shard was read.
	}
}

// sweepDrained returns when no shard has a claim of a member. heard says that by then the member knew that it owns no
// shard, or was not live.
func (r *Reader) sweepDrained(ctx context.Context, member string, t *drainTracker) (heard bool, err error) {
	all := make([]int, r.Shards)
	for n := range all {
		all[n] = n
	}
	s := &sweep{r: r, member: member, prefix: r.Layout.Claims, told: func(last string) { t.hears(-1, last) }}
	ordered := false
	s.which = func(l *Roll) ([]int, string, error) {
		was := ordered
		ordered = l.View.Ordered(member)
		switch {
		case was && !ordered:
			return nil, "", errors.New("the order was taken back, or has expired")
		case l.View.DrainsIgnored():
			return nil, "", errors.New("every member is drained, so the orders are ignored")
		}
		says, told := l.figures[member]
		if told {
			t.hears(says.Claims, "")
		}
		heard = !l.isLive(member) || told && says.Shards == 0
		if l.isLive(member) && says.Claims > 0 { // it has claims, so there is no need to read the shards
			return nil, fmt.Sprintf("it has %d resources, as it said last", says.Claims), nil
		}
		if kept := l.View.Kept(member); kept > 0 { // it may still be given resources there
			return nil, fmt.Sprintf("it keeps %d shards until these are placed elsewhere", kept), nil
		}
		return all, "", nil
	}
	s.missing = func(kvs []*mvccpb.KeyValue) string {
		for _, kv := range kvs {
			if c, err := claims.Decode(kv.Value); err == nil && c.Member == member {
				return fmt.Sprintf("it still has %q", r.Layout.Parse(string(kv.Key)).ID)
			}
		}
		return ""
	}
	err = s.run(ctx)
	return heard, err
}

// WaitUndrained returns when a member has its share again (every resource of its shards is active or failed), or is not
// live. If ctx ends first, the error is a *WaitError.
func (r *Reader) WaitUndrained(ctx context.Context, member string) error {
	return r.WatchUndrained(ctx, member, func(string) {})
}

// WatchUndrained is WaitUndrained, and calls tell with what it waits for when that changes, one call at a time.
func (r *Reader) WatchUndrained(ctx context.Context, member string, tell func(waiting string)) error {
	has := 0
	var view *membership.View
	s := &sweep{r: r, member: member, prefix: r.Layout.Shard, told: tell}
	s.which = func(l *Roll) ([]int, string, error) {
		view = l.View
		m, live := view.Members[member]
		switch {
		case !live:
			return []int{}, "", nil
		case m.State == membership.Unready && !view.UnreadyIgnored():
			return nil, "it is not ready: " + reasonOf(m), nil
		case !m.HasJoined():
			return nil, fmt.Sprintf("it is %s", m.State), nil
		}
		mine := []int{}
		for n, owned := range view.Owned(member) {
			if owned {
				mine = append(mine, n)
			}
		}
		return mine, "", nil
	}
	s.missing = func(kvs []*mvccpb.KeyValue) string {
		n, what := r.missingOf(member, view, kvs)
		has += n
		return what
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	return r.awaitFigures(ctx, member, func(f claims.Figures) bool { return f.Claims >= has })
}

// missingOf takes all keys of a shard that a member owns, and describes a wanted resource that the member does not have
// yet, though it has room for it. If there is none, what is "", and n is how many resources the member has.
func (r *Reader) missingOf(member string, view *membership.View, kvs []*mvccpb.KeyValue) (n int, what string) {
	p := newPicture(r.Layout, view)
	for _, kv := range kvs {
		p.take(kv)
	}
	for id, e := range p.entries {
		a := p.assignment(id)
		if !e.Wanted() || a.Expected != member { // not wanted, or moved to another member
			continue
		}
		if a.State == StateUnassigned && view.DeclinesAny(member) {
			continue // it has no room for this one, and need not have it
		}
		n++
		switch {
		case a.Member != "" && a.Member != member:
			return 0, fmt.Sprintf("%q is still with %q", id, a.Member)
		case a.State == StateUnassigned, a.State == claims.Claimed:
			return 0, fmt.Sprintf("its %q is %s", id, a.why())
		}
	}
	return n, ""
}

// awaitFigures waits a moment until agree accepts a member's own figures, so that whoever reads them next finds them up
// to date. It returns an error only if ctx has ended.
func (r *Reader) awaitFigures(ctx context.Context, member string, agree func(claims.Figures) bool) error {
	waiting, cancel := context.WithTimeout(ctx, patienceWithFigures)
	defer cancel()
	prefixes := []string{r.Layout.Stats(member), r.Layout.Member(member)}
	err := r.until(waiting, nil, prefixes, func(ctx context.Context) (bool, error) {
		roll, err := r.Roll(ctx)
		if err != nil {
			return false, err
		}
		return !roll.isLive(member) || agree(roll.figures[member]), nil
	})
	if err != nil && ctx.Err() != nil {
		return ended(ctx, fmt.Sprintf("member %q", member), "its own figures are not up to date yet", err)
	}
	return nil
}
