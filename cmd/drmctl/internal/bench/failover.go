package bench

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
)

// failover measures how fast others take over what a member had that dies without a word. The figures are about the
// time after its lease has expired.
func failover(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	f, err := l.kill(ctx, 4, l.size(40_000))
	return f, err == nil && f["of_raw"] <= 3 && f["others_fenced"] == 0, err
}

// kill lets a group share n resources, and then cuts off one member. None of the others may pass a local deadline
// because of it.
func (l *lab) kill(ctx context.Context, members, n int) (figures map[string]float64, err error) {
	if err := l.fill(ctx, n); err != nil {
		return nil, err
	}
	l.handler = newCounter(n)
	var fenced fences
	began := time.Now()
	if err := l.group(ctx, members, func(c *drm.Config) { c.Logger = fenced.logger(c.ID) }); err != nil {
		return nil, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, err
	}
	start := time.Since(began)
	l.say("%d members share %d resources after %v", members, n, start.Round(time.Millisecond))
	if err := l.age(ctx); err != nil {
		return nil, err
	}
	victim := l.all()[0]
	lost := len(victim.Held())
	var cut, first, last time.Time
	raw, err := l.rawAround(ctx, lost, claimBytes, 1, func() (err error) {
		deletions := l.deletions(ctx, lost)
		full := l.handler.expect(lost)
		victim.wire.cut()
		cut = time.Now()
		l.say("one of them, with %d, is dead", lost)
		if err := await(ctx, "all are handled again", full); err != nil {
			return err
		}
		if first, last, err = deletions(); err != nil {
			return err
		}
		return l.settled(ctx, members-1, n) // else the members' writes would slow down the second baseline
	})
	if err != nil {
		return nil, err
	}
	took := l.handler.reached().Sub(first)
	reading := last.Sub(first)
	return map[string]float64{
		"members": float64(members), "resources": float64(n), "lost": float64(lost), "start_seconds": start.Seconds(),
		"raw_seconds": (raw + reading).Seconds(), "events_seconds": reading.Seconds(),
		"expiry_seconds": first.Sub(cut).Seconds(), "takeover_seconds": took.Seconds(),
		"of_raw": took.Seconds() / (raw + reading).Seconds(), "others_fenced": float64(fenced.but(victim.ID())),
	}, nil
}

// fences counts the leases that members had to give up, according to their logs.
type fences struct {
	mu sync.Mutex
	of map[string]int
}

func (f *fences) logger(member string) *zap.Logger {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.WarnLevel)
	return zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if strings.HasPrefix(e.Message, "lease fenced") {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.of == nil {
				f.of = map[string]int{}
			}
			f.of[member]++
		}
		return nil
	}))
}

// but counts the leases of all members but victim.
func (f *fences) but(victim string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for member, leases := range f.of {
		if member != victim {
			n += leases
		}
	}
	return n
}
