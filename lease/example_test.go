package lease_test

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/lease"
)

// A keeper's lease guards two keys; one of them is taken.
func ExampleWriter() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx, embedded.Config{UnsafeNoFsync: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close() //nolint:errcheck // an example
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() //nolint:errcheck // an example
	if _, err := client.Put(ctx, "claims/b", "somebody else"); err != nil {
		fmt.Println(err)
		return
	}

	keeper, err := lease.Grant(ctx, client, lease.Options{TTL: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	results := make(chan []lease.Result, 1)
	writer := lease.NewWriter(lease.NewCommitter(client), lease.Guard{}, lease.WriterOptions{}, func(r []lease.Result) { results <- r })
	writer.Submit(
		lease.Op{Key: "claims/a", Value: []byte("me"), Lease: keeper.ID()},
		lease.Op{Key: "claims/b", Value: []byte("me"), Lease: keeper.ID()},
	)
	for _, r := range <-results {
		switch {
		case r.Err != nil:
			fmt.Println(r.Op.Key, r.Err)
		case !r.Applied:
			fmt.Printf("%s belongs to %s\n", r.Op.Key, r.Found.Value)
		case keeper.Remaining() > 0: // the answer may have been slow
			fmt.Printf("%s is mine, the token is %d\n", r.Op.Key, r.Revision)
		}
	}
	writer.Close()
	if err := keeper.Revoke(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// claims/a is mine, the token is 3
	// claims/b belongs to somebody else
}
