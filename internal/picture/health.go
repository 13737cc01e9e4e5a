package picture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// Health is what the members of an app say of themselves, at one revision, and how their leases are. To read it costs
// the same however many resources there are.
type Health struct {
	Roll    *Roll
	Members []MemberHealth // by id, with those that are expected back
	// Changed is the revision of the newest change of the group that can still be seen: that something was deleted
	// leaves no trace.
	Changed int64
	// NoBalance says that the coordinator moves nothing for the sake of balance, or that nobody knows.
	NoBalance bool
	Leases    string // why the times of leases could not be read; "" if they could

	correctable bool // some move would make the load more even
}

// MemberHealth is one member, and how it is.
type MemberHealth struct {
	Member
	Figures claims.Figures
	Says    bool // it has written figures
	// Behind is how many revisions older the newest view that it is known to have acted upon is than Changed, and
	// BehindSince is since when at the latest it could have known of a newer one, by other members' clocks; zero: not
	// known. A member may say so up to a minute late (claims.Figures).
	Behind      int64
	BehindSince time.Time
	// TTL is how long the lease of its key lives without a renewal, and Left how long it still would. Both are 0 if
	// that is not known; Expired says that the lease has ended.
	TTL, Left time.Duration
	Expired   bool
	// Load is what its shards weigh, in thousandths of a resource, and Limit what they may weigh by the bound for
	// balance; -1: it has not said that, or is not balanced.
	Load, Limit int64
}

// Stale says whether nobody has renewed the lease for half of its TTL, as far as that is known.
func (m MemberHealth) Stale() bool {
	return m.Expired || m.TTL > 0 && leaseAge{m.TTL, m.Left}.stale()
}

// Health reads how the members are.
func (r *Reader) Health(ctx context.Context) (*Health, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Figures(), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Loads(), clientv3.WithPrefix()),
	)
	if err != nil {
		return nil, fmt.Errorf("read how the members are: %w", etcd.Unreachable(ctx, err))
	}
	h := healthOf(r.Layout, membership.NewView(r.Layout.Root(), r.Shards, found[0], revision), found)
	h.readLeases(ctx, r)
	return h, nil
}

// healthOf makes a Health of the keys of the group, of the figures and of the loads, without the times of leases.
func healthOf(layout keys.Layout, view *membership.View, found [][]*mvccpb.KeyValue) *Health {
	h := &Health{Roll: &Roll{View: view, figures: map[string]claims.Figures{}}}
	for _, kv := range found[1] {
		key := layout.Parse(string(kv.Key))
		if s, err := claims.DecodeFigures(kv.Value); err == nil && key.Kind == keys.Stats {
			h.Roll.figures[key.ID] = s
		}
	}
	loads := map[string]claims.Loads{}
	for _, kv := range found[2] {
		key := layout.Parse(string(kv.Key))
		if l, err := claims.DecodeLoads(kv.Value, view.Shards); err == nil && key.Kind == keys.Load {
			loads[key.ID] = l
		}
	}
	for _, m := range h.Roll.Members() {
		figures, says := h.Roll.figures[m.ID]
		h.Members = append(h.Members, MemberHealth{Member: m, Figures: figures, Says: says, Load: -1, Limit: -1})
	}
	h.findLags(layout, found[0])
	h.findLoads(loads)
	return h
}

// findLags finds which members do not know of changes of the group.
func (h *Health) findLags(layout keys.Layout, group []*mvccpb.KeyValue) {
	var changes []int64
	for _, kv := range group {
		switch layout.Parse(string(kv.Key)).Kind {
		case keys.Foreign: // it changes nothing for members
		default:
			changes = append(changes, kv.ModRevision)
		}
	}
	slices.Sort(changes)
	if len(changes) > 0 {
		h.Changed = changes[len(changes)-1]
	}
	for i := range h.Members {
		m := &h.Members[i]
		if _, live := h.Roll.View.Members[m.ID]; !live || m.Figures.View == 0 || m.Figures.View >= h.Changed {
			continue
		}
		m.Behind = h.Changed - m.Figures.View
		at, _ := slices.BinarySearch(changes, m.Figures.View+1)
		for id, other := range h.Roll.figures { // those who know of the first change that this one does not know of
			if id != m.ID && other.View >= changes[at] && !other.ViewAt.IsZero() &&
				(m.BehindSince.IsZero() || other.ViewAt.Before(m.BehindSince)) {
				m.BehindSince = other.ViewAt
			}
		}
	}
}

