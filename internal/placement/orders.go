package placement

import (
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
