package drm_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm"
)

// misses makes watches that silently leave out deletes of keys that contain a text, as etcd's have been known to.
type misses struct {
	containing string
	missed     atomic.Int32
}

func (d *misses) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	return missingStream{s, d}, err
}

type missingStream struct {
	grpc.ClientStream
	misses *misses
}

func (s missingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if resp, ok := m.(*pb.WatchResponse); ok && err == nil {
		var kept []*mvccpb.Event
		for _, ev := range resp.Events {
			if ev.Type == mvccpb.Event_DELETE && strings.Contains(string(ev.Kv.Key), s.misses.containing) {
				s.misses.missed.Add(1)
				continue
			}
			kept = append(kept, ev)
		}
		resp.Events = kept
	}
	return err
}

func TestADeleteThatTheWatchMissedIsRepaired(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		missed string
		delete func(w *world, m *drm.Manager) error
		then   func(r *recorder) bool
	}{
		"of a catalogue entry": {"/resources/", func(_ *world, m *drm.Manager) error {
			return m.Deallocate(context.Background(), "x")
		}, func(r *recorder) bool { return r.count("terminate", "x") == 1 && len(r.holders()) == 0 }},
		"of a claim": {"/claims/", func(w *world, _ *drm.Manager) error {
			w.deleteKeys("/claims/")
			return nil
		}, func(r *recorder) bool { return r.count("terminate", "x") == 1 && r.count("handle", "x") == 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			d := &misses{containing: test.missed}
			client, err := clientv3.New(clientv3.Config{
				Endpoints: []string{w.endpoint}, Logger: zap.NewNop(),
				DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(d.intercept)},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			cfg := w.config("a", r)
			cfg.Etcd = drm.EtcdConfig{Client: client}
			cfg.ResyncInterval = 2 * time.Second
			m := w.start(cfg)
			if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
				t.Fatal(err)
			}
			r.until("it is handled", allHeld(r, 1))
			if err := test.delete(w, m); err != nil {
				t.Fatal(err)
			}
			r.until("the watch has missed it", func() bool { return d.missed.Load() > 0 })
			if r.count("terminate", "x") != 0 {
				t.Error("it was not missed: this test shows nothing")
			}
			r.until("it is repaired", func() bool { return test.then(r) })
		})
	}
}
