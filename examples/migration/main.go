// Migration has the programs of docs/migration.md: the example of the original's README, moved over. It needs an etcd
// (`drmctl etcd`) and a source of resources that have a WebSocket URL in "ws"; examples/websocket brings all that
// along.
package main

import (
	"cmp"
	"context"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

func main() {
	logger, err := zap.NewDevelopment()
	if err != nil {
		log.Fatal(err)
	}
	endpoints := strings.Split(cmp.Or(os.Getenv("ENDPOINTS"), "127.0.0.1:2379"), ",")
	if err := run(endpoints, cmp.Or(os.Getenv("RESOURCES_URL"), "http://localhost:3000/resources"),
		logger); err != nil {
		log.Fatal(err)
	}
}

func run(endpoints []string, resourcesURL string, logger *zap.Logger) error {
	ctx, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer done()
	m, err := start(ctx, endpoints, resourcesURL, logger)
	if err != nil {
		return err
	}
	log.Print("resource manager started")
	select {
	case <-ctx.Done(): // told to end
	case <-m.Done(): // ended by itself
	}
	stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Stop(stopping); err != nil {
		return err
	}
	return m.Err()
}

func start(ctx context.Context, endpoints []string, resourcesURL string, logger *zap.Logger) (*drm.Manager, error) {
	source, err := retriever.NewHTTP(retriever.HTTPConfig{
		URL: resourcesURL, // fetchResourcesHttpOptions.resourcesUrl
	})
	if err != nil {
		return nil, err
	}
	return drm.Start(ctx, drm.Config{
		App:          "resource-manager-test",                     // ringpopOptions.app
		Etcd:         drm.EtcdConfig{Endpoints: endpoints},        // instead of ringpopHosts
		Logger:       logger,                                      // logger
		LoggerFields: []zap.Field{zap.Int("resource-manager", 1)}, // loggerChildConfig
		Retriever:    source,
		Handler:      resourceHandler(&connections{open: map[string]*websocket.Conn{}}), // resourceHandler
	})
}
