package follow_test

import (
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// ahead makes a hub that has seen a revision that etcd has not reached, as after a restore.
func ahead(t *testing.T, opts follow.Options) *follow.Hub {
	t.Helper()
	h := newHub(t, client, opts)
	resp, err := h.KV().Get(t.Context(), "/test/probe")
	if err != nil {
		t.Fatal(err)
	}
	later := &pb.ResponseHeader{ClusterId: resp.Header.ClusterId, Revision: resp.Header.Revision + 1_000_000}
	if err := h.Observe(later); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEveryLinearizableAnswerTellsOfARewoundStore(t *testing.T) {
	key := newPrefix() + "x"
	for name, ask := range map[string]func(h *follow.Hub) error{
		"get": func(h *follow.Hub) error {
			_, err := h.KV().Get(t.Context(), key)
			return err
		},
		"put": func(h *follow.Hub) error {
			_, err := h.KV().Put(t.Context(), key, "")
			return err
		},
		"transaction": func(h *follow.Hub) error {
			_, err := h.KV().Txn(t.Context()).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, "")).Else(clientv3.OpGet(key)).Commit()
			return err
		},
		"committer": func(h *follow.Hub) error {
			_, err := h.Committer(txn.New(client)).Commit(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}},
			}})
			return err
		},
		"list": func(h *follow.Hub) error {
			_, _, err := h.List(t.Context(), key)
			return err
		},
		"grant": func(h *follow.Hub) error {
			_, err := h.Leases().Grant(t.Context(), 1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(chan error, 10)
			h := ahead(t, follow.Options{OnRewound: func(err error) { told <- err }})
			if err := ask(h); !errors.Is(err, follow.ErrRewound) {
				t.Errorf("got %v, want ErrRewound", err)
			}
			before, err := client.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if err := ask(h); !errors.Is(err, follow.ErrRewound) {
				t.Errorf("asked again: got %v, want ErrRewound", err)
			}
			after, err := client.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if before.Header.Revision != after.Header.Revision {
				t.Error("something was written to a store that is known to be rewound")
			}
			if len(told) != 1 {
				t.Errorf("OnRewound was called %d times", len(told))
			}
		})
	}
}

func TestASerializableReadProvesNothing(t *testing.T) {
	h := ahead(t, follow.Options{OnRewound: func(err error) { t.Error(err) }})
	if _, err := h.KV().Get(t.Context(), "/test/probe", clientv3.WithSerializable()); err != nil {
		t.Error(err)
	}
}

// A member of etcd answers a keepalive with what it has applied, so a lower revision makes the hub ask.
func TestAKeepaliveOfALowerRevisionIsAskedAbout(t *testing.T) {
	for _, rewound := range []bool{false, true} {
		told := make(chan error, 10)
		h := newHub(t, client, follow.Options{OnRewound: func(err error) { told <- err }})
		lease, err := h.Leases().Grant(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = client.Revoke(t.Context(), lease.ID) })
		seen := lease.ResponseHeader
		if rewound {
			later := &pb.ResponseHeader{ClusterId: seen.ClusterId, Revision: seen.Revision + 1_000_000}
			if err := h.Observe(later); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Leases().KeepAliveOnce(t.Context(), lease.ID); err != nil {
				t.Fatalf("the answer proves nothing, and gave %v", err)
			}
			select {
			case err := <-told:
				if !errors.Is(err, follow.ErrRewound) {
					t.Error(err)
				}
			case <-time.After(20 * time.Second): // the next regular probe would come after 30 s
				t.Fatal("nobody asked")
			}
			if _, err := h.Leases().KeepAliveOnce(t.Context(), lease.ID); !errors.Is(err, follow.ErrRewound) {
				t.Errorf("a keepalive after that: %v", err)
			}
			if _, err := h.Leases().Revoke(t.Context(), lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Errorf("a revocation after that: %v", err)
			}
			if left, err := client.TimeToLive(t.Context(), lease.ID); err != nil || left.TTL <= 0 {
				t.Errorf("the lease was revoked in a store that is known to be rewound: %+v, %v", left, err)
			}
			continue
		}
		late := &pb.ResponseHeader{ClusterId: seen.ClusterId, Revision: seen.Revision - 1} // from a member that lags
		if err := h.Observe(late); err != nil {
			t.Fatal(err)
		}
		put(t, newPrefix()+"x", "")
		for deadline := time.Now().Add(20 * time.Second); h.Highest() == seen.Revision; {
			if time.Now().After(deadline) {
				t.Fatal("nobody asked")
			}
			select {
			case <-t.Context().Done():
			case <-time.After(time.Millisecond):
			}
			if err := h.Observe(late); err != nil {
				t.Fatal(err)
			}
		}
		if len(told) != 0 {
			t.Errorf("a member of etcd that lags was taken for a store that was rewound: %v", <-told)
		}
	}
}

func TestAnotherClusterIsToldByAnyAnswer(t *testing.T) {
	h := ahead(t, follow.Options{})
	if err := h.Observe(&pb.ResponseHeader{ClusterId: 1, Revision: h.Highest()}); !errors.Is(err, follow.ErrRewound) {
		t.Errorf("got %v, want ErrRewound", err)
	}
}
