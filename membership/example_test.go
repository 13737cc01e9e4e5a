package membership_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// exampleApp makes an app of 64 shards, and a function that makes a member of it.
func exampleApp(ctx context.Context, name string) (keys.Layout, func(id string) (membership.Registration, error), error) {
	layout := keys.New("/drm", fmt.Sprint(name, apps.Add(1)))
	config, err := appconfig.Open(ctx, client, layout, 64, 64)
	join := func(id string) (membership.Registration, error) {
		r := membership.Registrar{
			Client: client, Layout: layout, Shards: config.Shards, Config: config.CreateRevision, ID: id, Timeout: 5 * time.Second,
		}
		lease, err := client.Grant(ctx, 60) // a member keeps it alive; see package lease
		if err != nil {
			return membership.Registration{}, err
		}
		return r.Register(ctx, membership.Record{State: membership.Active, Weight: 1, Started: time.Now()}, lease.ID)
	}
	return layout, join, err
}

// Two members share the shards; when the lease of one ends, the other has all.
func Example() {
	ctx := context.Background()
	layout, join, err := exampleApp(ctx, "example")
	if err != nil {
		log.Fatal(err)
	}
	show := func() {
		view, err := membership.Read(ctx, client, layout, 64)
		if err != nil {
			log.Fatal(err)
		}
		shards := map[string]int{}
		for _, owner := range view.Owners() {
			shards[owner]++
		}
		fmt.Println(shards, "slots:", view.Slots)
	}

	ann, err := join("ann")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := join("bob"); err != nil {
		log.Fatal(err)
	}
	show()
	if _, err := client.Revoke(ctx, ann.Lease); err != nil {
		log.Fatal(err)
	}
	show() // ann's slot waits for her
	// Output:
	// map[ann:29 bob:35] slots: [ann bob]
	// map[bob:64] slots: [ann bob]
}

// Follow tells of each change until its context ends.
func ExampleFollow() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	layout, join, err := exampleApp(ctx, "follow")
	if err != nil {
		log.Fatal(err)
	}
	hub := follow.NewHub(client, follow.Options{Probe: layout.Config()})
	defer hub.Close()
	if _, err := join("ann"); err != nil {
		log.Fatal(err)
	}
	membership.Follow(ctx, hub, layout, 64, func(v *membership.View) {
		fmt.Println(v.Members["ann"].State, v.Owner(0))
		cancel()
	})
	// Output: active ann
}
