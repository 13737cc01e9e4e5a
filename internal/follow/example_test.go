package follow_test

import (
	"context"
	"fmt"
	"log"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/follow"
)

// printer prints what it is given.
type printer struct {
	listed func()
	done   func()
}

func (p printer) Reset(kvs []*mvccpb.KeyValue, _ int64) {
	fmt.Println(len(kvs), "keys")
	p.listed()
}

func (p printer) Apply(events []*clientv3.Event, _ int64) {
	for _, ev := range events {
		fmt.Printf("%v %s\n", ev.Type, ev.Kv.Value)
	}
	p.done()
}

func ExampleHub_Follow() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hub := follow.NewHub(client, follow.Options{Probe: "/example"})
	defer hub.Close()
	prefix := newPrefix()
	write := func() {
		if _, err := client.Put(ctx, prefix+"a", "hello"); err != nil {
			log.Fatal(err)
		}
	}
	hub.Follow(ctx, prefix, printer{listed: write, done: cancel})
	// Output:
	// 0 keys
	// PUT hello
}
