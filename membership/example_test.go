package membership_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// Two members share 64 shards. A program that follows the group knows which of them owns an id, and learns that the
// other one owns it when the first is gone.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := startEtcd()
	defer stop()

	group, err := membership.Open(ctx, client, "/drm", "example", 64)
	if err != nil {
		log.Fatal(err)
	}
	ann, err := join(ctx, client, group, "ann")
	if err != nil {
		log.Fatal(err)
	}
	bob, err := join(ctx, client, group, "bob")
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	views := make(chan *membership.View, 100)
	following, enough := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- group.Follow(following, client, membership.FollowOptions{}, func(v *membership.View) { views <- v })
	}()
	show := func(members int) { // once there are so many members
		for v := range views {
			if len(v.Members) == members {
				shard, owner := v.OwnerOf("camera-3")
				fmt.Printf("camera-3 is in shard %d, which belongs to %s\n", shard, owner)
				return
			}
		}
	}
	show(2)
	if err := ann.Revoke(ctx); err != nil { // ann leaves; if she had died, her lease would expire
		log.Fatal(err)
	}
	show(1)
	enough()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	// Output:
	// camera-3 is in shard 50, which belongs to ann
	// camera-3 is in shard 50, which belongs to bob
}

// join registers a member under a lease that it keeps alive.
func join(ctx context.Context, client *clientv3.Client, group membership.Group, id string) (*lease.Keeper, error) {
	keeper, err := lease.Grant(ctx, client, lease.Options{TTL: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	member := membership.Registrar{Client: client, Group: group, ID: id, Timeout: 5 * time.Second}
	record := membership.Record{State: membership.Active, Weight: 1, Started: time.Now()}
	if _, err := member.Register(ctx, record, keeper.ID()); err != nil {
		return nil, errors.Join(err, keeper.Revoke(ctx))
	}
	return keeper, nil
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
