package warnings

import (
	"context"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// betweenLooks is the pause between two looks of Settled.
const betweenLooks = 500 * time.Millisecond

// Seen is what makes two warnings the same.
type Seen struct {
	Code    string
	About   []string
	Passing bool
}

// same says whether two warnings are about the same: one of those that they name, or everything.
func (s Seen) same(other Seen) bool {
	if s.Code != other.Code {
		return false
	}
	if len(s.About) == 0 || len(other.About) == 0 {
		return len(s.About) == len(other.About)
	}
	return slices.ContainsFunc(s.About, func(a string) bool { return slices.Contains(other.About, a) })
}

// Settled looks again and again for as long as it finds a warning that may pass by itself, for the given time at most.
// It returns the last look, of which it keeps those passing warnings that each look had. warnings returns where a look
// has its warnings, and seen what matters of one.
func Settled[L, W any](
	ctx context.Context, within time.Duration, look func(context.Context) (L, error), warnings func(*L) *[]W,
	seen func(W) Seen,
) (L, error) {
	deadline := time.Now().Add(within)
	var before []Seen
	for first := true; ; first = false {
		began := time.Now()
		now, err := look(ctx)
		if err != nil {
			return now, err
		}
		all := warnings(&now)
		if !first {
			*all = slices.DeleteFunc(*all, func(w W) bool {
				is := seen(w)
				return is.Passing && !slices.ContainsFunc(before, is.same)
			})
		}
		before = nil
		passing := false
		for _, w := range *all {
			before = append(before, seen(w))
			passing = passing || seen(w).Passing
		}
		left := time.Until(deadline)
		if !passing || left <= 0 {
			return now, nil
		}
		if !pace.Wait(ctx, min(max(betweenLooks, time.Since(began)), left)) {
			return now, context.Cause(ctx)
		}
	}
}
