package drm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// drainOf is what MemberInfo.Drain says of a member.
func drainOf(v *membership.View, id string) string {
	switch {
	case !v.Ordered(id):
		return ""
	case v.DrainsIgnored():
		return DrainIgnored
	default:
		return DrainOrdered
	}
}

// drains lists the orders of a view by member.
func drains(v *membership.View) []DrainInfo {
	all := make([]DrainInfo, 0, len(v.Drains))
	for id, since := range v.Drains {
		_, live := v.Members[id]
		all = append(all, DrainInfo{Member: id, Since: since, Live: live, Ignored: v.DrainsIgnored()})
	}
	slices.SortFunc(all, func(a, b DrainInfo) int { return cmp.Compare(a.Member, b.Member) })
	return all
}

// Drain orders that a member hold nothing, until Undrain. The order outlives the member, and may be given while the member is not
// there. ErrLastMember says that nobody would be left to take what it has; ErrNotFound that nothing is known of such a member:
// DrainAbsent orders it all the same. Of two Drains at the same moment both may be obeyed: where that leaves nobody, all are ignored.
func (c *Client) Drain(ctx context.Context, member string) error { return c.drain(ctx, member, false) }

// DrainAbsent is Drain, of any id: of a member, say, that is to come.
func (c *Client) DrainAbsent(ctx context.Context, member string) error {
	return c.drain(ctx, member, true)
}

func (c *Client) drain(ctx context.Context, member string, absent bool) error {
	if err := keys.CheckID(member); err != nil {
		return fmt.Errorf("drain: %w", &InputError{"member", member, err.Error()})
	}
	r, err := c.needReader(ctx)
	if err != nil {
		return fmt.Errorf("drain member %q: %w", member, err)
	}
	roll, err := r.roll(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("drain member %q: %w", member, err)
	case roll.view.Ordered(member):
		return nil
	case !absent && !roll.view.Known(member):
		return fmt.Errorf("drain member %q: %w", member, ErrNotFound)
	case roll.view.LastToTake(member):
		return fmt.Errorf("drain member %q: %w: nobody could take what it has, so the order would be ignored; start another member, or undrain one, first", member, ErrLastMember)
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	if _, err := c.client.Put(asking, c.layout.Drain(member), membership.DrainValue(time.Now())); err != nil {
		return fmt.Errorf("drain member %q: %w", member, etcd.Unreachable(ctx, err))
	}
	return nil
}

// Undrain takes the order back. ErrNotFound says that there is neither such an order nor such a member.
func (c *Client) Undrain(ctx context.Context, member string) error {
	r, err := c.needReader(ctx)
	if err != nil {
		return fmt.Errorf("undrain member %q: %w", member, err)
	}
	roll, err := r.roll(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("undrain member %q: %w", member, err)
	case !roll.view.Known(member):
		return fmt.Errorf("undrain member %q: %w", member, ErrNotFound)
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	if _, err := c.client.Delete(asking, c.layout.Drain(member)); err != nil {
		return fmt.Errorf("undrain member %q: %w", member, etcd.Unreachable(ctx, err))
	}
	return nil
}

// WaitDrained returns when a member holds nothing, and says so itself (Members) if it is there and does so soon. Where every
// member is ordered to hold nothing, the orders are ignored, and it returns an error that says so. Where ctx ends first, the
// *WaitError says what the member still has.
func (c *Client) WaitDrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return r.waitDrained(ctx, member)
}

// WaitUndrained returns when a member holds its share again (every resource of its shards, handled or failed), or is not there.
// Where ctx ends first, the *WaitError says what it does not have yet.
func (c *Client) WaitUndrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return r.waitUndrained(ctx, member)
}

// patienceWithFigures bounds how long the figures of a member that holds what it should are waited for: one of another version may
// take 10 s, and one that hangs says nothing.
const patienceWithFigures = 2 * time.Second

func (r *reader) waitDrained(ctx context.Context, member string) error {
	for again := false; ; again = true {
		heard, err := r.sweepDrained(ctx, member)
		if err != nil {
			return err
		}
		err = r.awaitFigures(ctx, member, func(f claims.Figures) bool { return f.Claims == 0 && f.Shards == 0 })
		if err != nil || heard || again {
			return err
		}
		// It may not have heard of the order while the shards were looked at, and have claimed something behind.
	}
}

// sweepDrained returns when no shard has a claim of a member; heard: the member knew by then that it owns none, or is not there.
func (r *reader) sweepDrained(ctx context.Context, member string) (heard bool, err error) {
	all := make([]int, r.config.Shards)
	for n := range all {
		all[n] = n
	}
	s := &sweep{r: r, member: member, prefix: r.layout.Claims}
	err = s.run(ctx, func(l *roll) ([]int, string, error) {
		if l.view.DrainsIgnored() {
			return nil, "", errors.New("every member is drained, so the orders are ignored")
		}
		says, told := l.figures[member]
		heard = !l.isLive(member) || told && says.Shards == 0
		if l.isLive(member) && says.Claims > 0 { // nobody need look for them
			return nil, fmt.Sprintf("it has %d resources, as it said last", says.Claims), nil
		}
		return all, "", nil
	}, func(_ int, kvs []*mvccpb.KeyValue) string {
		for _, kv := range kvs {
			if c, err := claims.Decode(kv.Value); err == nil && c.Member == member {
				return fmt.Sprintf("it still has %q", r.layout.Parse(string(kv.Key)).ID)
			}
		}
		return ""
	})
	return heard, err
}

