package member

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// puts remembers what was written last.
type puts struct {
	clientv3.KV
	n    map[string]int
	last map[string]string
}

func (p *puts) Put(_ context.Context, key, value string, _ ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	p.n[key]++
	p.last[key] = value
	return &clientv3.PutResponse{}, nil
}

// A group that changes all the time must not make a thousand members write each time.
func TestANewViewAloneIsWrittenAMinuteLate(t *testing.T) {
	kv := &puts{n: map[string]int{}, last: map[string]string{}}
	var now time.Duration
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	says := counted{Figures: claims.Figures{View: 7, ViewAt: started}}
	f := (&figures{
		now: func() time.Duration { return now }, wall: func() time.Time { return started.Add(now) },
		count: func() (counted, bool) { return says, true },
		kv:    kv, key: "stats", loads: "loads", timeout: time.Second, log: zap.NewNop(), interval: 10 * time.Second,
	}).prepare()
	defer f.close()
	written := func(want int, view int64) claims.Figures {
		t.Helper()
		got, err := claims.DecodeFigures([]byte(kv.last["stats"]))
		if err != nil || kv.n["stats"] != want || got.View != view {
			t.Errorf("at %v: %d writes, the last %+v (%v), want %d, and the view %d",
				now, kv.n["stats"], got, err, want, view)
		}
		return got
	}
	reg := &membership.Registration{}
	f.tick(t.Context(), reg)
	written(1, 7)

	says.View = 8
	for range 5 {
		now += 10 * time.Second
		f.tick(t.Context(), reg)
		f.look(t.Context(), reg)
		written(1, 7)
	}
	if !f.ticking || f.tickAt != figuresView {
		t.Errorf("the next look is set %v, at %v, want at %v", f.ticking, f.tickAt, figuresView)
	}
	now = figuresView
	f.tick(t.Context(), reg)
	written(2, 8)
	if f.ticking {
		t.Error("a member at rest wakes up though there is nothing to write")
	}
	if kv.n["loads"] != 1 {
		t.Errorf("the loads were written %d times because of the view", kv.n["loads"])
	}

	// Whatever else is new is written at once, with the view.
	now += time.Second
	says.View, says.Stuck = 9, 1
	f.tick(t.Context(), reg)
	stuck := written(3, 9).StuckSince
	now += time.Minute
	says.Stuck = 2
	f.tick(t.Context(), reg)
	if got := written(4, 9); !stuck.Equal(started.Add(61*time.Second)) || !got.StuckSince.Equal(stuck) ||
		!got.BudgetSince.IsZero() {
		t.Errorf("stuck since %v, and later %+v", stuck, got)
	}
	says.Stuck = 0
	f.tick(t.Context(), reg)
	if got := written(5, 9); !got.StuckSince.IsZero() {
		t.Errorf("%+v, though nothing is stuck", got)
	}
}