// findLoads compares what members have with what they may have for the load to be even. It does not where a coordinator
// would not do so either.
func (h *Health) findLoads(loads map[string]claims.Loads) {
	v := h.Roll.View
	coordinator, says := h.Roll.figures[v.Coordinator.ID]
	h.NoBalance = !says || coordinator.View == 0 || coordinator.NoBalance || v.HasOlder()
	size := make([]int64, v.Shards)
	for n, owner := range v.Owners() {
		size[n] = loads[owner].Shards[n]
	}
	members := map[string]shard.Capacity{}
	for id, m := range v.Members {
		if !m.HasJoined() {
			continue
		}
		_, cordoned := v.Cordons[id]
		takes := v.Eligible(id) && !cordoned && !m.Leaves && !v.DeclinesAny(id)
		members[id] = shard.Capacity{Weight: v.WeightOf(id), Room: -1, Takes: takes}
	}
	p := shard.NewPlanner(shard.Problem{
		Home: v.Owners(), Owner: v.Owners(), Load: size, Members: members,
		Fixed: func(n int) bool { _, pinned := v.Pins[n]; return pinned },
	})
	for i := range h.Members {
		m := &h.Members[i]
		if _, said := loads[m.ID]; said {
			m.Load = p.Load(m.ID)
			if c := members[m.ID]; c.Takes && c.Weight > 0 {
				m.Limit = p.Limit(m.ID)
			}
		}
	}
	p.Level(math.MaxInt64)
	h.correctable = len(p.Steps()) > 0
}

// leasesAtOnce is how many leases are asked for at once.
const leasesAtOnce = 32

// readLeases asks for the time that the members' leases have left. What it cannot learn stays unknown.
func (h *Health) readLeases(ctx context.Context, r *Reader) {
	bounded, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	asking, all := errgroup.WithContext(bounded)
	asking.SetLimit(leasesAtOnce)
	for i := range h.Members {
		m := &h.Members[i]
		of, live := h.Roll.View.Members[m.ID]
		if !live || of.Lease == 0 {
			continue
		}
		asking.Go(func() error {
			resp, err := r.Client.TimeToLive(all, clientv3.LeaseID(of.Lease))
			if err != nil {
				return err // the others would fail in the same way
			}
			if resp.TTL < 0 {
				m.Expired = true
				return nil
			}
			m.TTL = time.Duration(resp.GrantedTTL) * time.Second
			m.Left = min(m.TTL, time.Duration(resp.TTL+1)*time.Second) // etcd rounds down
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		h.Leases = reasonFor(ctx, err)
	}
}

// reasonFor says for people why something could not be read.
func reasonFor(ctx context.Context, err error) string {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return "etcd did not answer in time"
	}
	return err.Error()
}

// Unevenness is a member that has more than it may have for the load to be even.
type Unevenness struct {
	Member      string
	Load, Limit int64 // in thousandths of a resource
}

// Uneven lists the members above the bound for balance, the worst first. It lists none while members come or go, orders
// keep the coordinator from correcting anything, or a member that has gone still has slots: no key says when it went,
// and until then the load may have been even. The coordinator frees such slots after an hour.
func (h *Health) Uneven() (all []Unevenness) {
	v := h.Roll.View
	if h.NoBalance || !h.correctable || len(v.Reservations) > 0 || len(v.Drains) > 0 {
		return nil
	}
	for _, m := range v.Members {
		if m.State != membership.Active && m.State != membership.Unready || m.Leaves {
			return nil
		}
	}
	gone := func(id string) bool {
		_, lives := v.Members[id]
		return id != "" && !lives
	}
	if slices.ContainsFunc(v.Slots, gone) ||
		slices.ContainsFunc(v.Blocks, func(b shard.Block) bool { return gone(b.Member) }) {
		return nil
	}
	for _, m := range h.Members {
		if m.Limit >= 0 && m.Load > m.Limit {
			all = append(all, Unevenness{m.ID, m.Load, m.Limit})
		}
	}
	slices.SortFunc(all, func(a, b Unevenness) int {
		return cmp.Or(cmp.Compare(b.Load-b.Limit, a.Load-a.Limit), cmp.Compare(a.Member, b.Member))
	})
	return all
}

// LastChange is the newest time that a key of the group says: when a member started, or an order or an exception was
// given. It is zero if none says any.
func (h *Health) LastChange() (last time.Time) {
	v := h.Roll.View
	take := func(t time.Time) {
		if t.After(last) {
			last = t
		}
	}
	for _, m := range v.Members {
		take(m.Started)
	}
	for _, o := range h.Roll.Orders() {
		take(o.Since)
	}
	for _, e := range v.Exceptions {
		take(e.Since)
	}
	return last
}
