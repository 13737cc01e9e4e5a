package groupsim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

// clockBegin is what a member's clock for durations says when a run begins.
const clockBegin = time.Hour

// readyFirst is for how long a member leaves a free office to a better one.
const readyFirst = 2 * time.Second

// office is a member's part in the coordination.
type office struct {
	number    int64 // the term; 0: it does not coordinate
	publisher *placement.Publisher
	vacant    time.Duration // since when the office has been free
	turnAt    time.Duration // when the next turn of the publisher is due; 0: none is

	group    string           // what its view says of the group, as far as it must be quiet for that
	quiet    time.Duration    // since when it has said so, or since when the member coordinates
	hastened bool             // an operator has ordered that the load be balanced now, or a member has another weight
	decided  *membership.View // the view that the publisher has seen last
}

// noteGroup notes what the publisher has seen, and whether the group is as it was then.
func (m *member) noteGroup(v *membership.View) {
	for id := range v.Members {
		if m.decided != nil && m.decided.WeightOf(id) != v.WeightOf(id) { // that is corrected without waiting
			m.hastened = true
		}
	}
	m.decided = v
	if said := describe(v); said != m.group {
		m.group, m.quiet = said, m.w.Now
	}
}

// describe says what must be the same for a group to be quiet.
func describe(v *membership.View) string {
	text := ""
	for _, id := range slices.Sorted(maps.Keys(v.Members)) {
		m := v.Members[id]
		text += fmt.Sprint(id, m.CreateRevision, m.State, m.Leaves, v.WeightOf(id), " ")
	}
	return text + fmt.Sprint(slices.Sorted(maps.Keys(v.Drains)), slices.Sorted(maps.Keys(v.Cordons)),
		slices.Sorted(maps.Keys(v.Reservations)))
}

// stand takes the office if nobody has it, and enters it if the view says that this member has it. It returns false if
// it must be called again soon.
func (m *member) stand() bool {
	v, w := m.view, m.w
	c := v.Coordinator
	taken := c.CreateRevision != 0
	if taken && c.Lease == m.lease {
		m.enter(c.CreateRevision)
		return true
	}
	m.leaveOffice()
	if taken {
		m.vacant = 0
		return true
	}
	if m.vacant == 0 {
		m.vacant = w.Now
	}
	if !v.Members[m.id].HasJoined() || m.goes {
		return true
	}
	if w.Now-m.vacant < readyFirst && v.BetterCoordinator(m.id) {
		return false
	}
	won, _ := m.registrar().StandForCoordinator(context.Background(), *m.reg)
	return won
}

func (m *member) leaveOffice() { m.number, m.publisher, m.turnAt, m.hastened = 0, nil, 0, false }

// enter begins a term.
func (m *member) enter(number int64) {
	if m.number == number {
		return
	}
	m.leaveOffice()
	w := m.w
	w.Tracef("%s coordinates", m.id)
	w.count(Terms)
	m.number, m.quiet, m.group = number, w.Now, ""
	if m.older {
		return
	}
	limits := new(txn.Limits)
	_ = limits.TooMany(rpctypes.ErrTooManyOps, &pb.TxnRequest{
		Success: make([]*pb.RequestOp, min(2*(w.plan.Ops+1), txn.UsualOps)),
	})
	m.publisher = placement.NewPublisher(placement.Options{
		Rules: w.rules(), Member: m.id, Shards: w.plan.Shards, Layout: w.layout, KV: m.kv, Timeout: time.Minute,
		Limits: limits, Now: func() time.Duration { return clockBegin + w.Now }, Wall: m.wall, Log: zap.NewNop(),
	}, number)
	m.publisher.See(m.view)
	m.noteGroup(m.view)
	pub := m.publisher
	m.in(w.lag(), func() { // it lists what the members say
		for _, key := range w.store.sorted {
			if k := w.layout.Parse(key); k.Kind == keys.Load {
				m.hear(pub, k.ID, w.store.kvs[key].Value, w.store.kvs[key].ModRevision)
			}
			if key == w.layout.RebalanceOrder() {
				m.hearHaste(pub)
			}
		}
		m.poke(0)
	})
}

// hear tells the publisher what a member says of its shards.
func (m *member) hear(pub *placement.Publisher, id string, value []byte, revision int64) {
	if m.publisher != pub {
		return
	}
	if m.cut {
		m.in(retry, func() { m.hear(pub, id, value, revision) })
		return
	}
	loads, err := claims.DecodeLoads(value, m.w.plan.Shards)
	if err != nil {
		m.w.Failf("%s cannot read what %s says: %v", m.id, id, err)
	}
	pub.Take(id, loads, revision)
	m.poke(0)
}

// hearHaste tells the publisher of an operator's order to balance now.
func (m *member) hearHaste(pub *placement.Publisher) {
	if m.publisher != pub {
		return
	}
	if m.cut {
		m.in(retry, func() { m.hearHaste(pub) })
		return
	}
	m.hastened = true
	_ = pub.Hasten(context.Background())
	m.poke(0)
}

// poke makes the publisher have a turn after some time, unless one is due before.
func (m *member) poke(d time.Duration) {
	if m.publisher == nil {
		return
	}
	at := m.w.Now + max(d, time.Millisecond)
	if m.turnAt != 0 && m.turnAt <= at {
		return
	}
	m.turnAt = at
	m.in(at-m.w.Now, func() {
		if m.turnAt == at {
			m.turnAt = 0
			m.turn()
		}
	})
}

// turn lets the publisher publish what is due.
func (m *member) turn() {
	pub := m.publisher
	if pub == nil || m.cut {
		return
	}
	m.publishes = true
	next, err := pub.Turn(context.Background())
	m.publishes = false
	if m.publisher != pub {
		return
	}
	if next > 0 {
		m.poke(next - clockBegin - m.w.Now)
	}
	switch {
	case errors.Is(err, placement.ErrDeposed):
		m.publisher = nil
	case err != nil:
		m.poke(200*time.Millisecond + m.w.UpTo(time.Second))
	}
}
