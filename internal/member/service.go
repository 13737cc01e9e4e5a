package member

import (
	"context"
	"errors"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/shard"
)

// ErrNotHeld says that a member does not handle a resource under a token. drm.ErrNotHeld is the same error.
var ErrNotHeld = errors.New("not handled under that token now")

// Reannounce makes everything that the handler has be handled again without Terminate. It returns how many resources
// that are; ok is false if the member has ended.
func (m *Member) Reannounce() (n int, ok bool) {
	ok = m.loop.ask(func(now time.Duration) { n = m.executor.calls.Reannounce(now) })
	return n, ok
}

// Live returns nil if the member's loop answers, or the member is starting or has ended. It returns an error if ctx
// ends first.
func (m *Member) Live(ctx context.Context) error { return m.loop.probe(ctx) }

// serviceRestarted is called when Ready has noticed that the service was restarted. A handler that is told which
// instance of its service answers has noticed that too, and knows better who had what.
func (m *Member) serviceRestarted() {
	m.loop.post(func(now time.Duration) {
		if !m.executor.calls.KnowsInstances() {
			m.executor.calls.Reannounce(now)
		}
	})
}

// Fail says that what the handler began for a resource no longer works. The error is ErrNotHeld if the resource is not
// handled under that token, or the member has ended.
func (m *Member) Fail(id string, token int64, text string) error {
	return m.report(id, token, func(h *calls.Handling) { h.Fail(text) })
}

// Report takes a report on a resource that is handled. The error is that of Fail.
func (m *Member) Report(id string, token int64, failed bool, text string) error {
	return m.report(id, token, func(h *calls.Handling) { h.Report(failed, text) })
}

func (m *Member) report(id string, token int64, tell func(*calls.Handling)) error {
	number := shard.Of(id, m.app.Shards)
	err := ErrNotHeld
	m.loop.ask(func(time.Duration) {
		h := m.executor.calls.Find(number, id, token)
		if h != nil && m.core.Takes(number, id) {
			tell(h)
			err = nil
		}
	})
	return err
}
