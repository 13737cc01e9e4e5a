package txn_test

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

func commit(t *testing.T, c txn.Committer, req *pb.TxnRequest) *pb.TxnResponse {
	t.Helper()
	resp, err := c.Commit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// All parts of a batch reach etcd unchanged, and none is mixed up with its neighbour.
func TestABatchDoesWhatItSays(t *testing.T) {
	c := txn.New(embeddedtest.Client(t))
	made := commit(t, c, &pb.TxnRequest{Success: []*pb.RequestOp{
		txn.Put("old", []byte("1")), txn.Put("gone", []byte("1")),
	}}).Header.Revision

	b := txn.NewBatch(txn.Size{KeyBytes: len("old" + "gone" + "new"), Creates: 2, Mods: 1, Puts: 2, Deletes: 1})
	old, gone, fresh := b.Key("old"), b.Key("gone"), b.Key("new")
	compares := []*pb.Compare{b.Created(old, made), b.Modified(gone, made), b.Created(fresh, 0)}
	writes := []*pb.RequestOp{b.Put(old, []byte("2"), 0), b.Delete(gone), b.Put(fresh, []byte("3"), 0)}
	if resp := commit(t, c, &pb.TxnRequest{Compare: compares, Success: writes}); !resp.Succeeded {
		t.Fatal("the comparisons hold, and the transaction did not succeed")
	}
	if resp := commit(t, c, &pb.TxnRequest{Compare: compares, Success: writes}); resp.Succeeded {
		t.Fatal("the comparisons do not hold any more, and the transaction succeeded")
	}

	resp := commit(t, c, &pb.TxnRequest{Success: []*pb.RequestOp{
		txn.Get([]byte("old")),
		txn.Get([]byte("gone")),
		txn.Look([]byte("new")),
		txn.List("a", "z", 1),
		txn.Nest(
			&pb.TxnRequest{
				Compare: []*pb.Compare{txn.Modified("old", made)},
				Success: []*pb.RequestOp{txn.Delete("old")},
			},
		),
		txn.Nest(
			&pb.TxnRequest{
				Compare: []*pb.Compare{txn.Created("new", made)},
				Success: []*pb.RequestOp{txn.Delete("new")},
			},
		),
	}})
	got := ""
	for _, r := range resp.Responses[:4] {
		for _, kv := range txn.Found(r) {
			got += fmt.Sprintf("%s=%s ", kv.Key, kv.Value)
		}
	}
	if want := "old=2 new= new= "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, r := range resp.Responses[4:] {
		if r.GetResponseTxn().Succeeded {
			t.Error("a nested comparison does not hold, and its transaction succeeded")
		}
	}
}

// If a batch grew beyond its size, its memory would have to move, and with it the parts that it has handed out.
func TestABatchPanicsBeyondItsSize(t *testing.T) {
	b := txn.NewBatch(txn.Size{KeyBytes: 1, Creates: 1})
	b.Created(b.Key("k"), 0)
	for name, more := range map[string]func(){
		"key": func() { b.Key("k") }, "comparison": func() { b.Created(nil, 0) },
		"write": func() { b.Put(nil, nil, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("one more %s did not panic", name)
				}
			}()
			more()
		}()
	}
}

func BenchmarkBatch(b *testing.B) {
	const n, key = 127, "/drm/app/shards/03ff/claims/resource-1234567"
	value := make([]byte, 90)
	b.ReportAllocs()
	for b.Loop() {
		batch := txn.NewBatch(txn.Size{KeyBytes: n * len(key), Creates: n, Puts: n})
		for range n {
			k := batch.Key(key)
			batch.Created(k, 0)
			batch.Put(k, value, 7)
		}
	}
}
