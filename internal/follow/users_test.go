package follow_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/login"
)

// The token that a stream was opened with has expired: new prefixes need another stream, and the prefixes that were
// followed before go on. This holds for DRM's own login and for the login of a client that a caller brings.
func TestNewPrefixesAreFollowedAfterATokenHasExpired(t *testing.T) {
	for name, connect := range map[string]func(endpoint string) (*clientv3.Client, func(), error){
		"our login": func(endpoint string) (*clientv3.Client, func(), error) {
			l := login.New(embeddedtest.User, embeddedtest.Password)
			c, err := clientv3.New(clientv3.Config{
				Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialOptions: l.DialOptions(),
			})
			return c, l.Close, err
		},
		"the client's": func(endpoint string) (*clientv3.Client, func(), error) {
			c, err := clientv3.New(clientv3.Config{
				Endpoints: []string{endpoint}, Logger: zap.NewNop(),
				Username: embeddedtest.User, Password: embeddedtest.Password,
				DialTimeout: time.Minute,
			})
			return c, func() {}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls := new(embeddedtest.Calls)
			cfg := embeddedtest.UsersConfig()
			cfg.OnCall = calls.Count
			server, restart := embeddedtest.Start(t, cfg)
			root := embeddedtest.TurnUsersOn(t, server.Endpoint())
			c, end, err := connect(server.Endpoint())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { end(); _ = c.Close() })
			var refused atomic.Int64
			h := newHub(t, c, follow.Options{OnError: func(_ string, err error) {
				if login.IsStale(err) {
					refused.Add(1)
				}
			}})
			var mirrors []*mirror
			check := func(value string) {
				t.Helper()
				for range 30 {
					m := newMirror(newPrefix())
					mirrors = append(mirrors, m)
					start(t, h, m.prefix, m)
				}
				for _, m := range mirrors {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if _, err := root.Put(ctx, m.prefix+"x", value); err != nil {
						t.Fatal(err)
					}
					cancel()
				}
				for _, m := range mirrors {
					m.has(t, m.prefix+"x", value)
				}
			}
			check("before")
			before := calls.Of(pb.KV_Range_FullMethodName)
			embeddedtest.SetPassword(t, root, embeddedtest.Password) // this ends the token
			check("after the password was set")
			if _, err := root.UserAdd(t.Context(), "somebody", "else"); err != nil {
				t.Fatal(err)
			}
			check("after a user was added")
			if n := calls.Of(pb.KV_Range_FullMethodName) - before; n > 200 {
				t.Errorf("60 prefixes cost %d lists, and as many pauses", n)
			}
			restart()
			check("after a restart")
			t.Logf("%d tokens, %d failures told", calls.Logins(), refused.Load())
		})
	}
}

// A user that must not read a prefix asks for it at growing intervals.
func TestWhatMustNotBeFollowedIsAskedForAtGrowingIntervals(t *testing.T) {
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	var lists atomic.Int64
	l := login.New(embeddedtest.User, embeddedtest.Password)
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop(),
		DialOptions: append(l.DialOptions(), grpc.WithChainUnaryInterceptor(
			func(
				ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
				invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
			) error {
				if method == pb.KV_Range_FullMethodName {
					lists.Add(1)
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			},
		)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); _ = c.Close() })
	var failed atomic.Int64
	failures := make(chan struct{}, 100)
	h := newHub(t, c, follow.Options{OnError: func(string, error) {
		failed.Add(1)
		failures <- struct{}{}
	}})
	const tries = 6
	m := newMirror("elsewhere/")
	start(t, h, m.prefix, m)
	began := time.Now()
	for range tries {
		select {
		case <-failures:
		case <-time.After(time.Minute):
			t.Fatal("it has stopped trying")
		}
	}
	// The pauses are 50, 100, 200, 400 and 800 ms, less up to half.
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("%d tries within %v", tries, took)
	}
	if n := lists.Load(); n > failed.Load()+1 {
		t.Errorf("%d lists, and %d failures told", n, failed.Load())
	}
	_, err = root.RoleGrantPermission(t.Context(), embeddedtest.User, "elsewhere/", "elsewhere0",
		clientv3.PermissionType(clientv3.PermReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Put(t.Context(), "elsewhere/x", "now"); err != nil {
		t.Fatal(err)
	}
	m.has(t, "elsewhere/x", "now")
}

// A fresh list is due so soon that over a slow connection neither a list nor a watch would finish before. The time
// counts from the last list, and what is in progress is not interrupted.
func TestAShortResyncOnASlowWayKeepsNobodyFromItsList(t *testing.T) {
	target := server.Endpoint()
	p := delayed(t, target)
	c := dial(t, p.Endpoint())
	if _, err := c.Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	const prefixes, roundTrip, resync = 200, 200 * time.Millisecond, 150 * time.Millisecond
	p.Delay(roundTrip / 2)
	h := newHub(t, c, follow.Options{Resync: resync, ListTimeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	t.Cleanup(func() { p.Delay(0); cancel(); following.Wait() })
	base := newPrefix()
	var mirrors []*mirror
	for i := range prefixes {
		m := newMirror(fmt.Sprintf("%s%d/", base, i))
		mirrors = append(mirrors, m)
		following.Go(func() { h.Follow(ctx, m.prefix, m) })
	}
	for _, m := range mirrors {
		m.until(t, "a list of "+m.prefix, func() bool { return m.resets >= 1 })
		put(t, m.prefix+"news", "so that another list is due")
	}
	for _, m := range mirrors {
		m.until(t, "two lists of "+m.prefix, func() bool { return m.resets >= 2 })
	}
}
