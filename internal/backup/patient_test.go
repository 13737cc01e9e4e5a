package backup_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/backup"
)

// flaky is a client that gets the error of a server which is being stopped for some reads and some writes, though etcd
// does what they ask for. The few requests that begin and end a load or a deletion are answered.
func flaky(t *testing.T, a *backup.App, failure error) (c *clientv3.Client, reads, writing *atomic.Int64) {
	t.Helper()
	reads, writing = new(atomic.Int64), new(atomic.Int64) // how many are still to fail
	isStep := func(req any) bool {
		txn, is := req.(*pb.TxnRequest)
		return is && slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool {
			key := string(op.GetRequestPut().GetKey()) + string(op.GetRequestDeleteRange().GetKey())
			return key == a.Layout.Config() || key == a.Layout.Reshard()
		})
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: client.Endpoints(), Logger: client.GetLogger(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
			opts ...grpc.CallOption,
		) error {
			err := invoke(ctx, method, req, reply, conn, opts...)
			left := reads
			if txn, is := req.(*pb.TxnRequest); is && writes(txn) {
				left = writing
			}
			if err == nil && strings.Contains(method, ".KV/") && !isStep(req) && left.Add(-1) >= 0 {
				return failure
			}
			return err
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, reads, writing
}

func TestALoadAndADeletionGoOnWhileAServerIsRestarted(t *testing.T) {
	t.Parallel()
	from := newApp(t)
	want := fill(t, from)
	text := dump(t, from, true)
	for _, failure := range []error{
		status.Error(codes.Unavailable, "etcdserver: server stopped"),
		status.Error(codes.Unavailable, "etcdserver: leader changed"),
		status.Error(codes.Unknown, "raft: stopped"),
	} {
		to := newApp(t)
		c, reads, writing := flaky(t, to, failure)
		broken := *to
		broken.Client = c
		fail := func() { reads.Store(2); writing.Store(2) }
		failed := func(what string) {
			if reads.Load() > 0 || writing.Load() > 0 {
				t.Errorf("%v: of the %s too few requests have failed", failure, what)
			}
		}
		fail()
		if _, err := broken.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{}); err != nil {
			t.Errorf("%v: load: %v", failure, err)
		}
		same(t, all(t, to), want)
		failed("load")
		fail()
		if _, err := broken.Delete(t.Context(), nil); err != nil {
			t.Errorf("%v: delete: %v", failure, err)
		}
		same(t, all(t, to), map[string]string{})
		failed("deletion")
	}
}

func TestWhatIsNoDumpIsNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\x1f\x8b\x08\x00": "it is compressed with gzip: want what drmctl dump has written",
		"<html>":           "it is HTML: want what drmctl dump has written",
		"\xff\xfe{\x00":    "it is text in UTF-16: want what drmctl dump has written",
		`{"data":[]}`:      "line 1 of the dump: want what drmctl dump has written",
	} {
		var damaged *backup.DumpError
		_, err := newApp(t).Load(t.Context(), strings.NewReader(text), backup.LoadOptions{})
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
