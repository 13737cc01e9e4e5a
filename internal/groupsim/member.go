package groupsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/membership"
)

// errCut is the error of a request that is not answered.
var errCut = errors.New("no answer")

// stage is how far a member is.
type stage int

const (
	off     stage = iota // it does not run
	joining              // it has not joined yet
	joined
	leaving // it stops
)

// member is a member's program, as far as the group is concerned. Its steps are those of internal/member.
type member struct {
	w       *world
	id      string
	life    int
	version string
	weight  int
	older   bool          // it knows Schema 1 only
	clock   time.Duration // how much its wall clock is ahead
	kv      clientv3.KV
	leases  clientv3.Lease

	stage     stage
	cut       bool // its network fails
	broken    bool // it cannot work
	full      bool
	lease     int64 // of its key
	reg       *membership.Registration
	joinsAt   time.Duration
	waits     time.Duration // until when it waits for the coordinator; 0: it does not
	back      time.Duration // until when it stays away, because of short lives
	lives     int64         // the lease of the count of its lives
	goes      bool          // it is about to stop
	rejoin    time.Duration // what it stops with
	seen      int           // how many views it has seen, or passed over
	looks     bool          // it is about to look at a view
	view      *membership.View
	works     bool // it is about to begin and end what it handles
	reports   bool // it is about to say what its shards weigh
	said      string
	doubted   time.Duration // until when etcd may have something older all the same
	retries   bool
	declined  bool // it has said that it is full
	publishes bool // a turn of its publisher is in progress

	office
}

// member returns the member with that number, which may not have started yet.
func (w *world) member(i int) *member {
	for len(w.members) <= i {
		n := len(w.members)
		m := &member{w: w, id: fmt.Sprintf("m%02d", n), weight: 1, version: fmt.Sprint(1)}
		if w.rng.IntN(100) < w.plan.Weighty {
			m.weight = 1 + w.rng.IntN(3)
		}
		m.older = w.rng.IntN(100) < w.plan.Older
		m.clock = time.Duration(w.rng.IntN(w.plan.Clocks+1)) * time.Second
		m.kv = clientv3.NewKVFromKVClient(line{s: w.store, m: m}, nil)
		m.leases = clientv3.NewLeaseFromLeaseClient(lessor{s: w.store, m: m}, nil, time.Second)
		w.members = append(w.members, m)
	}
	return w.members[i]
}

func (m *member) registrar() *membership.Registrar {
	return &membership.Registrar{Client: m.kv, Group: m.w.group, ID: m.id, Timeout: time.Minute}
}

func (m *member) cutOff() bool { return m.cut || m.stage == off }

func (m *member) wall() time.Time { return start.Add(m.w.now + m.clock) }

// in calls f after some time, if this life of the member has not ended by then.
func (m *member) in(d time.Duration, f func()) { m.w.in(d, m, f) }

// send sends a transaction, which may get lost.
func (m *member) send(t *pb.TxnRequest) (*pb.TxnResponse, error) {
	w := m.w
	if m.cutOff() {
		return nil, errCut
	}
	if m.older {
		for _, op := range t.Success {
			if put := op.GetRequestPut(); put != nil && string(put.Key) == w.layout.Member(m.id) {
				put.Value = withoutSchema(put.Value)
			}
		}
	}
	fate := 0
	switch {
	case m.publishes && w.chance(w.plan.Cuts):
		fate = 1 + w.rng.IntN(6)
	case w.chance(w.plan.Lossy):
		fate = 1 + w.rng.IntN(3)
	}
	switch fate {
	case 1:
		w.count(Lost)
		return nil, errCut
	case 2:
		w.count(Unanswered)
		_, _ = w.store.txn(m, t)
		return nil, errCut
	case 3:
		w.count(Delayed)
		publishes, then := m.publishes, m.office
		w.after(w.upTo(3*time.Second), func() {
			was, now := m.publishes, m.office
			m.publishes, m.office, w.judge.late = publishes, then, true
			_, _ = w.store.txn(m, t)
			m.publishes, m.office, w.judge.late = was, now, false
		})
		return nil, errCut
	case 4:
		w.count(CutBefore)
		m.die(w.upTo(20 * time.Second))
		return nil, errCut
	case 5:
		w.count(CutAfter)
		_, _ = w.store.txn(m, t)
		m.die(w.upTo(20 * time.Second))
		return nil, errCut
	case 6:
		w.count(CutBetween)
		w.interlude(m)
		if m.cutOff() {
			return nil, errCut
		}
	}
	return w.store.txn(m, t)
}

