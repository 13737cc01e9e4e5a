package main

import (
	"context"
	"encoding/json"

	"github.com/distributed-resource-manager/drm"
)

// operate does what the instance of the original did, and waits for what its promises waited for.
func operate(ctx context.Context, m *drm.Manager, client *drm.Client) error {
	feed := drm.Resource{ID: "7", Data: json.RawMessage(`{"id":"7","ws":"ws://localhost:8080"}`)}
	if err := m.Allocate(ctx, feed); err != nil { // allocateResource: from now on it will be handled, whatever fails
		return err
	}
	if _, err := m.Wait(ctx, "7"); err != nil { // and now it is
		return err
	}
	if err := m.Deallocate(ctx, "7"); err != nil { // deallocateResource
		return err
	}
	return client.WaitGone(ctx, "7") // its Terminate has returned
}
