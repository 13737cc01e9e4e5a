package membership_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/membership"
)

// late is a connection on which transactions are not answered, and carried out later.
type late struct {
	clientv3.KV
	txns []clientv3.Txn
}

func (l *late) Txn(ctx context.Context) clientv3.Txn {
	return &lateTxn{l, l.KV.Txn(context.WithoutCancel(ctx))}
}

type lateTxn struct {
	l   *late
	txn clientv3.Txn
}

func (t *lateTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.txn = t.txn.If(cs...); return t }
func (t *lateTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.txn = t.txn.Then(ops...); return t }
func (t *lateTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.txn = t.txn.Else(ops...); return t }

var errLate = errors.New("no answer")

func (t *lateTxn) Commit() (*clientv3.TxnResponse, error) {
	t.l.txns = append(t.l.txns, t.txn)
	return nil, errLate
}

func TestAnActivationThatComesLateTakesNoOtherSlots(t *testing.T) {
	g := newGroup(t)
	gone := g.join("gone", 1)
	record := active(1)
	record.State = membership.Joining
	reg, err := g.registrar("a").Register(t.Context(), record, g.grant(600))
	if err != nil {
		t.Fatal(err)
	}
	slow := &late{KV: client}
	r := g.registrar("a")
	r.Client = slow
	if _, err := r.Activate(t.Context(), reg); !errors.Is(err, errLate) {
		t.Fatal(err)
	}
	g.revoke(gone.Lease) // now there is a slot that is free
	reg, err = g.registrar("a").Activate(t.Context(), reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, txn := range slow.txns {
		if _, err := txn.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.view().Members["a"].Slots; !slices.Equal(got, reg.Record.Slots) {
		t.Errorf("a has the slots %v, and took %v", got, reg.Record.Slots)
	}
}
