package calls

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/lives"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

const (
	// askEvery is the pause between two questions which instance of the service answers, and askAgain the pause after a
	// question that failed: what has no service should not wait for one that is back.
	askEvery = time.Second
	askAgain = 250 * time.Millisecond
	// askTimeout bounds a question. It is longer than a restart that keeps connections waiting usually takes.
	askTimeout = 5 * time.Second

	// Several instances that take turns in answering would make the member handle everything again all the time. So
	// after the first change the next ones are heeded only after a pause, which doubles up to mostUnrest. After as much
	// time without a change, a change is heeded at once again.
	leastUnrest = 250 * time.Millisecond
	mostUnrest  = time.Minute
	// manyChanges is how many changes in a row are told to the operator.
	manyChanges = 4
)

// heardLives are the lives of the service that does the handler's work, as far as the handler knows of them. Only the
// loop uses it.
type heardLives struct {
	lives.Lives
	changes int  // changes without mostUnrest in between
	due     bool // a sweep is due
}

// unknownLife is the number of a life that was over before its last answer came.
const unknownLife = -1

// hear takes note that an instance has answered a question or call that began at a time, and returns the number of its
// life. changed says that it is another one than before.
func (l *heardLives) hear(instance string, began, now time.Time) (number int32, changed bool) {
	switch {
	case l.Number() > 0 && instance == l.Name():
		return l.Number(), false
	case l.WasBefore(began): // an earlier instance had begun to answer before this one was known
		return unknownLife, false
	}
	if now.Sub(l.Since()) >= mostUnrest {
		l.changes = 0
	}
	if l.Number() > 0 {
		l.changes++
	}
	l.Begin(now)
	l.Call(instance, now)
	return l.Number(), true
}

// pause returns how long the last change is not heeded.
func (l *heardLives) pause() time.Duration {
	d := leastUnrest
	for n := 2; n < l.changes && d < mostUnrest; n++ {
		d *= 2
	}
	if l.changes < 2 {
		return 0
	}
	return min(d, mostUnrest)
}

// ServedBy says that an instance of a service has what the call in progress began or changed. What earlier instances
// were given is handled again. It never blocks.
func (h *Handling) ServedBy(instance string) {
	at := time.Now()
	h.calls.o.Post(func(time.Duration) { h.calls.served(h, instance, at) })
}

// served takes note of what ServedBy says. It runs on the loop.
func (cs *Calls) served(h *Handling, instance string, at time.Time) {
	if h.call != nil {
		at = h.call.since()
	}
	number := cs.heard(instance, at)
	if h.call != nil && h.call.gives() {
		h.life, h.doubt, h.call.served = number, false, true
	}
	if number == unknownLife {
		cs.sweepAfter(0)
	}
}

// heard takes note of an instance, and sees to it that what others were given is handled again.
func (cs *Calls) heard(instance string, began time.Time) int32 {
	l := &cs.lives
	number, changed := l.hear(instance, began, time.Now())
	if changed {
		pause := l.pause()
		if number > 1 {
			cs.o.Log.Info("the service was restarted; handling again what it had", zap.Duration("pause", pause))
		}
		if l.changes == manyChanges {
			cs.o.Failures.Add(failures.Failure{
				Message: "several instances of the service answer in turns; it must name one, and another one only " +
					"after a restart",
				Level: zap.WarnLevel, Error: "the instance changes again and again",
			})
		}
		if !l.TakeTurns(time.Now()) { // otherwise it would be asked all the time
			cs.checkAgain()
		}
		cs.sweepAfter(pause)
	}
	return number
}

// lapsed says whether nobody has anything of a handling any more, because the life that was given it is over.
func (cs *Calls) lapsed(h *Handling) bool {
	return h.life != cs.lives.Number() && !h.doubt && !cs.lives.TakeTurns(time.Now())
}

// unserved takes note that a call has returned, and that the handler did not say which instance has answered. After a
// Handle or an Update whose outcome is unknown, whichever life there is by now may have the resource, or have it later;
// after one that succeeded, that is so only if the life has changed meanwhile.
func (cs *Calls) unserved(c *call, out core.Outcome) {
	if c.do.Kind == core.Terminate {
		return
	}
	switch out {
	case core.Error, core.Refused: // the call has given nobody anything
	case core.OK:
		c.of.doubt = c.of.doubt || c.life != cs.lives.Number()
	default:
		c.of.doubt = true
	}
}

// sweepAfter makes what other instances were given be handled again after a pause.
func (cs *Calls) sweepAfter(pause time.Duration) {
	if cs.lives.due {
		return
	}
	cs.lives.due = true
	time.AfterFunc(pause, func() {
		cs.o.Post(func(now time.Duration) {
			cs.lives.due = false
			cs.sweep(now)
		})
	})
}

// sweep makes what other instances were given be handled again. A call in progress is waited for, since it tells which
// instance has the resource.
func (cs *Calls) sweep(now time.Duration) {
	for _, in := range cs.handlings {
		for _, h := range in {
			if h.call == nil && !h.gone {
				cs.renew(now, h)
			}
		}
	}
	cs.o.Core.RetryHandles(now)
}

// renew makes a resource be handled again if an earlier instance was given it. No call may be in progress.
func (cs *Calls) renew(now time.Duration, h *Handling) {
	switch {
	case h.life == cs.lives.Number() || cs.lives.due:
	case h.doubt:
		cs.o.Core.Doubt(now, h.shard, h.claim.ID)
	default:
		cs.o.Core.Lapsed(now, h.shard, h.claim.ID)
	}
}

// Reannounce makes everything that the handler has be handled again, without Terminate, since the service that had it
// has been restarted. It returns how many resources that are.
func (cs *Calls) Reannounce(now time.Duration) (n int) {
	for _, in := range cs.handlings {
		for _, h := range in {
			if !h.gone { // what is gone is about to be handled again
				cs.o.Core.Lapsed(now, h.shard, h.claim.ID)
				n++
			}
		}
	}
	cs.o.Core.RetryHandles(now)
	return n
}

// KnowsInstances says whether the handler has named an instance of its service, so that it notices restarts itself.
func (cs *Calls) KnowsInstances() bool { return cs.lives.Number() > 0 }

// AskInstance asks again and again which instance of the service answers, until ctx ends. It returns at once if the
// handler cannot tell. The member runs it in a goroutine of its own.
func (cs *Calls) AskInstance(ctx context.Context) {
	if cs.o.Instance == nil {
		return
	}
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began, pause := time.Now(), askAgain
		if instance, ok := cs.askInstance(ctx); ok {
			pause = askEvery
			if instance != "" {
				cs.o.Post(func(time.Duration) { cs.heard(instance, began) })
			}
		}
		timer.Reset(pause)
	}
}

// askInstance asks once. It waits for the user's code, or until ctx ends; the answer is dropped then.
func (cs *Calls) askInstance(ctx context.Context) (instance string, ok bool) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var told string
	answered := make(chan error, 1)
	usercode.Detached(func() (err error) {
		told, err = cs.o.Instance(asking)
		return err
	}, func(err error) { answered <- err })
	select {
	case err := <-answered:
		if err != nil && ctx.Err() == nil {
			cs.o.Failures.Add(failures.Failure{
				Message: "cannot ask the service which instance of it answers", Level: zap.WarnLevel,
				Error: err.Error(),
			})
		}
		return told, err == nil
	case <-ctx.Done():
		return "", false
	}
}
