// Websocket shares six WebSocket connections between two nodes.
//
// There is a WebSocket server that wants exactly one connection a feed, and counts them, and an HTTP source that lists
// the six feeds. A first node holds all six connections. A second node joins and takes over some; the first one has
// closed each of them before the second one opens it. Then the first node leaves, and the second one has all six.
//
//	go run ./websocket
//
// It prints what happens, ends by itself, and fails if a feed ever has more or fewer connections than one. Everything
// runs in this one process, etcd included, but nothing would be different with each node on a machine of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
)

const feeds = 6

func main() {
	lab.Main(func(ctx context.Context) error { return run(ctx, os.Stdout, newServer(), func(string) {}) })
}

// run is the example. It calls after with the name of each step when that is done.
func run(ctx context.Context, out io.Writer, feed *server, after func(step string)) (err error) {
	etcd, stopEtcd, err := lab.Etcd(ctx)
	if err != nil {
		return err
	}
	defer stopEtcd()
	feedURL, stopFeed, err := serve(ctx, feed)
	if err != nil {
		return err
	}
	defer stopFeed()
	sourceURL, stopSource, err := serve(ctx, source("ws"+strings.TrimPrefix(feedURL, "http")))
	if err != nil {
		return err
	}
	defer stopSource()
	client, err := drm.NewClient(ctx, drm.ClientConfig{App: app, Etcd: etcd})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	say := log.New(out, "", 0) // several goroutines print
	broken := func(c drm.Claim, err error) { say.Printf("%s: %v", c.Member, err) }
	step := func(name string, nodes, connections int) error {
		if err := lab.Until(ctx, client, name, func(s drm.Status) bool {
			return lab.Spread(connections, nodes)(s) && len(feed.counts()) == connections
		}); err != nil {
			return err
		}
		say.Printf("%s:\n%s", name, table(feed))
		for path, n := range feed.counts() {
			if n != 1 {
				return fmt.Errorf("%s: %s has %d connections", name, path, n)
			}
		}
		after(name)
		return nil
	}

	one, err := startNode(ctx, etcd, sourceURL, "node-1", broken)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(one)) }()
	if err := step("node-1 is alone", 1, feeds); err != nil {
		return err
	}
	two, err := startNode(ctx, etcd, sourceURL, "node-2", broken)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop(two)) }()
	if err := step("node-2 has joined, and taken over its share", 2, feeds); err != nil {
		return err
	}
	if err := lab.Stop(one); err != nil {
		return err
	}
	if err := step("node-1 has left", 1, feeds); err != nil {
		return err
	}
	if err := lab.Stop(two); err != nil {
		return err
	}
	if n := len(feed.counts()); n > 0 {
		return fmt.Errorf("both nodes have left, and %d connections are open", n)
	}
	say.Print("node-2 has left, and closed all connections")
	after("the end")
	return nil
}

// table describes which node has which feeds.
func table(s *server) string {
	owners := s.owners()
	byNode := map[string][]string{}
	for _, feed := range slices.Sorted(maps.Keys(owners)) {
		byNode[owners[feed]] = append(byNode[owners[feed]], feed)
	}
	var b strings.Builder
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		fmt.Fprintf(&b, "    %s: %s\n", node, strings.Join(byNode[node], " "))
	}
	return b.String()
}

// source lists the feeds, as `{"data":[{"id":"1","ws":"ws://…/feed-1"},…]}`.
func source(base string) http.Handler {
	type resource struct {
		ID string `json:"id"`
		WS string `json:"ws"`
	}
	var list struct {
		Data []resource `json:"data"`
	}
	for n := range feeds {
		list.Data = append(list.Data, resource{ID: fmt.Sprint(n + 1), WS: fmt.Sprintf("%s/feed-%d", base, n+1)})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(list) // the client may be gone
	})
}

// serve serves HTTP on a free port of this machine.
func serve(ctx context.Context, h http.Handler) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(listener) // the error only says that the server was closed
	}()
	return "http://" + listener.Addr().String(), func() {
		cancel()
		_ = s.Close()
		<-served
	}, nil
}