// begin starts a life of the member, if it does not run.
func (m *member) begin() {
	if m.stage != off {
		return
	}
	w := m.w
	w.trace("%s starts, version %s", m.id, m.version)
	m.life++
	m.stage, m.reg, m.lease, m.joinsAt, m.waits, m.back, m.lives = joining, nil, 0, 0, 0, 0, 0
	m.goes, m.rejoin, m.looks, m.view, m.works, m.reports, m.said = false, 0, false, nil, false, false, ""
	m.retries, m.declined, m.doubted, m.office = false, false, 0, office{}
	m.seen = 0
	if !m.older {
		m.countLives()
	}
	m.register()
}

// countLives looks how many short lives there were, and counts this one.
func (m *member) countLives() {
	ctx, key := context.Background(), m.w.layout.Lives(m.id)
	resp, err := m.kv.Get(ctx, key)
	if err != nil {
		return
	}
	var lives claims.Lives
	for _, kv := range resp.Kvs {
		lives, _ = claims.DecodeLives(kv.Value)
	}
	wait := ready.WaitAfter(lives.Starts, ready.FirstWait)
	if wait > 0 {
		m.w.count(Flaps)
		m.back = m.w.now + wait
		m.in(wait, m.heed)
	}
	lives.Starts++
	granted, err := m.leases.Grant(ctx, int64((wait+ready.Quiet)/time.Second))
	if err == nil {
		m.lives = int64(granted.ID)
		_, _ = m.kv.Put(ctx, key, lives.Encode(), clientv3.WithLease(granted.ID))
	}
}

// whyNot returns why the member is not ready; "" if it is.
func (m *member) whyNot() string {
	switch {
	case m.broken:
		return "broken"
	case m.w.now < m.back:
		return "short lives"
	}
	return ""
}

// register puts the member's key. A member that has joined before becomes at once what it was.
func (m *member) register() {
	record := membership.Record{
		State: membership.Joining, Weight: m.weight, Version: m.version, Source: true, Started: start,
	}
	if m.stage == joined {
		record.State, record.Reason = membership.Active, m.whyNot()
		if record.Reason != "" {
			record.State = membership.Unready
		}
	}
	if m.cut {
		m.in(retry, m.register)
		return
	}
	if m.lease == 0 || m.w.store.leases[m.lease] == nil {
		m.lease = m.w.store.grant(ttl)
	}
	reg, err := m.registrar().Register(context.Background(), record, clientv3.LeaseID(m.lease))
	if err != nil {
		if errors.Is(err, membership.ErrSchema) {
			m.die(0)
			return
		}
		m.in(retry, m.register)
		return
	}
	m.reg = &reg
	m.joinsAt = m.w.now + joinDelay
	m.in(joinDelay, m.heed)
	m.noteView()
}

// noteView makes the member look at the last view some time, unless it is about to look already.
func (m *member) noteView() {
	if m.looks || m.stage == off {
		return
	}
	m.looks = true
	m.in(m.w.lag(), m.look)
}

// look shows the member a view: mostly the last one, and sometimes one before.
func (m *member) look() {
	m.looks = false
	if m.cut {
		return
	}
	w := m.w
	newest := len(w.views)
	if m.seen == newest {
		return
	}
	if m.seen > 0 && w.chance(20) {
		m.seen++
	} else {
		m.seen = newest
	}
	if m.seen < newest {
		m.noteView()
	}
	m.view = w.views[m.seen-1]
	m.heed()
	m.stirWork()
	m.stirReport()
}

