package txn_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// item is a write, and what its Sender reported about it.
type item struct {
	txn.Write
	got *txn.Outcome
	err error
}

func (i *item) String() string {
	switch {
	case i.err != nil:
		return fmt.Sprintf("%s: %v", i.Key, i.err)
	case i.got == nil:
		return i.Key + ": untold"
	case i.got.Applied:
		return i.Key + ": applied"
	default:
		return i.Key + ": " + string(i.got.Found.GetValue())
	}
}

// newSender makes a Sender of items. Up to 3 writes, its flat transactions also ask for what is there instead.
func newSender(commit func(*pb.TxnRequest) (*pb.TxnResponse, error)) *txn.Sender[item] {
	return &txn.Sender[item]{
		Commit: commit, Limits: new(txn.Limits), By: pb.Compare_MOD, Inspect: 3, MaxOps: 100, MaxBytes: 1 << 20,
		Write: func(i *item) txn.Write { return i.Write },
		Value: func(i *item) []byte { return []byte("v of " + i.Key) },
		Size:  func(*item) int { return 100 },
		Done:  func(i *item, got txn.Outcome) { i.got = &got },
		Failed: func(items []item, err error) bool {
			for n := range items {
				items[n].err = err
			}
			return true
		},
	}
}

// told lists what a Sender reported about items, in their order.
func told(items []item) string {
	var all []string
	for i := range items {
		all = append(all, items[i].String())
	}
	return strings.Join(all, ", ")
}

func keysFrom(names ...string) (items []item) {
	for _, name := range names {
		items = append(items, item{Write: txn.Write{Key: name}})
	}
	return items
}

func TestASenderDecidesOnEachWriteByItself(t *testing.T) {
	c := txn.New(embeddedtest.Client(t))
	guard := commit(t, c, &pb.TxnRequest{
		Success: []*pb.RequestOp{txn.Put("guard", nil), txn.Put("taken", []byte("other"))},
	}).Header.Revision
	sent := 0
	s := newSender(func(req *pb.TxnRequest) (*pb.TxnResponse, error) {
		sent++
		return c.Commit(t.Context(), req)
	})
	s.Guards = txn.Guards{{Key: "guard", Created: guard}}
	for _, test := range []struct {
		keys string
		want string
		sent int
	}{
		{"a", "a: applied", 1},
		{"taken", "taken: other", 1},
		{"b taken", "b: applied, taken: other", 2},
		{"c taken d e", "c: applied, taken: other, d: applied, e: applied", 2},
		{"f g h i", "f: applied, g: applied, h: applied, i: applied", 1},
	} {
		sent = 0
		items := keysFrom(strings.Fields(test.keys)...)
		if !s.Send(items) || told(items) != test.want || sent != test.sent {
			t.Errorf("%s: %s in %d transactions, want %s in %d", test.keys, told(items), sent, test.want, test.sent)
		}
	}
	for _, n := range []int{1, 5} { // further conflicts make no difference
		items := keysFrom(append([]string{"taken"}, strings.Fields("w x y z")[:n-1]...)...)
		s.Guards = txn.Guards{{Key: "guard", Created: guard}, {Key: "gone", Created: 7}}
		s.Send(items)
		for i := range items {
			var failed *txn.GuardError
			if !errors.As(items[i].err, &failed) || failed.Key != "gone" || failed.Revision < guard ||
				items[i].got != nil {
				t.Errorf("of %d: %v, want an error of the guard that is gone", n, &items[i])
			}
		}
	}
	s.FreeDeletes = true
	items := []item{{Write: txn.Write{Key: "taken", Delete: true, Any: true}}}
	if s.Send(items); told(items) != "taken: applied" {
		t.Errorf("a delete that needs no guard: %s", told(items))
	}
}

func TestASenderSendsInPartsWhatEtcdDoesNotTake(t *testing.T) {
	for name, refused := range map[string]error{
		"too many": rpctypes.ErrTooManyOps, "too large": rpctypes.ErrRequestTooLarge,
	} {
		isG := func(op *pb.RequestOp) bool { return string(op.GetRequestPut().Key) == "g" }
		var sizes []int
		s := newSender(func(req *pb.TxnRequest) (*pb.TxnResponse, error) {
			sizes = append(sizes, len(req.Success))
			switch {
			case len(req.Success) > 2:
				return nil, refused
			case slices.ContainsFunc(req.Success, isG):
				return nil, errors.New("no answer")
			}
			return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 7}, Succeeded: true}, nil
		})
		items := keysFrom("a", "b", "c", "d", "e", "f", "g", "h", "i")
		if !s.Send(items) {
			t.Errorf("%s: not all was sent", name)
		}
		for i := range items {
			beside := items[i].err != nil && i >= 5 && i <= 7 // in the transaction of g
			if got, want := items[i].String(), items[i].Key+": applied"; got != want && !beside {
				t.Errorf("%s, in parts of %v: %s, want %s", name, sizes, got, want)
			}
		}
		if items[6].err == nil {
			t.Errorf("%s: %s, want an error", name, &items[6])
		}
		if most := slices.Max(sizes[len(sizes)-3:]); most > 2 {
			t.Errorf("%s: parts of %v once the limit was known", name, sizes)
		}
	}
}

func TestASenderStopsWhenItIsTold(t *testing.T) {
	sent := 0
	s := newSender(func(*pb.TxnRequest) (*pb.TxnResponse, error) { sent++; return nil, errors.New("no answer") })
	s.MaxOps = 1
	failed := s.Failed
	s.Failed = func(items []item, err error) bool { failed(items, err); return false }
	items := keysFrom("a", "b", "c")
	if s.Send(items) || sent != 1 || told(items) != "a: no answer, b: untold, c: untold" {
		t.Errorf("after %d transactions: %s", sent, told(items))
	}
}
