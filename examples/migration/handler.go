package main

import (
	"context"
	"encoding/json"
	"log"
	"sync"

	"github.com/coder/websocket"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// connections are the open WebSockets by resource id: what the Node code kept in an object. Calls for different
// resources come at the same time here, so there is a lock around it.
type connections struct {
	mu   sync.Mutex
	open map[string]*websocket.Conn
}

func (cs *connections) put(id string, conn *websocket.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.open[id] = conn
}

func (cs *connections) take(id string) *websocket.Conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	conn := cs.open[id]
	delete(cs.open, id)
	return conn
}

func resourceHandler(cs *connections) drm.Handler {
	return handler.New(handler.Funcs{
		Handle: func(ctx context.Context, c drm.Claim) error { // handleResource
			var resource struct {
				WS string `json:"ws"`
			}
			if err := json.Unmarshal(c.Resource.Data, &resource); err != nil {
				return err
			}
			conn, _, err := websocket.Dial(ctx, resource.WS, nil) //nolint:bodyclose // Dial does
			if err != nil {
				return err
			}
			cs.put(c.Resource.ID, conn)
			log.Printf("handling resource %s", c.Resource.ID)
			return nil
		},
		HandleFailed: func(_ context.Context, c drm.Claim, err error) { // handleFailedResource
			log.Printf("cannot handle %s: %v", c.Resource.ID, err)
		},
		Terminate: func(_ context.Context, c drm.Claim) error { // terminateResource
			log.Printf("terminating resource %s", c.Resource.ID)
			conn := cs.take(c.Resource.ID)
			if conn == nil {
				return nil // its Handle was given up before it connected
			}
			return conn.Close(websocket.StatusNormalClosure, "")
		},
		TerminateFailed: func(_ context.Context, c drm.Claim, err error) { // handleFailedTermination
			log.Printf("cannot terminate %s: %v", c.Resource.ID, err)
		},
	})
}
