// Quickstart is one member of a group that shares the feeds of a file. Start it twice.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/retriever"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	logger, err := zap.NewDevelopment() // without a Logger, DRM says nothing
	if err != nil {
		return err
	}
	source, err := retriever.NewFile("feeds.json", retriever.FileConfig{Watch: true})
	if err != nil {
		return err
	}
	m, err := drm.Start(ctx, drm.Config{
		App:       "feeds",
		Etcd:      drm.EtcdConfig{Endpoints: strings.Split(cmp.Or(os.Getenv("DRM_ENDPOINTS"), "127.0.0.1:2379"), ",")},
		Retriever: source,
		Handler: handler.New(handler.Funcs{
			Handle: func(_ context.Context, c drm.Claim) error {
				fmt.Println(c.Member, "opens", c.Resource.ID)
				return nil
			},
			Terminate: func(_ context.Context, c drm.Claim) error {
				fmt.Println(c.Member, "closes", c.Resource.ID)
				return nil
			},
		}),
		Logger: logger,
	})
	if err != nil {
		return err
	}
	select {
	case <-m.Done():
		return m.Err() // it ended by itself
	case <-ctx.Done(): // Ctrl-C: close all that is open here, and let the others take over
		return m.Stop(context.Background())
	}
}
