package picture

import (
	"context"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// betweenLooks is the pause between two looks of Settled.
const betweenLooks = 500 * time.Millisecond

// Passing says whether a violation of the kind may be seen in a healthy app, for a moment.
func (k Kind) Passing() bool {
	switch k {
	case KindUnassigned, KindMisplaced, KindOrphan, KindUnknownMember, KindStale, KindSlotStray:
		return true
	default:
		return false
	}
}

// Settled looks again and again for as long as it finds what may pass by itself, for the given time at most. Of the
// kinds that pass it returns what was there at every look, of the others what the last look found. Where there is no
// member it looks once: nobody is there who could mend anything. Where ctx ends between two looks, it returns the
// context's cause.
func Settled(
	ctx context.Context, within time.Duration, look func(context.Context) ([]Violation, error),
) ([]Violation, error) {
	deadline := time.Now().Add(within)
	found, err := look(ctx)
	for err == nil && mayPass(found) {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		if !pace.Wait(ctx, min(betweenLooks, left)) {
			return nil, context.Cause(ctx)
		}
		var now []Violation
		if now, err = look(ctx); err == nil {
			found = stayed(found, now)
		}
	}
	return found, err
}

// mayPass says whether something of what was found may pass by itself.
func mayPass(found []Violation) bool {
	return slices.ContainsFunc(found, func(v Violation) bool { return v.Kind.Passing() }) &&
		!slices.ContainsFunc(found, func(v Violation) bool { return v.Kind == KindNoMembers })
}

// stayed returns those violations of a later look that an earlier look found too, or that do not pass. Two claims with
// different tokens are not the same.
func stayed(before, now []Violation) []Violation {
	type about struct {
		kind             Kind
		resource, member string
		token            int64
	}
	of := func(v Violation) about {
		if v.Kind == KindUnassigned { // whoever the resource belongs to by now
			return about{kind: v.Kind, resource: v.Resource}
		}
		return about{v.Kind, v.Resource, v.Member, v.Token}
	}
	had := map[about]bool{}
	for _, v := range before {
		had[of(v)] = true
	}
	return slices.DeleteFunc(now, func(v Violation) bool { return v.Kind.Passing() && !had[of(v)] })
}
