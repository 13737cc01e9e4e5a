// Package lab has what the examples share: an etcd to run on, and waiting until an app is in some state.
package lab

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
)

// Main runs an example, for two minutes at most, and ends the process with exit code 1 where it fails.
func Main(example func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	err := example(ctx)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
}

// Etcd starts an etcd in this process, which keeps nothing. Programs of your own connect to a real one:
// drm.EtcdConfig{Endpoints: []string{"etcd-1:2379", …}}, or `drmctl etcd` on a developer's machine.
func Etcd(ctx context.Context) (cfg drm.EtcdConfig, stop func(), err error) {
	server, err := embedded.Start(ctx, embedded.Config{UnsafeNoFsync: true})
	if err != nil {
		return drm.EtcdConfig{}, nil, err
	}
	return drm.EtcdConfig{Endpoints: []string{server.Endpoint()}}, func() { _ = server.Close() }, nil
}

// Until returns when ok returns true for the app's state. If it never does, the error describes the app's last state.
func Until(ctx context.Context, app *drm.Client, what string, ok func(drm.Status) bool) error {
	for {
		status, err := app.Status(ctx)
		if err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		if ok(status) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; the app is %+v", what, context.Cause(ctx), status)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Spread returns a condition for Until: so many members share n resources, and each resource is where it belongs.
func Spread(n, members int) func(drm.Status) bool {
	return func(s drm.Status) bool {
		return s.Resources == n && s.Active == n && s.Misplaced == 0 && s.Members == members
	}
}

// Stop stops a member. It does not wait for ever.
func Stop(m *drm.Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.Stop(ctx)
}
