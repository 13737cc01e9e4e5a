package txn_test

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// The answers to writes are left out if they contain nothing to read; everything else in etcd's answer is there.
func TestTheAnswersToWritesAreLeftOut(t *testing.T) {
	c := txn.New(embeddedtest.Client(t))
	write := &pb.TxnRequest{Success: []*pb.RequestOp{txn.Put("terse", nil), txn.Put("terser", nil)}}
	first := commit(t, c, write)
	if !first.Succeeded || len(first.Responses) != 0 || first.Header.GetRevision() == 0 ||
		first.Header.GetClusterId() == 0 {
		t.Errorf("got %v", first)
	}
	if second := commit(t, c, write); second.Header.GetRevision() != first.Header.GetRevision()+1 ||
		second.Header.GetRaftTerm() == 0 {
		t.Errorf("got %v after %v", second.Header, first.Header)
	}

	write.Compare = []*pb.Compare{txn.Created("terse", 0)}
	write.Failure = []*pb.RequestOp{txn.Look([]byte("terse"))}
	if resp := commit(t, c, write); resp.Succeeded || len(txn.Found(resp.Responses[0])) != 1 {
		t.Errorf("a condition does not hold, and the answer is %v", resp)
	}

	write = &pb.TxnRequest{Success: []*pb.RequestOp{txn.Delete("terser"), txn.Get([]byte("terse"))}}
	resp := commit(t, c, write)
	if len(resp.Responses) != 2 || resp.Responses[0].GetResponseDeleteRange().GetDeleted() != 1 ||
		len(txn.Found(resp.Responses[1])) != 1 {
		t.Errorf("there is something to be read, and the answer is %v", resp)
	}
	put := txn.Put("terse", []byte("2"))
	put.GetRequestPut().PrevKv = true
	resp = commit(t, c, &pb.TxnRequest{Success: []*pb.RequestOp{put}})
	if resp.Responses[0].GetResponsePut().GetPrevKv() == nil {
		t.Errorf("what was there before was asked for, and the answer is %v", resp)
	}
}
