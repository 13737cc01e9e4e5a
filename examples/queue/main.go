// Queue has a source that pushes: a message queue has orders to handle a resource, or to stop handling it. A Retriever
// carries them out between its Setup and its TearDown.
//
//	go run ./queue
//
// Two nodes share the queue. Six resources are ordered, and the nodes share them. Two are ordered away. One node leaves
// while more orders come; the other one carries them out, and handles everything.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
	"github.com/distributed-resource-manager/drm/handler"
)

const app = "queue-example"

func main() {
	lab.Main(func(ctx context.Context) error { return run(ctx, os.Stdout) })
}

func run(ctx context.Context, out io.Writer) (err error) {
	say := log.New(out, "", 0) // several goroutines print
	etcd, stopEtcd, err := lab.Etcd(ctx)
	if err != nil {
		return err
	}
	defer stopEtcd()
	client, err := drm.NewClient(ctx, drm.ClientConfig{App: app, Etcd: etcd})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	step := func(name string, resources, nodes int) error {
		err := lab.Until(ctx, client, name, lab.Spread(resources, nodes))
		if err == nil {
			say.Printf("-- %s: %d resources, %d nodes", name, resources, nodes)
		}
		return err
	}

	orders := make(queue, 100)
	one, err := startNode(ctx, etcd, "node-1", orders, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(one)) }()
	two, err := startNode(ctx, etcd, "node-2", orders, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(two)) }()

	place := func(remove bool, from, to int) {
		for n := from; n <= to; n++ {
			id := fmt.Sprintf("job-%d", n)
			data := json.RawMessage(fmt.Sprintf(`{"id":%q,"ordered":%q}`, id, time.Now().Format(time.RFC3339)))
			orders <- order{Resource: drm.Resource{ID: id, Data: data}, Remove: remove}
		}
	}
	place(false, 1, 6)
	if err := step("six were ordered", 6, 2); err != nil {
		return err
	}
	place(true, 1, 2)
	if err := step("two were ordered away", 4, 2); err != nil {
		return err
	}
	place(false, 7, 9)
	if err := lab.Stop(one); err != nil {
		return err
	}
	place(false, 10, 12)
	return step("node-1 left while six more were ordered", 10, 1)
}

func startNode(
	ctx context.Context, etcd drm.EtcdConfig, id string, orders queue, say *log.Logger,
) (*drm.Manager, error) {
	return drm.Start(ctx, drm.Config{
		App: app, ID: id, Etcd: etcd,
		Retriever: &source{queue: orders, logger: zap.NewNop()},
		Handler: handler.New(handler.Funcs{
			Handle: func(_ context.Context, c drm.Claim) error {
				say.Printf("%s handles %s", c.Member, c.Resource.ID)
				return nil
			},
			Terminate: func(_ context.Context, c drm.Claim) error {
				say.Printf("%s terminates %s", c.Member, c.Resource.ID)
				return nil
			},
		}),
	})
}
