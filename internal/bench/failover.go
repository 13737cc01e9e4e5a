package bench

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
)

// failover: a member dies without a word; what counts is what comes after its lease has expired.
func failover(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	f, _, err := l.kill(ctx, 4, l.size(40_000))
	return f, err == nil && f["of_raw"] <= 3, err
}

// kill has a group share n resources, and then one of them die.
func (l *lab) kill(ctx context.Context, members, n int) (figures map[string]float64, fenced func() int, err error) {
	if err := l.fill(ctx, n, 100); err != nil {
		return nil, nil, err
	}
	l.handler = newCounter(n)
	log, fenced := countFenced()
	began := time.Now()
	if err := l.group(ctx, members, func(c *drm.Config) { c.Logger = log }); err != nil {
		return nil, nil, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, nil, err
	}
	start := time.Since(began)
	l.say("%d members share %d resources after %v", members, n, start.Round(time.Millisecond))
	victim := l.all()[0]
	lost := len(victim.Held())
	raw, err := l.raw(ctx, lost, claimBytes)
	if err != nil {
		return nil, nil, err
	}

	deletions := l.deletions(ctx, lost)
	full := l.handler.expect(lost)
	victim.wire.cut()
	cut := time.Now()
	l.say("one of them, with %d, is dead", lost)
	if err := await(ctx, "all are handled again", full); err != nil {
		return nil, nil, err
	}
	first, last, err := deletions()
	if err != nil {
		return nil, nil, err
	}
	took := l.handler.reached().Sub(first)
	reading := last.Sub(first)
	return map[string]float64{
		"members": float64(members), "resources": float64(n), "lost": float64(lost), "start_seconds": start.Seconds(),
		"raw_seconds": (raw + reading).Seconds(), "events_seconds": reading.Seconds(),
		"expiry_seconds": first.Sub(cut).Seconds(), "takeover_seconds": took.Seconds(),
		"of_raw": took.Seconds() / (raw + reading).Seconds(),
	}, fenced, nil
}

// countFenced is a logger that counts the leases whose members had to let go of everything.
func countFenced() (log *zap.Logger, count func() int) {
	var n counted
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(nothing{}), zap.WarnLevel)
	return zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if strings.HasPrefix(e.Message, "lease fenced") {
			n.Add(1)
		}
		return nil
	})), func() int { return int(n.Load()) }
}