// again makes the member heed its view once more, because a request has failed.
func (m *member) again() {
	if m.retries {
		return
	}
	m.retries = true
	m.in(retry, func() {
		m.retries = false
		m.heed()
	})
}

// heed does what follows from the last view that the member has seen.
func (m *member) heed() {
	if m.cut || m.reg == nil || m.view == nil || m.view.Revision < m.reg.CreateRevision {
		return
	}
	switch m.stage {
	case joining:
		m.join()
	case joined:
		m.stay()
	}
}

// join makes the member active or unready when it is time.
func (m *member) join() {
	w := m.w
	if m.view.Members[m.id].CreateRevision != m.reg.CreateRevision { // its lease has ended meanwhile
		m.reg = nil
		m.in(retry, m.register)
		return
	}
	if w.now < m.joinsAt {
		return
	}
	var reg membership.Registration
	var err error
	if why := m.whyNot(); why != "" {
		to := *m.reg
		to.Record.Reason = why
		reg, err = m.registrar().SetState(context.Background(), to, membership.Unready)
	} else {
		if m.waits == 0 {
			m.waits = w.now + prepared
			m.in(prepared, m.heed)
		}
		if !placement.MayJoin(m.view, m.id) && w.now < m.waits {
			return
		}
		reg, err = m.registrar().Activate(context.Background(), *m.reg)
	}
	if err != nil {
		m.again()
		return
	}
	w.trace("%s has joined: %s, slots %v", m.id, reg.Record.State, reg.Record.Slots)
	m.reg, m.stage = &reg, joined
	m.noteView()
}

// stay keeps the member's key in etcd, and takes or leaves the office.
func (m *member) stay() {
	ctx, v := context.Background(), m.view
	if v.Members[m.id].CreateRevision != m.reg.CreateRevision || !v.HasItsSlots(m.id) {
		m.registerAnew()
		return
	}
	if m.goes {
		if !m.reg.Record.Leaves {
			to := *m.reg
			to.Record.Leaves = true
			reg, err := m.registrar().SetState(ctx, to, to.Record.State)
			if err != nil {
				m.again()
				return
			}
			m.reg = &reg
		}
		if placement.MayStop(v, m.id) || m.w.now >= m.waits {
			m.leave()
			return
		}
	}
	if !m.heedReadiness() || !m.heedWeight() {
		m.again()
		return
	}
	if m.publisher != nil {
		m.publisher.See(v)
		m.noteGroup(v)
		m.poke(0)
	}
	if !m.older {
		if err := m.registrar().RaiseSchema(ctx, *m.reg, v); err != nil {
			m.again()
		}
	}
	if !m.sayFull() || !m.stand() {
		m.again()
	}
}

// registerAnew gets another lease and key.
func (m *member) registerAnew() {
	m.w.trace("%s registers anew", m.id)
	m.leaveOffice()
	m.w.endLease(m, m.lease)
	m.reg, m.lease, m.said, m.declined = nil, 0, "", false
	m.in(retry, m.register)
}

// heedReadiness writes whether the member is ready, if its key says something else.
func (m *member) heedReadiness() bool {
	has, why := m.reg.Record, m.whyNot()
	if shown := m.view.Members[m.id]; m.view.Revision >= m.reg.Revision {
		has.State = shown.State
	}
	var reg membership.Registration
	var err error
	ctx, to := context.Background(), *m.reg
	switch {
	case why == "" && has.State == membership.Active:
		return true
	case why == "" && has.Holds() == 0:
		reg, err = m.registrar().Activate(ctx, to)
	case why == "":
		reg, err = m.registrar().SetState(ctx, to, membership.Active)
	case has.State == membership.Unready && has.Holds() == 0 && m.view.UnreadyIgnored() && m.view.WeightOf(m.id) > 0:
		reg, err = m.registrar().TakeSlots(ctx, to)
	case has.State == membership.Unready:
		return true
	default:
		to.Record.Reason = why
		reg, err = m.registrar().SetState(ctx, to, membership.Unready)
	}
	if err != nil {
		return errors.Is(err, membership.ErrGone)
	}
	m.reg = &reg
	return true
}

