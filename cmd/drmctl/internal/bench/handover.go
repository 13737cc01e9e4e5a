package bench

import (
	"context"
	"errors"
	"slices"
	"time"
)

// handover measures for how long nobody has a resource that moves to a member that joins. Terminate and Handle take no
// time.
func handover(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	const members = 4
	n := l.size(40_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	l.handler = newCounter(n)
	if err := l.group(ctx, members, nil); err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, false, err
	}
	l.handler.takeGaps()
	began := time.Now()
	if _, err := l.start(ctx, "newcomer", nil); err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, members+1, n); err != nil {
		return nil, false, err
	}
	gaps := l.handler.takeGaps()
	slices.Sort(gaps)
	moved, took := len(gaps), time.Since(began)
	if moved == 0 {
		return nil, false, errors.New("the newcomer got nothing: too few resources")
	}
	var raw time.Duration
	const times = 3 // so few keys take so little time that one measurement differs from another
	for range times {
		put, deleted, err := l.raw(ctx, moved, claimBytes)
		if err != nil {
			return nil, false, err
		}
		raw += (put + deleted) / times
	}
	f := map[string]float64{
		"resources": float64(n), "moved": float64(moved), "seconds": took.Seconds(),
		"raw_ms":     ms(raw),
		"gap_p50_ms": ms(gaps[moved/2]), "gap_p99_ms": ms(gaps[moved*99/100]), "gap_max_ms": ms(gaps[moved-1]),
	}
	f["gap_p99_of_raw"] = f["gap_p99_ms"] / f["raw_ms"]
	return f, f["gap_p99_of_raw"] <= 1, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
