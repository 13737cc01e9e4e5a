//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// node is an etcd server as a process of its own, with fsync and etcd's default timeouts. It can be started again on
// its data.
type node struct {
	t        *testing.T
	endpoint string
	args     []string
	*process
}

// newEtcd starts n servers, and waits until they answer. One alone is drmctl etcd.
func newEtcd(t *testing.T, n int) []*node {
	t.Helper()
	a := freeAddresses(t, 2*n)
	clients, peers := a[:n], a[n:]
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d=http://%s", i, peers[i])
	}
	nodes := make([]*node, n)
	for i := range nodes {
		args := []string{asNode, fmt.Sprintf("n%d", i), t.TempDir(), clients[i], peers[i], strings.Join(names, ",")}
		if n == 1 {
			args = []string{"etcd", "--data-dir", t.TempDir(), "--listen-client", clients[i], "--listen-peer", peers[i]}
		}
		nodes[i] = &node{t: t, endpoint: clients[i], args: args}
		nodes[i].begin()
	}
	if n > 0 {
		answers(t, nodes...)
	}
	return nodes
}

// freeAddresses returns addresses on loopback that are free for now.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		for { // all differ
			addresses[i] = embeddedtest.Address(t)
			if !slices.Contains(addresses[:i], addresses[i]) {
				break
			}
		}
	}
	return addresses
}

// dataDir is where the server keeps its data.
func (n *node) dataDir() string { return n.args[2] }

// begin starts the server, and does not wait until it answers.
func (n *node) begin() {
	n.t.Helper()
	p, err := startProcess(nil, n.args...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.process = p
	n.t.Cleanup(func() { _ = p.kill() })
}

// end kills the server.
func (n *node) end() {
	n.t.Helper()
	if err := n.kill(); err != nil {
		n.t.Fatal(err)
	}
}

// runNode makes the test binary one server of a cluster, since drmctl etcd can only be a server alone.
func runNode(args []string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	server, err := embedded.Start(ctx, embedded.Config{
		Name: args[0], DataDir: args[1], ListenClient: args[2], ListenPeer: args[3], InitialCluster: args[4],
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	<-ctx.Done()
	_ = server.Close()
	return exitFine
}

// roles finds out which of the nodes leads.
func roles(t *testing.T, nodes []*node) (leader *node, followers []*node) {
	t.Helper()
	client := embeddedtest.Client(t, endpoints(nodes)...)
	eventually(t, func() error {
		leader, followers = nil, nil
		for _, n := range nodes {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s, err := client.Status(ctx, n.endpoint)
			cancel()
			switch {
			case err != nil:
				return err
			case s.Leader == s.Header.MemberId:
				leader = n
			default:
				followers = append(followers, n)
			}
		}
		if leader == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return leader, followers
}

func endpoints(nodes []*node) []string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.endpoint)
	}
	return list
}

// answers waits until the nodes can agree, and returns how long that took.
func answers(t *testing.T, nodes ...*node) time.Duration {
	t.Helper()
	began := time.Now()
	client := embeddedtest.Client(t, endpoints(nodes)...)
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := client.Get(ctx, "k", clientv3.WithCountOnly())
		return err
	})
	return time.Since(began)
}
