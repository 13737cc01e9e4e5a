package drm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/retriever"
)

// startEtcd starts an etcd for an example, in a folder of its own.
func startEtcd() (endpoint string, stop func()) {
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
	return etcd.Clients[0].Addr().String(), func() {
		etcd.Close()
		_ = os.RemoveAll(dir)
	}
}

// A member handles what its source names. Every process of the group runs the same code.
func ExampleStart() {
	endpoint, stop := startEtcd()
	defer stop()
	ctx := context.Background()
	logger, err := zap.NewProduction() // without one, nobody hears what a member waits for, and what fails
	if err != nil {
		log.Fatal(err)
	}

	m, err := drm.Start(ctx, drm.Config{
		App:    "feeds",
		ID:     "host-1",
		Logger: logger,
		Etcd:   drm.EtcdConfig{Endpoints: []string{endpoint}},
		Retriever: retriever.Static(
			drm.Resource{ID: "feed-1", Data: json.RawMessage(`{"id":"feed-1","url":"wss://example.org/1"}`)},
		),
		Handler: handler.New(handler.Funcs{
			Handle: func(_ context.Context, c drm.Claim) error {
				fmt.Printf("handle %s\n", c.Resource.Data)
				return nil
			},
			Terminate: func(_ context.Context, c drm.Claim) error {
				fmt.Printf("terminate %s\n", c.Resource.ID)
				return nil
			},
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.Wait(ctx, "feed-1"); err != nil {
		log.Fatal(err)
	}
	if err := m.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// handle {"id":"feed-1","url":"wss://example.org/1"}
	// terminate feed-1
}

// A client adds a resource, and looks who handles it.
func ExampleClient() {
	endpoint, stop := startEtcd()
	defer stop()
	ctx := context.Background()
	etcd := drm.EtcdConfig{Endpoints: []string{endpoint}}

	m, err := drm.Start(
		ctx,
		drm.Config{App: "feeds", ID: "host-1", Etcd: etcd, AllocateOnly: true, Handler: handler.New(handler.Funcs{})},
	)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = m.Stop(ctx) }()

	client, err := drm.NewClient(ctx, drm.ClientConfig{App: "feeds", Etcd: etcd})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.Allocate(ctx, drm.Resource{ID: "feed-2"}); err != nil {
		log.Fatal(err)
	}
	a, err := client.Wait(ctx, "feed-2")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Resource, a.State, "at", a.Member)
	// Output: feed-2 active at host-1
}
