package drm

import (
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// loggedIDs is how many ids of many a line of the log names.
const loggedIDs = 10

func firstFew(ids []string) []string { return ids[:min(len(ids), loggedIDs)] }

// removalRules are those of this member's configuration.
func (m *Manager) removalRules() catalogue.Rules {
	return catalogue.Rules{
		Share: m.cfg.MaxRemovals.Share, MoreThan: m.cfg.MaxRemovals.MoreThan,
		Delay: max(m.cfg.RemovalDelay, m.cfg.PollInterval), Hold: m.cfg.RemovalPolicy == HoldRemovals, Now: m.now,
	}
}

// inherit takes over how long the coordinator before has held what it held, so that a coordinator that changes again and
// again does not put a removal off for ever. The two clocks may differ: a moment that is yet to come counts as now.
func (o *office) inherit() {
	held := o.record.HeldRemovals
	if o.record.Held == 0 || held.Digest == "" || held.Joined.IsZero() {
		return
	}
	now := o.m.wall()
	o.sync.Inherit(held.Digest, max(now.Sub(held.Since), 0), max(now.Sub(held.Joined), 0))
}

// recordHeld puts what is held into the record.
func (o *office) recordHeld() {
	held := o.sync.Held()
	o.record.Held, o.record.HeldRemovals = held.Count, record.HeldRemovals{}
	if held.Count == 0 {
		return
	}
	now, wall := o.m.now(), o.m.wall().UTC()
	at := func(moment time.Duration) time.Time { return wall.Add(moment - now) }
	o.record.HeldRemovals = record.HeldRemovals{
		Digest: held.Digest, IDs: held.First, Since: at(held.Since), Joined: at(held.Joined),
	}
	if rules := o.m.removalRules(); !rules.Hold && !held.Unclear {
		o.record.HeldRemovals.Until = at(held.Joined + rules.Delay)
	}
}

// tellHeld logs what is held, where it is not what was logged last.
func (o *office) tellHeld() {
	held := o.record.HeldRemovals
	if held.Digest == o.toldHeld {
		return
	}
	o.toldHeld = held.Digest
	if held.Digest == "" {
		o.m.log.Info("no removals are held any more")
		return
	}
	fields := []zap.Field{
		zap.Int("held", o.record.Held), zap.Int("resources", o.record.Resources), zap.Time("since", held.Since),
		zap.Strings("first", firstFew(held.IDs)),
	}
	if o.sync.Held().Unclear {
		o.m.log.Warn("the source has items whose id cannot be read, so that nothing is removed that it lacks before they are gone, or "+
			"somebody accepts it (drmctl source accept)", fields...)
		return
	}
	if held.Until.IsZero() {
		o.m.log.Warn("the source lacks so much of what it had that nothing is removed before somebody accepts it "+
			"(drmctl source accept)", fields...)
		return
	}
	o.m.log.Warn("the source lacks so much of what it had that nothing is removed before another answer confirms it "+
		"(or drmctl source accept)", append(fields, zap.Time("confirmed by an answer after", held.Until))...)
}