func (r *reader) waitUndrained(ctx context.Context, member string) error {
	has := 0
	var view *membership.View
	s := &sweep{r: r, member: member, prefix: r.layout.Shard}
	err := s.run(ctx, func(l *roll) ([]int, string, error) {
		view = l.view
		m, live := view.Members[member]
		switch {
		case !live:
			return []int{}, "", nil
		case m.State != membership.Active:
			return nil, fmt.Sprintf("it is %s", m.State), nil
		}
		mine := []int{}
		for n, owned := range view.Owned(member) {
			if owned {
				mine = append(mine, n)
			}
		}
		return mine, "", nil
	}, func(_ int, kvs []*mvccpb.KeyValue) string {
		p := newPicture()
		p.view = view
		for _, kv := range kvs {
			p.take(r.layout, r.config.Shards)(kv)
		}
		n := 0
		for id, e := range p.entries {
			if !e.Wanted() {
				continue
			}
			n++
			switch a := p.assignment(id, r.config.Shards); {
			case a.Member != "" && a.Member != member:
				return fmt.Sprintf("%q is still with %q", id, a.Member)
			case a.State == StateUnassigned, a.State == StateClaimed:
				return fmt.Sprintf("its %q is %s", id, a.why())
			}
		}
		has += n
		return ""
	})
	if err != nil {
		return err
	}
	return r.awaitFigures(ctx, member, func(f claims.Figures) bool { return f.Claims >= has })
}

// awaitFigures waits a moment until a member's own figures say what is known to be so, for the sake of whoever reads them next.
// Only ctx makes it fail.
func (r *reader) awaitFigures(ctx context.Context, member string, agree func(claims.Figures) bool) error {
	waiting, cancel := context.WithTimeout(ctx, patienceWithFigures)
	defer cancel()
	err := r.until(waiting, nil, []string{r.layout.Stats(member), r.layout.Member(member)}, func(ctx context.Context) (bool, error) {
		roll, err := r.roll(ctx)
		return err == nil && (!roll.isLive(member) || agree(roll.figures[member])), err
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// sweep waits until nothing is missing in any of some shards, one after the other: it watches the group and one shard, and does not
// look again at those that were fine.
type sweep struct {
	r      *reader
	member string           // that is waited for
	prefix func(int) string // what is read of a shard

	fine map[int]bool
	at   int // the first shard that was not; -1: none yet
}

// run asks which shards are to be looked at, after each change of the group; nil stands for: none as long as that is so. missing says
// what is missing in one of them, by its keys; "" stands for nothing.
func (s *sweep) run(ctx context.Context, which func(*roll) (shards []int, why string, err error), missing func(shard int, kvs []*mvccpb.KeyValue) string) error {
	s.fine, s.at = map[int]bool{}, -1
	last := ""
	for {
		watched := s.at
		prefixes := []string{s.r.layout.Group(), s.r.layout.Stats(s.member)}
		if watched >= 0 {
			prefixes = append(prefixes, s.prefix(watched))
		}
		all := false
		err := s.r.until(ctx, &last, prefixes, func(ctx context.Context) (bool, error) {
			roll, err := s.r.roll(ctx)
			if err != nil {
				return false, err
			}
			shards, why, err := which(roll)
			if err != nil {
				return false, err
			}
			if shards == nil {
				last, s.at = why, -1
				clear(s.fine)
				return watched != s.at, nil
			}
			if last, err = s.look(ctx, shards, missing); err != nil {
				return false, err
			}
			all = last == ""
			return all || watched != s.at, nil // another one is to be watched
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return &WaitError{What: fmt.Sprintf("member %q", s.member), Last: last, Err: context.Cause(ctx)}
		case err != nil:
			return fmt.Errorf("wait for member %q: %w", s.member, err)
		case all:
			return nil
		}
	}
}

// sweepBatch is how many shards are read at once.
const sweepBatch = 8

// look looks at shards until it finds one in which something is missing, and says what.
func (s *sweep) look(ctx context.Context, shards []int, missing func(int, []*mvccpb.KeyValue) string) (string, error) {
	rest := slices.DeleteFunc(slices.Clone(shards), func(n int) bool { return s.fine[n] })
	for len(rest) > 0 {
		batch := rest[:min(len(rest), sweepBatch)]
		if batch[0] == s.at { // what was missing is, probably: the others need not be read again for that
			batch = batch[:1]
		}
		rest = rest[len(batch):]
		prefixes := make([]string, len(batch))
		for i, n := range batch {
			prefixes[i] = s.prefix(n)
		}
		found, err := s.r.below(ctx, prefixes)
		if err != nil {
			return "", fmt.Errorf("read the shards: %w", err)
		}
		for i, n := range batch {
			if what := missing(n, found[i]); what != "" {
				s.at = n
				return what, nil
			}
			s.fine[n] = true
		}
	}
	return "", nil
}
