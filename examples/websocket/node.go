package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/retriever"
)

// app names the group: every node of it has the same name and etcd.
const app = "websocket-example"

// startNode makes a process a member of the group. This, and connect, is all that a program of your own needs.
func startNode(
	ctx context.Context, etcd drm.EtcdConfig, sourceURL, id string, broken func(drm.Claim, error),
) (*drm.Manager, error) {
	source, err := retriever.NewHTTP(retriever.HTTPConfig{URL: sourceURL})
	if err != nil {
		return nil, err
	}
	connections, err := handler.NewLoop(connect, handler.LoopConfig{OnReturn: broken})
	if err != nil {
		return nil, err
	}
	return drm.Start(ctx, drm.Config{App: app, ID: id, Etcd: etcd, Retriever: source, Handler: connections})
}

// goodbye is how long a server may take to let a connection go.
const goodbye = 5 * time.Second

// connect holds the WebSocket of one resource until ctx ends. When the connection breaks it returns an error, and the
// Loop calls it again after a pause.
func connect(ctx context.Context, c drm.Claim) error {
	var feed struct {
		WS string `json:"ws"`
	}
	if err := json.Unmarshal(c.Resource.Data, &feed); err != nil {
		return err
	}
	options := &websocket.DialOptions{HTTPHeader: http.Header{
		"DRM-Token":  {strconv.FormatInt(c.Token, 10)}, // lets the server refuse a node that has lost the feed
		"User-Agent": {c.Member},
	}}
	conn, _, err := websocket.Dial(ctx, feed.WS, options) //nolint:bodyclose // Dial does
	if err != nil {
		return fmt.Errorf("connect to %s: %w", feed.WS, err)
	}
	var broke error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for broke == nil {
			_, _, broke = conn.Read(context.Background()) // a program would look at the message
		}
	}()
	select {
	case <-ended:
		return fmt.Errorf("the connection to %s broke: %w", feed.WS, broke)
	case <-ctx.Done(): // the resource goes to another node, or away
	}
	// The other node connects when this has returned. So this waits until the server has let the feed go, but never for
	// longer than the claim surely belongs to this node.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(goodbye, c.Remaining()))
	defer cancel()
	err = conn.Write(closing, websocket.MessageText, []byte("bye"))
	if err == nil {
		select {
		case <-ended:
			return nil
		case <-closing.Done():
			err = closing.Err()
		}
	}
	_ = conn.CloseNow()
	<-ended
	return fmt.Errorf("say goodbye to %s: %w", feed.WS, err)
}
