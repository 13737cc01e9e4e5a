package source

import (
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/record"
)

// loggedIDs is how many ids one log line names.
const loggedIDs = 10

func firstFew(ids []string) []string { return ids[:min(len(ids), loggedIDs)] }

// inherit takes over how long the previous coordinator has held its removals, so that coordinators that change again
// and again do not put off a removal for ever. The two clocks may differ: a time in the future counts as now.
func (t *Term) inherit() {
	held := t.record.HeldRemovals
	if t.record.Held == 0 || held.Digest == "" || held.Joined.IsZero() {
		return
	}
	now := t.o.Wall()
	t.sync.Inherit(held.Digest, max(now.Sub(held.Since), 0), max(now.Sub(held.Joined), 0))
}

// recordHeld writes the held removals into t.record.
func (t *Term) recordHeld() {
	held := t.sync.Held()
	t.record.Held, t.record.HeldRemovals = held.Count, record.HeldRemovals{}
	if held.Count == 0 {
		return
	}
	now, wall := t.o.Now(), t.o.Wall().UTC()
	at := func(moment time.Duration) time.Time { return wall.Add(moment - now) }
	t.record.HeldRemovals = record.HeldRemovals{
		Digest: held.Digest, IDs: held.First, Since: at(held.Since), Joined: at(held.Joined),
	}
	if rules := t.o.Removals; !rules.Hold && !held.Unclear {
		t.record.HeldRemovals.Until = at(held.Joined + rules.Delay)
	}
}

// tellHeld logs the held removals, unless they are those that were logged last.
func (t *Term) tellHeld() {
	held := t.record.HeldRemovals
	if held.Digest == t.toldHeld {
		return
	}
	t.toldHeld = held.Digest
	if held.Digest == "" {
		t.o.Log.Info("no removals are held any more")
		return
	}
	fields := []zap.Field{
		zap.Int("held", t.record.Held), zap.Int("resources", t.record.Resources), zap.Time("since", held.Since),
		zap.Strings("first", firstFew(held.IDs)),
	}
	switch {
	case t.sync.Held().Unclear:
		t.o.Log.Warn("the source has items whose id cannot be read; nothing is removed until they are gone, "+
			"or an operator accepts the removals (drmctl source accept)", fields...)
	case held.Until.IsZero():
		t.o.Log.Warn("the source lacks much of what it had; nothing is removed until an operator accepts it "+
			"(drmctl source accept)", fields...)
	default:
		fields = append(fields, zap.Time("confirmed_after", held.Until))
		t.o.Log.Warn("the source lacks much of what it had; nothing is removed until another answer confirms it, "+
			"or an operator accepts it (drmctl source accept)", fields...)
	}
}
