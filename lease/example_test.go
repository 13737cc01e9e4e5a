package lease_test

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/lease"
)

// A Keeper keeps a lease, and a Writer claims two keys under it. Somebody else has one of the keys already.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := startEtcd()
	defer stop()
	if _, err := client.Put(ctx, "claims/b", "somebody else"); err != nil {
		log.Fatal(err)
	}

	// The renewer keeps all leases of this process alive over a few streams.
	renewer := lease.NewRenewer(client)
	defer renewer.Close()
	keeper, err := lease.Grant(ctx, renewer, lease.Options{
		TTL:     5 * time.Second,
		OnFence: func(_ *lease.Keeper, why error) { log.Printf("end everything now: %v", why) },
	})
	if err != nil {
		log.Fatal(err)
	}

	results := make(chan []lease.Result, 1)
	writer := lease.NewWriter(lease.NewCommitter(client), lease.Guard{}, lease.WriterOptions{},
		func(r []lease.Result) { results <- r })
	writer.Submit( // without Expect: the keys must not exist
		lease.Op{Key: "claims/a", Value: []byte("me"), Lease: keeper.ID()},
		lease.Op{Key: "claims/b", Value: []byte("me"), Lease: keeper.ID()},
	)
	for _, r := range <-results {
		switch {
		case r.Err != nil:
			fmt.Println(r.Op.Key, r.Err)
		case !r.Applied:
			fmt.Printf("%s belongs to %s\n", r.Op.Key, r.Found.Value)
		case keeper.Remaining() > 0: // the answer may have taken longer than the lease lives
			fmt.Printf("%s is mine until keeper.Context() ends, with the fencing token %d\n", r.Op.Key, r.Revision)
		}
	}

	writer.Close()
	if err := keeper.Revoke(ctx); err != nil { // this deletes the keys
		log.Fatal(err)
	}
	left, err := client.Get(ctx, "claims/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("keys left:", left.Count)
	// Output:
	// claims/a is mine until keeper.Context() ends, with the fencing token 3
	// claims/b belongs to somebody else
	// keys left: 1
}

// startEtcd starts an etcd for the example in a folder of its own, and connects to it.
func startEtcd() (client *clientv3.Client, stop func()) {
	dir, err := os.MkdirTemp("", "etcd-")
	if err != nil {
		log.Fatal(err)
	}
	config := embed.NewConfig()
	config.Dir = dir
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.Name + "=" + anyPort[0].String()
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatal(err)
	}
	<-etcd.Server.ReadyNotify()
	client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{etcd.Clients[0].Addr().String()}, Logger: zap.NewNop(),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		etcd.Close()
		_ = os.RemoveAll(dir)
	}
}
