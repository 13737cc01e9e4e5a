package sim

import (
	"github.com/distributed-resource-manager/drm/internal/core"
)

// write sends a request of the core, and tells the core the answer.
func (m *member) write(kind request, apply func() core.WriteResult, tell func(core.WriteResult)) {
	var res core.WriteResult
	m.request(kind, func() { res = apply() }, func(lost, failed bool) {
		switch {
		case lost:
			res = core.WriteResult{Unknown: true}
		case failed:
			res = core.WriteResult{Failed: true}
		}
		m.post(func() {
			m.w.Tracef("%s: answer %+v", m.name, res)
			tell(res)
			m.step()
		})
	})
}

// asking is one request on its way.
type asking struct {
	m        *member
	gen      int // the member's process that has sent it
	kind     request
	apply    func()
	answered func(lost, failed bool)
	applied  bool
	over     bool // whether the member has an answer, or has given up
}

// request makes etcd apply something: soon, never, or later than anyone waits for. answered is told what the member
// knows of it.
func (m *member) request(kind request, apply func(), answered func(lost, failed bool)) {
	w := m.w
	w.count(became(kind, sent))
	a := &asking{m: m, gen: m.gen, kind: kind, apply: apply, answered: answered}
	m.after(requestTimeout, a.giveUp)
	if !w.Chance(w.plan.Lossy) {
		w.after(w.delay(), a.arrive)
		return
	}
	switch w.Rand.IntN(4) {
	case 0: // it is refused
		m.after(w.delay(), func() {
			w.count(became(kind, refused))
			a.answer(false, true)
		})
	case 1: // it is never applied
	case 2: // it is applied when nobody waits for it any more
		w.after(requestTimeout+w.UpTo(uncertainFor*8/10), func() {
			if w.leaderless == 0 {
				w.count(became(kind, late))
				apply()
			}
		})
	default:
		w.after(w.delay(), a.arrive)
	}
}

// arrive makes etcd look at the request.
func (a *asking) arrive() {
	m, w := a.m, a.m.w
	switch {
	case m.cut:
		return
	case w.leaderless > 0: // some endpoints say that there is no leader, and cannot tell whether it will be applied
		if w.Rand.IntN(2) == 0 {
			w.in(w.Now+w.delay(), m, a.gen, a.giveUp)
		}
		return
	}
	a.applied = true
	a.apply()
	if w.Chance(w.plan.Lossy / 2) {
		return
	}
	w.in(w.Now+w.delay(), m, a.gen, func() {
		if !m.cut && m.deaf == 0 && w.leaderless == 0 {
			a.answer(false, false)
		}
	})
}

// giveUp makes the member stop waiting for an answer.
func (a *asking) giveUp() {
	if !a.over {
		f := unanswered
		if a.applied {
			f = lost
		}
		a.m.w.count(became(a.kind, f))
	}
	a.answer(true, false)
}

func (a *asking) answer(lost, failed bool) {
	if !a.over {
		a.over = true
		a.answered(lost, failed)
	}
}
