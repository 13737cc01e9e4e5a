package groupsim

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/membership"
)

// begin starts a life of the member, if it does not run.
func (m *member) begin() {
	if m.stage != off {
		return
	}
	w := m.w
	w.Tracef("%s starts, version %s", m.id, m.version)
	m.life++
	m.stage, m.reg, m.lease, m.joinsAt, m.waits, m.back, m.lives = joining, nil, 0, 0, 0, 0, 0
	m.goes, m.rejoin, m.looks, m.view, m.works, m.reports, m.said = false, 0, false, nil, false, false, ""
	m.retries, m.declined, m.doubted, m.office = false, false, 0, office{}
	m.declinedAt, m.paused, m.late = 0, false, nil
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
		m.back = m.w.Now + wait
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
	case m.w.Now < m.back:
		return "short lives"
	}
	return ""
}

// register puts the member's key. A member that has joined before becomes at once what it was.
func (m *member) register() {
	record := membership.Record{
		State: membership.Joining, Weight: m.weight, Version: m.version, Source: true, Started: start,
	}
	if m.older {
		record.Weight = min(max(record.Weight, 1), 32) // more, or none, was not possible
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
	m.setRegistration(&reg)
	m.joinsAt = m.w.Now + JoinDelay
	m.in(JoinDelay, m.heed)
	m.noteView()
}

// join makes the member active or unready when it is time.
func (m *member) join() {
	w := m.w
	if m.view.Members[m.id].CreateRevision != m.reg.CreateRevision { // its lease has ended meanwhile
		m.setRegistration(nil)
		m.in(retry, m.register)
		return
	}
	if w.Now < m.joinsAt {
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
			m.waits = w.Now + prepared
			m.in(prepared, m.heed)
		}
		if !placement.MayJoin(m.view, m.id) && w.Now < m.waits {
			return
		}
		reg, err = m.registrar().Activate(context.Background(), *m.reg)
	}
	if err != nil {
		m.again()
		return
	}
	w.Tracef("%s has joined: %s, slots %v", m.id, reg.Record.State, reg.Record.Slots)
	m.stage = joined
	m.setRegistration(&reg)
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
			m.setRegistration(&reg)
		}
		if placement.MayStop(v, m.id) || m.w.Now >= m.waits {
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
	m.w.Tracef("%s registers anew", m.id)
	m.leaveOffice()
	m.w.endLease(m, m.lease)
	m.lease, m.said, m.declined = 0, "", false
	m.setRegistration(nil)
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
	m.setRegistration(&reg)
	return true
}

// heedWeight brings the member's slots in line with its weight, or with the one that an operator has ordered.
func (m *member) heedWeight() bool {
	reg := *m.reg
	if shown := m.view.Members[m.id]; shown.HasJoined() && m.view.Revision >= reg.Revision {
		r := &reg.Record // a write whose answer was lost may have been applied after all
		r.Weight, r.Slots, r.Blocks, r.Held = shown.Weight, shown.Slots, shown.Blocks, shown.Held
	}
	has, counts := reg.Record, m.view.WeightWith(m.id, m.weight)
	fits := counts == 0 || !m.view.NeedsSlots(m.id) || has.Holds() == counts
	if m.older || !has.HasJoined() || has.Leaves || m.goes || has.Weight == m.weight && fits {
		return true
	}
	reg, err := m.registrar().Weigh(context.Background(), reg, m.weight)
	if err != nil {
		return errors.Is(err, membership.ErrGone)
	}
	m.setRegistration(&reg)
	return true
}

// sayFull tells the others which shards the member declines: all that it does not own, if it is full.
func (m *member) sayFull() bool {
	if m.w.procs != nil {
		return m.sayDeclined(m.declines())
	}
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

// declines returns what the member's process wants to decline, where another simulation has it.
func (m *member) declines() membership.Decline {
	if m.w.procs == nil {
		return membership.Decline{}
	}
	return m.w.procs.Declines(m.index)
}

// sayDeclined tells the others which shards the member declines, unless its view shows that.
func (m *member) sayDeclined(d membership.Decline) bool {
	if m.view.Revision < m.declinedAt || m.view.DeclineOf(m.id).Equal(d) {
		return true
	}
	revision, err := m.registrar().Decline(context.Background(), *m.reg, d)
	if err != nil {
		return errors.Is(err, membership.ErrGone)
	}
	m.declinedAt = revision
	return true
}
