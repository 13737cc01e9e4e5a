package member

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/ready"
)

// failing notices when nearly everything fails on this member, and not on the others. It looks at the figures that the
// member counts anyway, and reads those of the others only when the member has been failing for a while. The goroutine
// of the place owns it.
type failing struct {
	doubt   *ready.Doubt // nil: nothing is compared
	now     func() time.Duration
	kv      clientv3.KV
	layout  keys.Layout
	id      string        // of this member
	timeout time.Duration // of the request
	log     *zap.Logger

	reason string
	back   *time.Timer // fires when the place must look again, because an absence is over
}

// newFailing makes a failing. pause is how often members write figures, so to ask more often would tell nothing new.
func (b *builder) newFailing(pause time.Duration) *failing {
	f := &failing{
		now: b.loop.clock.Now, kv: b.hub.KV(), layout: b.cfg.Layout, id: b.place.id, timeout: b.cfg.Request, log: b.log,
		back: pace.Stopped(),
	}
	if b.cfg.FailedShare > 0 {
		after := time.Duration(b.cfg.UnreadyAfter) * b.cfg.ReadyInterval
		f.doubt = ready.NewDoubt(b.cfg.FailedShare, after, pause)
	}
	return f
}

// look takes the member's figures into account. It returns true if the member must become unready.
func (f *failing) look(ctx context.Context, own claims.Figures) bool {
	if f.doubt == nil || !f.doubt.Note(f.now(), tally(own)) {
		return false
	}
	others, err := f.others(ctx)
	if err != nil {
		f.log.Debug("cannot read the figures of the other members", zap.Error(err))
		return false
	}
	away, fails := f.doubt.Judge(f.now(), others)
	if !fails {
		return false
	}
	f.reason = fmt.Sprintf("%d of its %d resources fail, and %d of the others' %d",
		own.Failed, tally(own).Of(), others.Failed, others.Of())
	f.log.Warn(
		"nearly everything fails on this member and not on the others, so they take over what it has for a while",
		zap.Int("failed", own.Failed),
		zap.Int("active", own.Active),
		zap.Int("others_failed", others.Failed),
		zap.Int("others_active", others.Active),
		zap.Duration("until_next_try", away),
	)
	f.back.Reset(away)
	return true
}

// others adds up the figures of all other members.
func (f *failing) others(ctx context.Context) (all ready.Tally, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	resp, err := f.kv.Get(ctx, f.layout.Figures(), clientv3.WithPrefix())
	if err != nil {
		return all, err
	}
	for _, kv := range resp.Kvs {
		key := f.layout.Parse(string(kv.Key))
		figures, err := claims.DecodeFigures(kv.Value)
		if key.Kind == keys.Stats && key.ID != f.id && err == nil {
			one := tally(figures)
			all.Active, all.Failed = all.Active+one.Active, all.Failed+one.Failed
		}
	}
	return all, nil
}

func tally(f claims.Figures) ready.Tally { return ready.Tally{Active: f.Active, Failed: f.Failed} }

// isBack ends an absence that is over. It returns false if it is not over yet.
func (f *failing) isBack() bool {
	if f.doubt == nil || f.reason == "" {
		return false
	}
	if left := f.doubt.Left(f.now()); left > 0 { // the timer is early, since it does not count the time of a sleep
		f.back.Reset(left)
		return false
	}
	f.reason = ""
	f.log.Info("trying again: this member takes its share again")
	return true
}
