package member

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/lease"
)

// livesKey is an etcd that has the key of a member's lives. A request that hangs ends with its context.
type livesKey struct {
	clientv3.KV
	lease.Lessor
	value   string
	read    error
	write   error
	hangs   bool
	ttl     int64
	revoked bool
}

func (l *livesKey) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if l.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	resp := &pb.RangeResponse{}
	if l.value != "" {
		resp.Kvs = []*mvccpb.KeyValue{{Value: []byte(l.value)}}
	}
	return (*clientv3.GetResponse)(resp), l.read
}

func (l *livesKey) Put(_ context.Context, _, value string, _ ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	if l.write == nil {
		l.value = value
	}
	return nil, l.write
}

func (l *livesKey) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	l.ttl = ttl
	return &clientv3.LeaseGrantResponse{ID: 7, TTL: ttl}, nil
}

func (l *livesKey) Revoke(_ context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	l.revoked = id == 7
	return nil, nil
}

// flappingOn makes the part of a member that starts now.
func flappingOn(etcd *livesKey) *flapping {
	began := time.Now()
	return &flapping{
		kv: etcd, lessor: etcd, timeout: longestLook, first: ready.FirstWait,
		now: func() time.Duration { return time.Since(began) }, wall: time.Now, log: zap.NewNop(),
		looked: make(chan struct{}), back: time.NewTimer(time.Hour),
	}
}

// starts runs the part until the start may go on.
func (f *flapping) starts(t *testing.T) {
	t.Helper()
	go f.look(t.Context())
	if err := f.await(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestTheWaitAfterShortLivesEndsWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &livesKey{value: claims.Lives{Starts: 3, Since: time.Now().Add(-100 * time.Second)}.Encode()}
		f := flappingOn(etcd)
		f.starts(t)
		if want := "3 short lives in 1m40s; takes its share again at "; !strings.HasPrefix(f.reason, want) {
			t.Errorf("the reason is %q, want %q", f.reason, want)
		}
		if l, err := claims.DecodeLives([]byte(etcd.value)); err != nil || l.Starts != 4 ||
			time.Since(l.Since) != 100*time.Second {
			t.Errorf("it has written %q, %v", etcd.value, err)
		}
		// A life counts as a short one for as long after the wait as after a start without one.
		if want := int64((30*time.Second + ready.Quiet) / time.Second); etcd.ttl != want {
			t.Errorf("the key lives for %d s, want %d", etcd.ttl, want)
		}
		if f.isBack() {
			t.Error("the wait is over at once")
		}
		<-f.back.C
		if took := f.now(); took != 30*time.Second {
			t.Errorf("the timer fires after %v", took)
		}
		if !f.isBack() || f.reason != "" || f.isBack() {
			t.Errorf("the wait is not over, or again and again: %q", f.reason)
		}
		if f.forget(t.Context()); !etcd.revoked {
			t.Error("a stop in order is not noted")
		}
	})
}

func TestNothingAboutEarlierLivesPreventsAStart(t *testing.T) {
	for name, etcd := range map[string]*livesKey{
		"it hangs":       {hangs: true},
		"it refuses":     {read: errors.New("no")},
		"it is garbage":  {value: "{"},
		"nothing before": {},
		"one before":     {value: claims.Lives{Starts: 1}.Encode()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := flappingOn(etcd)
				f.starts(t)
				if took := f.now(); took > longestLook {
					t.Errorf("the start waits for %v", took)
				}
				if f.reason != "" || f.isBack() {
					t.Errorf("it stays away: %q", f.reason)
				}
				f.forget(t.Context())
			})
		})
	}
}

func TestAWaitHoldsThoughTheKeyCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flappingOn(&livesKey{value: claims.Lives{Starts: 2}.Encode(), write: errors.New("no space")})
		f.starts(t)
		if f.reason == "" {
			t.Error("it does not stay away")
		}
	})
}

func TestAStartThatEndsDoesNotWaitForEarlierLives(t *testing.T) {
	f := flappingOn(&livesKey{})
	done := make(chan struct{})
	close(done)
	if err := f.await(t.Context(), done); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.await(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	f.forget(t.Context()) // nothing is known yet
}
