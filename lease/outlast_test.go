package lease_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/lease"
)

func outlasting(o *lease.Options) { o.Outlast = true }

func TestOutlastingKeeperSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		etcd := &lessor{keepAlive: func(ctx context.Context, n int) (int64, error) {
			if down.Load() {
				return hang(ctx, n)
			}
			return 10, nil
		}}
		k, l := bubble(t, etcd, outlasting)
		pass(time.Minute)
		if k.Fenced() || k.Context().Err() != nil || l.String() != "" {
			t.Errorf("in an outage: fenced %v, context %v, %q", k.Fenced(), k.Context().Err(), l)
		}
		if left := k.Remaining(); left > 0 {
			t.Errorf("in an outage %v remain, but who knows", left)
		}
		// One attempt each TTL/15 from 2 s on: the keeper goes on asking, and no more often than that.
		if n := len(etcd.keepAlives()); n < 60 || n > 100 {
			t.Errorf("%d attempts in a minute", n)
		}
		down.Store(false)
		pass(4 * time.Second)
		if left := k.Remaining(); left < 5*time.Second {
			t.Errorf("%v remain after etcd came back", left)
		}
	})
}

func TestOutlastingKeeperEndsWhenItsLeaseIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{keepAlive: func(ctx context.Context, n int) (int64, error) {
			if n < 40 {
				return hang(ctx, n)
			}
			return 0, rpctypes.ErrLeaseNotFound
		}}
		k, l := bubble(t, etcd, outlasting)
		pass(time.Minute)
		if !k.Fenced() || k.Remaining() > 0 || l.dead < 20*time.Second {
			t.Errorf("fenced %v, %v remain, %q", k.Fenced(), k.Remaining(), l)
		}
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrGone)
	})
}

func TestOutlastingKeeperEndsOnceItIsNotToOutlast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, l := bubble(t, &lessor{keepAlive: hang}, outlasting)
		pass(time.Minute)
		k.NoLonger()
		pass(time.Second)
		if got, want := l.String(), "fence at 1m0s, dead at 1m0s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrExpired)
	})
}

func TestOutlastingKeeperEndsWhenItIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, l := bubble(t, &lessor{keepAlive: hang}, outlasting)
		pass(time.Minute)
		k.Fence(lease.ErrFenced)
		pass(time.Second)
		if got, want := l.String(), "fence at 1m0s, dead at 1m0s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
