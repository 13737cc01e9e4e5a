package scenario_test

import (
	"context"
	"fmt"
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

// misses makes watches silently leave out deletes of keys that contain a text, as etcd's watches have been known to do.
type misses struct {
	containing string
	missed     atomic.Int32
}

func (d *misses) intercept(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
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
		delete func(w *world, m *drm.Manager, id string) error
		then   func(r *recorder, id string) bool
	}{
		"of a catalogue entry": {"/resources/", func(_ *world, m *drm.Manager, id string) error {
			return m.Deallocate(context.Background(), id)
		}, func(r *recorder, id string) bool { return r.count("terminate", id) == 1 && r.holders()[id] == "" }},
		"of a claim": {"/claims/", func(w *world, _ *drm.Manager, id string) error {
			w.deleteKeys("/claims/" + id)
			return nil
		}, func(r *recorder, id string) bool { return r.count("terminate", id) == 1 && r.count("handle", id) == 2 }},
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
			shown := false
			for round := 0; !shown; round++ {
				if round == 10 {
					t.Fatal("a list came first each time: this test shows nothing")
				}
				id, missed := fmt.Sprintf("x%d", round), d.missed.Load()
				if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
					t.Fatal(err)
				}
				r.until("it is handled", func() bool { return r.holders()[id] != "" })
				if err := test.delete(w, m, id); err != nil {
					t.Fatal(err)
				}
				r.until("the watch has missed it, or was made anew", func() bool {
					return d.missed.Load() > missed || r.count("terminate", id) > 0
				})
				// Otherwise a list was due just then, and showed the delete before this could look.
				shown = r.count("terminate", id) == 0
				r.until("it is repaired", func() bool { return test.then(r, id) })
			}
		})
	}
}
