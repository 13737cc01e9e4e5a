package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// reads notes the reads that a client sends, and holds them up or refuses them.
type reads struct {
	held    chan struct{} // the first read waits until this is closed; nil: it does not wait
	denied  string        // etcd seems to refuse what reads below this prefix; empty: nothing
	mu      sync.Mutex
	sizes   []int // how many lists each read was for
	refused int
}

func (r *reads) intercept(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	var keys [][]byte
	switch req := req.(type) {
	case *pb.RangeRequest:
		keys = append(keys, req.Key)
	case *pb.TxnRequest:
		for _, op := range req.Success {
			keys = append(keys, op.GetRequestRange().GetKey())
		}
	default:
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	r.mu.Lock()
	r.sizes = append(r.sizes, len(keys))
	switch {
	case r.held == nil:
	case len(r.sizes) == 2:
		close(r.held)
	case len(r.sizes) == 1:
		defer func() { <-r.held }()
	}
	r.mu.Unlock()
	for _, key := range keys {
		if r.denied != "" && bytes.HasPrefix(key, []byte(r.denied)) {
			return rpctypes.ErrGRPCPermissionDenied
		}
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused++
	}
	return err
}

// take returns what was noted since the last call.
func (r *reads) take() (sizes []int, refused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sizes, refused = r.sizes, r.refused
	r.sizes, r.refused = nil, 0
	return sizes, refused
}

const manyLists = 40

// manyPrefixes puts a key with a value of its own below each of many prefixes.
func manyPrefixes(t *testing.T, c *clientv3.Client) (prefixes []string) {
	t.Helper()
	base := newPrefix()
	for n := range manyLists {
		prefixes = append(prefixes, fmt.Sprintf("%s%02d/", base, n))
		if _, err := c.Put(t.Context(), prefixes[n]+"key", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	return prefixes
}

// listAll lists all prefixes at the same time.
func listAll(ctx context.Context, h *follow.Hub, prefixes []string) error {
	var g errgroup.Group
	for n, prefix := range prefixes {
		g.Go(func() error {
			kvs, revision, err := h.List(ctx, prefix)
			if err == nil && (len(kvs) != 1 || string(kvs[0].Value) != fmt.Sprint(n) || revision < kvs[0].ModRevision) {
				err = fmt.Errorf("%s has %v at %d, want one key with the value %d", prefix, kvs, revision, n)
			}
			return err
		})
	}
	return g.Wait()
}

// What is listed while a request is on its way shares the next one.
func TestListsShareRequests(t *testing.T) {
	r := &reads{held: make(chan struct{})}
	h := newHub(t, dial(t, server.Endpoint(), grpc.WithUnaryInterceptor(r.intercept)), follow.Options{})
	if err := listAll(t.Context(), h, manyPrefixes(t, client)); err != nil {
		t.Fatal(err)
	}
	sizes, _ := r.take()
	if len(sizes) > manyLists/2 {
		t.Errorf("%d lists took the requests %v, want at most half as many", manyLists, sizes)
	}
}

// An etcd that takes fewer operations in a transaction is asked for fewer lists at a time, after a few refusals.
func TestListsTogetherAreAsFewAsEtcdTakes(t *testing.T) {
	r := new(reads)
	small := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = 3 })
	c := dial(t, small.Endpoint(), grpc.WithUnaryInterceptor(r.intercept))
	h := newHub(t, c, follow.Options{})
	prefixes := manyPrefixes(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for together := false; !together; {
		r.take()
		if err := listAll(ctx, h, prefixes); err != nil {
			t.Fatal(err)
		}
		sizes, refused := r.take()
		for _, n := range sizes {
			together = together || n > 1 && refused == 0
		}
	}
}

// A list that is refused takes nothing from those that shared its request.
func TestARefusedListDoesNotHurtOthers(t *testing.T) {
	prefixes := manyPrefixes(t, client)
	r := &reads{held: make(chan struct{}), denied: prefixes[7]}
	h := newHub(t, dial(t, server.Endpoint(), grpc.WithUnaryInterceptor(r.intercept)), follow.Options{})
	var g errgroup.Group
	for n, prefix := range prefixes {
		g.Go(func() error {
			kvs, _, err := h.List(t.Context(), prefix)
			if denied := errors.Is(err, rpctypes.ErrPermissionDenied); denied != (n == 7) || !denied && len(kvs) != 1 {
				return fmt.Errorf("list %d: %d keys, %w", n, len(kvs), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// A request that hangs keeps nobody else waiting.
func TestListsDoNotWaitForARequestThatHangs(t *testing.T) {
	prefixes := manyPrefixes(t, client)
	hung, ended := make(chan struct{}), make(chan struct{})
	first := true
	var mu sync.Mutex
	c := dial(t, server.Endpoint(), grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		mu.Lock()
		hangs := first
		first = false
		mu.Unlock()
		if hangs {
			close(hung)
			<-ctx.Done()
			return ctx.Err()
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}))
	h := newHub(t, c, follow.Options{ListTimeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		_, _, _ = h.List(ctx, prefixes[0])
	}()
	<-hung
	for n, prefix := range prefixes[1:4] { // fewer than would fill a request
		within, stop := context.WithTimeout(ctx, 20*time.Second)
		if kvs, _, err := h.List(within, prefix); err != nil || len(kvs) != 1 {
			t.Errorf("list %d: %d keys, %v", n, len(kvs), err)
		}
		stop()
	}
	cancel()
	<-ended
}

// Where answers take long, many more lists are on their way than with a near etcd, but not all of them.
func TestManyListsAreOnTheirWayToADistantEtcd(t *testing.T) {
	const lists, want = 600, 256
	var mu sync.Mutex
	flying, most := 0, 0
	release := make(chan struct{})
	c := dial(t, server.Endpoint(), grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		n := 1
		if txn, ok := req.(*pb.TxnRequest); ok {
			n = len(txn.Success)
		}
		mu.Lock()
		flying += n
		if flying > want/2 && most <= want/2 {
			close(release) // a near etcd would never see so many
		}
		most = max(most, flying)
		mu.Unlock()
		select {
		case <-release:
		case <-ctx.Done():
		}
		err := invoke(ctx, method, req, reply, cc, opts...)
		mu.Lock()
		flying -= n
		mu.Unlock()
		return err
	}))
	h := newHub(t, c, follow.Options{ListTimeout: 30 * time.Second})
	base := newPrefix()
	var g errgroup.Group
	for n := range lists {
		g.Go(func() error {
			_, _, err := h.List(t.Context(), fmt.Sprintf("%s%03d/", base, n))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if most > want {
		t.Errorf("%d lists were on their way at once, want at most %d", most, want)
	}
}

// A list returns when its context ends, whatever becomes of the request that it shares.
func TestAListDoesNotOutliveItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, manyLists)
	c := dial(t, server.Endpoint(), grpc.WithUnaryInterceptor(func(
		waits context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption,
	) error {
		asked <- struct{}{}
		<-waits.Done()
		return waits.Err()
	}))
	h := newHub(t, c, follow.Options{ListTimeout: time.Minute})
	prefixes, over := manyPrefixes(t, client), make(chan error, 1)
	go func() { over <- listAll(ctx, h, prefixes) }()
	<-asked // alone
	<-asked // several together, since one of them is on its way
	cancel()
	select {
	case err := <-over:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("lists go on 30 s after the end of their context")
	}
}