// heedWeight brings the member's slots in line with its weight, or with the one that an operator has ordered.
func (m *member) heedWeight() bool {
	reg := *m.reg
	if shown := m.view.Members[m.id]; shown.HasJoined() && m.view.Revision >= reg.Revision {
		r := &reg.Record // a write whose answer was lost may have been applied after all
		r.Weight, r.Slots, r.Blocks, r.Held = shown.Weight, shown.Slots, shown.Blocks, shown.Held
	}
	has, counts := reg.Record, m.weight
	if order, ordered := m.view.Weights[m.id]; ordered {
		counts = order.Weight
	}
	fits := counts == 0 || !m.view.TakesAll(m.id) || has.Holds() == counts
	if m.older || !has.HasJoined() || has.Leaves || m.goes || has.Weight == m.weight && fits {
		return true
	}
	reg, err := m.registrar().Weigh(context.Background(), reg, m.weight)
	if err != nil {
		return errors.Is(err, membership.ErrGone)
	}
	m.reg = &reg
	return true
}

// sayFull tells the others which shards the member declines: all that it does not own, if it is full.
func (m *member) sayFull() bool {
	if m.full == m.declined {
		return true
	}
	d := membership.Decline{}
	if m.full {
		d.Shards = m.view.Owned(m.id)
		for n, owned := range d.Shards {
			d.Shards[n] = !owned
		}
	}
	if _, err := m.registrar().Decline(context.Background(), *m.reg, d); err != nil {
		return errors.Is(err, membership.ErrGone)
	}
	m.declined = m.full
	return true
}

// stop begins to stop the member in order; with rejoin, its shards wait for so long.
func (m *member) stop(rejoin time.Duration) {
	if m.stage != joined || m.goes {
		if m.stage == joining {
			m.end()
		}
		return
	}
	m.w.trace("%s stops, rejoin %v", m.id, rejoin)
	if m.rejoin = rejoin; m.older {
		m.rejoin, rejoin = 0, 0
	}
	if v := m.view; rejoin > 0 || v == nil || !v.Members[m.id].HasJoined() || !v.HasGuide() || v.Alone(m.id) {
		m.leave()
		return
	}
	m.goes = true
	m.waits = m.w.now + prepared
	m.in(prepared, func() {
		if m.stage == joined && m.goes {
			m.leave()
		}
	})
	m.heed()
}

// leave tells the others that the member leaves, and ends it.
func (m *member) leave() {
	m.leaveOffice()
	m.stage = leaving
	ctx := context.Background()
	if m.reg != nil {
		reserved := false
		if m.rejoin > 0 && m.ownsAny() {
			if granted, err := m.leases.Grant(ctx, int64(m.rejoin/time.Second)); err == nil {
				r := membership.Reservation{
					Since: m.wall(), Until: m.wall().Add(m.rejoin), Keeps: m.view.Owned(m.id),
				}
				_, err = m.registrar().Leave(ctx, *m.reg, r, granted.ID)
				reserved = err == nil
			}
		}
		if !reserved {
			_, _ = m.registrar().SetState(ctx, *m.reg, membership.Leaving)
		}
	}
	m.in(m.w.upTo(2*time.Second), m.end)
}

// ownsAny says whether the member owns a shard, as far as it knows.
func (m *member) ownsAny() bool {
	return m.view != nil && slices.Contains(m.view.Owned(m.id), true) &&
		(m.reg.Record.State != membership.Unready || m.view.UnreadyIgnored())
}

// end ends the member in order.
func (m *member) end() {
	m.w.trace("%s has stopped", m.id)
	lives, cut := m.lives, m.cut
	m.leaveOffice()
	m.stage = off
	m.life++
	if cut {
		m.w.expire(m, m.lease)
		return
	}
	m.w.endLease(m, m.lease)
	if lives != 0 {
		m.w.store.end(lives)
	}
}

