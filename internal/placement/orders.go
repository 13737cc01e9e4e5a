package placement

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// orders hears that an operator orders that the load be balanced now.
type orders struct{ term *Term }

// Reset implements follow.Sink.
func (o orders) Reset(kvs []*mvccpb.KeyValue, _ int64) {
	if len(kvs) > 0 {
		o.tell()
	}
}

// Apply implements follow.Sink.
func (o orders) Apply(events []*clientv3.Event, _ int64) {
	for _, ev := range events {
		if ev.Type != clientv3.EventTypeDelete {
			o.tell()
		}
	}
}

func (o orders) tell() {
	select {
	case o.term.haste <- struct{}{}:
	default:
	}
}

// obeyed deletes the order, which tells who waits for it that the coordinator has begun.
func (t *Term) obeyed(ctx context.Context) error {
	key := t.o.Layout.RebalanceOrder()
	office := clientv3.Compare(clientv3.CreateRevision(t.o.Layout.Coordinator()), "=", t.number)
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	_, err := t.o.KV.Txn(ctx).If(office).Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("delete the order to balance: %w", err)
	}
	return nil
}
