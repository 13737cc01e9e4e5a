package login_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/lease"
)

const patience = time.Minute

// connect makes a client that a Login authenticates.
func connect(t *testing.T, endpoint, password string) *clientv3.Client {
	t.Helper()
	l := login.New(embeddedtest.User, password)
	c, err := clientv3.New(
		clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialOptions: l.DialOptions()},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		_ = c.Close()
	})
	return c
}

func get(t *testing.T, c *clientv3.Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.Get(ctx, "/x")
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestATokenIsAskedForOnceInItsLife(t *testing.T) {
	calls := new(embeddedtest.Calls)
	cfg := embeddedtest.UsersConfig()
	cfg.OnCall = calls.Count
	server, restart := embeddedtest.Start(t, cfg)
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	before := calls.Logins()
	c := connect(t, server.Endpoint(), embeddedtest.Password)
	renewer := lease.NewRenewer(c)
	t.Cleanup(renewer.Close)
	granted, err := renewer.Grant(t.Context(), 600)
	must(t, err)
	_, err = c.Put(t.Context(), "/x", "", clientv3.WithLease(granted.ID))
	must(t, err)
	use := func() { // uses requests, watches and a stream of keepalives
		t.Helper()
		var using sync.WaitGroup
		for range 20 {
			using.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if _, err := c.Get(ctx, "/x"); err != nil {
					t.Error(err)
				}
				if _, err := renewer.KeepAliveOnce(ctx, granted.ID); err != nil {
					t.Error(err)
				}
				if resp := <-clientv3.NewWatcher(c).
					Watch(ctx, "/x", clientv3.WithCreatedNotify()); resp.Err() != nil ||
					!resp.Created {
					t.Error(resp.Err())
				}
			})
		}
		using.Wait()
	}
	for range 3 {
		use()
	}
	if n := calls.Logins() - before; n != 1 {
		t.Errorf("%d tokens were asked for, want 1", n)
	}
	before = calls.Logins()
	embeddedtest.SetPassword(t, root, embeddedtest.Password) // this ends the token
	for range 3 {
		use()
	}
	if n := calls.Logins() - before; n != 1 {
		t.Errorf("%d tokens were asked for after the first was no good any more, want 1", n)
	}
	before = calls.Logins()
	restart() // etcd keeps its tokens in memory
	must(t, get(t, c))
	use()
	if n := calls.Logins() - before; n != 1 {
		t.Errorf("%d tokens were asked for after a restart of etcd, want 1", n)
	}
}