// die ends the member's process. It comes back after a time, or never if that is 0.
func (m *member) die(back time.Duration) {
	if m.stage == off {
		return
	}
	m.w.trace("%s dies", m.id)
	m.w.res.Died = append(m.w.res.Died, m.id)
	m.leaveOffice()
	m.stage, m.cut = off, false
	m.life++
	m.w.expire(m, m.lease)
	if back > 0 {
		m.w.after(back, m.begin)
	}
}

// expire lets a lease expire that nobody renews any more.
func (w *world) expire(m *member, lease int64) {
	w.after(ttl*3/5+w.upTo(ttl*2/5), func() { w.endLease(m, lease) })
}

// endLease ends the lease of a member's key, and those of its claims with it.
func (w *world) endLease(m *member, lease int64) {
	if w.store.leases[lease] == nil {
		return
	}
	for n, h := range w.holders {
		if h.m == m && (h.life != m.life || m.lease == lease) {
			w.holders[n] = holder{}
		}
	}
	w.store.end(lease)
	for _, other := range w.members {
		other.stirWork()
	}
}

// cutNetwork cuts the member off for a time. Its lease may expire meanwhile.
func (m *member) cutNetwork(d time.Duration) {
	if m.cutOff() {
		return
	}
	m.w.trace("%s is cut off for %v", m.id, d)
	m.cut = true
	m.in(d, m.reconnect)
	lease := m.lease
	m.in(ttl*3/5+m.w.upTo(ttl*2/5), func() {
		if m.cut {
			m.w.endLease(m, lease)
		}
	})
}

func (m *member) reconnect() {
	m.cut = false
	m.noteView()
	m.in(0, m.heed)
	m.stirWork()
	m.stirReport()
	m.poke(0)
}

// stirWork makes the member begin what it owns and end what it does not own, after a moment.
func (m *member) stirWork() {
	if m.works || m.stage == off {
		return
	}
	m.works = true
	m.in(20*time.Millisecond+m.w.upTo(600*time.Millisecond), m.work)
}

func (m *member) work() {
	m.works = false
	if m.cut || m.view == nil || m.reg == nil {
		return
	}
	w := m.w
	for n, h := range w.holders {
		owns := m.stage == joined && m.view.Owner(n) == m.id
		switch {
		case h.m == m && !owns:
			w.holders[n] = holder{}
			for _, other := range w.members {
				if other != m && other.view != nil && other.view.Owner(n) == other.id {
					other.stirWork()
				}
			}
		case h.m == nil && owns:
			w.holders[n] = holder{m, m.life}
			w.judge.handled(n, m)
		}
	}
	m.stirReport()
}

// stirReport makes the member say what its shards weigh, after a moment.
func (m *member) stirReport() {
	if m.reports || m.stage != joined || m.older {
		return
	}
	m.reports = true
	m.in(200*time.Millisecond+m.w.upTo(1500*time.Millisecond), m.report)
}

func (m *member) report() {
	m.reports = false
	if m.cut || m.stage != joined || m.reg == nil || m.view == nil {
		return
	}
	loads := claims.Loads{Shards: map[int]int64{}}
	for n, load := range m.w.load {
		if m.view.Owner(n) != m.id || load == 0 {
			continue
		}
		loads.Shards[n] = load
		if m.w.holders[n].m != m {
			loads.Pending += load
		}
	}
	value := string(loads.Encode())
	if m.w.now < m.doubted {
		m.in(2*time.Second, m.stirReport)
	} else if value == m.said {
		return
	}
	_, err := m.kv.Put(context.Background(), m.w.layout.Load(m.id), value, clientv3.WithLease(m.reg.Lease))
	if err != nil { // it may be carried out late, over a later one
		m.doubted = m.w.now + 10*time.Second
		m.stirReport()
		return
	}
	m.said = value
}
