package membership_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/membership"
)

func TestOpenCreatesAnAppOnceAndFindNever(t *testing.T) {
	ctx, app := t.Context(), fmt.Sprint("created once ", apps.Add(1))
	if _, err := membership.Find(ctx, client, "/drm", app); !errors.Is(err, membership.ErrNoApp) {
		t.Errorf("find: got %v, want ErrNoApp", err)
	}
	opened, err := membership.Open(ctx, client, "/drm/", app, 16)
	if err != nil {
		t.Fatal(err)
	}
	root := "/drm/" + strings.ReplaceAll(app, " ", "%20") + "/"
	if opened.Root != root || opened.Shards != 16 || opened.Config == 0 {
		t.Errorf("got %+v", opened)
	}
	if again, err := membership.Open(ctx, client, "/drm", app, 16); err != nil || again != opened {
		t.Errorf("open again: %+v, %v", again, err)
	}
	if found, err := membership.Find(ctx, client, "/drm", app); err != nil || found != opened {
		t.Errorf("find: %+v, %v", found, err)
	}
	if _, err := membership.Open(ctx, client, "/drm", app, 32); !errors.Is(err, membership.ErrShards) {
		t.Errorf("open with another number of shards: got %v, want ErrShards", err)
	}
}

func TestWhatNoAppAndNoMemberCanBeIsRefused(t *testing.T) {
	g := newGroup(t)
	open := func(app string, shards int) func() error {
		return func() error {
			_, err := membership.Open(t.Context(), client, "/drm", app, shards)
			return err
		}
	}
	for name, try := range map[string]func() error{
		"an app without a name":   open("", 16),
		"a name of several lines": open("a\nb", 16),
		"no shards":               open("none", 0),
		"too many shards":         open("many", 4097),
		"a pause below zero": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := g.members.Follow(ctx, client, membership.FollowOptions{Progress: -1}, func(*membership.View) {})
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		},
		"a member without an id": func() error {
			_, err := g.registrar("").Register(t.Context(), active(1), g.grant(600))
			return err
		},
	} {
		if err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if v := g.view(); len(v.Corrupt) > 0 {
		t.Errorf("keys were written that nobody can read: %q", v.Corrupt)
	}
}

// TestFollowEndsWhenEtcdIsAnother has a client whose connections lead to one etcd, then, until that was told, nowhere,
// and then to another etcd.
func TestFollowEndsWhenEtcdIsAnother(t *testing.T) {
	one, other := embeddedtest.Server(t), embeddedtest.Server(t)
	var target atomic.Value
	target.Store(one.Endpoint())
	var failures atomic.Int64
	moving, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			to := target.Load().(string)
			if to == other.Endpoint() && failures.Load() == 0 {
				return nil, errors.New("etcd is away")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = moving.Close() })
	group, err := membership.Open(t.Context(), moving, "/drm", "app", shards)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts := membership.FollowOptions{Progress: 100 * time.Millisecond, OnError: func(error) { failures.Add(1) }}
	err = group.Follow(ctx, moving, opts, func(*membership.View) {
		if target.CompareAndSwap(one.Endpoint(), other.Endpoint()) {
			if err := one.Close(); err != nil { // this ends the connections
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, membership.ErrRewound) {
		t.Errorf("follow ended with %v, want ErrRewound", err)
	}
	if failures.Load() == 0 {
		t.Error("no failure was told, though the connection was lost")
	}
}