func TestAPasswordThatIsWrongIsToldAndRecoveredFrom(t *testing.T) {
	calls := new(embeddedtest.Calls)
	cfg := embeddedtest.UsersConfig()
	cfg.OnCall = calls.Count
	server, _ := embeddedtest.Start(t, cfg)
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	c := connect(t, server.Endpoint(), embeddedtest.Password)
	must(t, get(t, c))
	embeddedtest.SetPassword(t, root, "another one")
	before, began := calls.Logins(), time.Now()
	const requests = 200
	for range requests {
		err := get(t, c)
		var refused *login.RefusedError
		if !errors.As(err, &refused) || !errors.Is(err, rpctypes.ErrAuthFailed) || !login.IsRefused(err) {
			t.Fatalf("got %v, want a RefusedError", err)
		}
		if text := err.Error(); !strings.Contains(text, `authentication failed: etcd refuses the user "drm"`) ||
			strings.Contains(text, embeddedtest.Password) {
			t.Fatalf("the error says %q", text)
		}
		for _, resp := range []clientv3.WatchResponse{<-c.Watch(t.Context(), "/x")} {
			if !login.IsRefused(resp.Err()) {
				t.Fatalf("a watch: %v", resp.Err())
			}
		}
	}
	// The requests come at 0, 0.1, 0.3, 0.7, 1.5, 3.1 and 6.3 s, or up to a quarter sooner, and then at most every 5 s.
	if n, most := calls.Logins()-before, 8+int(time.Since(began)/(3*time.Second)); n > most {
		t.Errorf("%d tokens were asked for in %v, want at most %d", n, time.Since(began), most)
	}
	embeddedtest.SetPassword(t, root, embeddedtest.Password)
	deadline := time.After(patience)
	for get(t, c) != nil {
		select {
		case <-deadline:
			t.Fatal("the right password is not taken")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// An etcd before 3.5 gives no token to a client that sends an old one along.
func TestTheOldTokenIsNotSentAlong(t *testing.T) {
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	root := embeddedtest.TurnUsersOn(t, server.Endpoint())
	l := login.New(embeddedtest.User, embeddedtest.Password)
	var asked, along atomic.Int64
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop(),
		DialOptions: append(l.DialOptions(), grpc.WithChainUnaryInterceptor(
			func(
				ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
				invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
			) error {
				if method == pb.Auth_Authenticate_FullMethodName {
					asked.Add(1)
					if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(rpctypes.TokenFieldNameGRPC)) > 0 {
						along.Add(1)
					}
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			},
		)),
	})
	must(t, err)
	t.Cleanup(func() { l.Close(); _ = c.Close() })
	for range 3 {
		must(t, get(t, c))
		embeddedtest.SetPassword(t, root, embeddedtest.Password)
	}
	if asked.Load() != 3 || along.Load() != 0 {
		t.Errorf("asked %d times for a token, %d times with one; want 3 and 0", asked.Load(), along.Load())
	}
}

func TestUsersMayBeTurnedOnLater(t *testing.T) {
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	c := connect(t, server.Endpoint(), embeddedtest.Password)
	must(t, get(t, c))
	embeddedtest.TurnUsersOn(t, server.Endpoint())
	must(t, get(t, c))
}

// conn is an etcd that is only asked for tokens, in a synctest bubble.
type conn struct {
	asked  atomic.Int64
	answer func(ctx context.Context) error
}

func (c *conn) Invoke(ctx context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	c.asked.Add(1)
	reply.(*pb.AuthenticateResponse).Token = "token"
	return c.answer(ctx)
}

func (c *conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("not to be used")
}

// Whatever goes wrong, and however many callers want a token, etcd is not asked at full speed.
func TestTokensAreAskedForAtGrowingIntervals(t *testing.T) {
	for name, test := range map[string]struct {
		answer error
		bad    bool // the tokens are not good from the start
	}{
		"refused":     {answer: rpctypes.ErrGRPCAuthFailed},
		"unreachable": {answer: status.Error(codes.Unavailable, "no backend")},
		"no token":    {answer: rpctypes.ErrGRPCInvalidAuthToken},
		"bad tokens":  {bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd := &conn{answer: func(context.Context) error { return test.answer }}
				l := login.New("drm", "secret")
				t.Cleanup(l.Close)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var users sync.WaitGroup
				for range 10 {
					users.Go(func() {
						for ctx.Err() == nil {
							_ = l.Use(ctx, etcd, test.bad)
							<-time.After(time.Millisecond)
						}
					})
				}
				users.Wait()
				if n := etcd.asked.Load(); n < 10 || n > 25 {
					t.Errorf("etcd was asked %d times in a minute", n)
				}
			})
		})
	}
}

// A token that etcd is slow to give is still used, although no caller could wait that long for it.
func TestATokenThatComesLateIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &conn{answer: func(ctx context.Context) error {
			select {
			case <-time.After(3 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		l := login.New("drm", "secret")
		t.Cleanup(l.Close)
		tries := 0
		for ok := false; !ok; tries++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			ok = l.Use(ctx, etcd, false) == nil
			cancel()
			if tries > 10 {
				t.Fatal("never")
			}
		}
		if n := etcd.asked.Load(); n != 1 {
			t.Errorf("etcd was asked %d times", n)
		}
	})
}

func TestCloseEndsARequestForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &conn{answer: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		l := login.New("drm", "secret")
		var users sync.WaitGroup
		users.Go(func() {
			if err := l.Use(t.Context(), etcd, false); status.Code(err) != codes.Canceled {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		l.Close()
		users.Wait()
	})
}

// A caller that waits for a token, because etcd compares the passwords of many others, can still ask for etcd's status.
func TestTheStateOfEtcdIsAskedForWithoutAToken(t *testing.T) {
	server, _ := embeddedtest.Start(t, embeddedtest.UsersConfig())
	embeddedtest.TurnUsersOn(t, server.Endpoint())
	l := login.New(embeddedtest.User, embeddedtest.Password)
	never := grpc.WithChainUnaryInterceptor(
		func(
			ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			if method == pb.Auth_Authenticate_FullMethodName {
				<-ctx.Done()
				return status.FromContextError(ctx.Err()).Err()
			}
			return invoke(ctx, method, req, reply, conn, opts...)
		},
	)
	c, err := clientv3.New(
		clientv3.Config{
			Endpoints:   []string{server.Endpoint()},
			Logger:      zap.NewNop(),
			DialOptions: append(l.DialOptions(), never),
		},
	)
	must(t, err)
	t.Cleanup(func() {
		l.Close()
		_ = c.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
	if code := status.Code(err); code == codes.DeadlineExceeded || code == codes.Unavailable {
		t.Errorf("%v, %v: want an answer, be it that nobody is to be told", resp, err)
	}
}
