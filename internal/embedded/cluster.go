package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Cluster is several etcd servers in this process that form one cluster. Its methods are safe for concurrent use.
type Cluster struct {
	tempDir   string // the folder to remove; "" if the caller named one
	configs   []Config
	endpoints []string

	mu      sync.Mutex // held while a member starts or stops
	servers []*Server  // nil if the member is stopped
}

// StartCluster starts n members and returns once all of them serve requests. cfg applies to each member, except that
// DataDir is the parent of their data dirs, and that the addresses, if given, must have port 0.
func StartCluster(ctx context.Context, n int, cfg Config) (*Cluster, error) {
	for attempt := 1; ; attempt++ {
		c, err := startCluster(ctx, n, cfg)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errPortTaken) || attempt == portAttempts {
			return nil, fmt.Errorf("start embedded etcd cluster: %w", err)
		}
	}
}

func startCluster(ctx context.Context, n int, cfg Config) (_ *Cluster, err error) {
	if n < 1 {
		return nil, fmt.Errorf("members: got %d, want at least 1", n)
	}
	c := &Cluster{configs: make([]Config, n), endpoints: make([]string, n), servers: make([]*Server, n)}
	dir := cfg.DataDir
	if dir == "" {
		if c.tempDir, err = os.MkdirTemp("", "drm-etcd-"); err != nil {
			return nil, fmt.Errorf("make a data dir: %w", err)
		}
		dir = c.tempDir
	}
	if err := c.configure(cfg, dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	// All members start at once, since none is ready before a majority is.
	group, gctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() (err error) {
			c.servers[i], err = start(gctx, c.configs[i])
			if isListenError(err) { // configure has picked the ports
				return fmt.Errorf("%w: %w", errPortTaken, err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// configure picks the ports of all members before any of them starts, since each needs to know all.
func (c *Cluster) configure(cfg Config, dir string) error {
	var members []string
	var probes []net.Listener
	defer func() {
		for _, p := range probes {
			_ = p.Close()
		}
	}()
	for i := range c.configs {
		client, probe, err := parseAddress("client address", cfg.ListenClient)
		if err != nil {
			return err
		}
		probes = append(probes, probe)
		peer, probe, err := parseAddress("peer address", cfg.ListenPeer)
		if err != nil {
			return err
		}
		probes = append(probes, probe)
		if !client.picked || !peer.picked {
			return errors.New("a cluster's addresses must have port 0")
		}
		m := cfg
		m.Name = fmt.Sprintf("%s%d", cmp.Or(cfg.Name, "drm"), i)
		m.DataDir = filepath.Join(dir, m.Name)
		m.ListenClient, m.ListenPeer = client.listen, peer.listen
		c.configs[i], c.endpoints[i] = m, client.dial
		members = append(members, m.Name+"=http://"+peer.dial)
	}
	for i := range c.configs {
		c.configs[i].InitialCluster = strings.Join(members, ",")
	}
	return nil
}

// Endpoints are where clients reach the members, in order, including stopped members.
func (c *Cluster) Endpoints() []string { return append([]string(nil), c.endpoints...) }

// Leader is the index of the member that leads, or -1 while none does.
func (c *Cluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s != nil && s.etcd.Server.Leader() == s.etcd.Server.MemberID() {
			return i
		}
	}
	return -1
}

// Stop stops member i in good order (a leader hands over first), and waits. Its data stay. If it is stopped already,
// Stop does nothing.
func (c *Cluster) Stop(i int) error { return c.stop(i, false) }

// Kill stops member i as a crash would: a leader does not hand over, so the others have to notice and elect another
// one. Its data stay. If it is stopped already, Kill does nothing.
func (c *Cluster) Kill(i int) error { return c.stop(i, true) }

func (c *Cluster) stop(i int, hard bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[i]
	c.servers[i] = nil
	if s == nil {
		return nil
	}
	return s.close(hard)
}

// Restart starts the stopped member i with its data and its addresses, and waits until it is ready or ctx ends. It is
// never ready while no majority of the members runs. If it runs already, Restart does nothing.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[i] != nil {
		return nil
	}
	s, err := Start(ctx, c.configs[i])
	if err != nil {
		return fmt.Errorf("restart member %d: %w", i, err)
	}
	c.servers[i] = s
	return nil
}

// Close stops all members, waits, and removes a temporary folder. Further calls do nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// All stop at once, and hard: in turn, each leader would look for a successor among those that remain.
	var group errgroup.Group
	for i, s := range c.servers {
		if s != nil {
			c.servers[i] = nil
			group.Go(func() error { return s.close(true) })
		}
	}
	err := group.Wait()
	if c.tempDir != "" {
		err = errors.Join(err, os.RemoveAll(c.tempDir))
	}
	return err
}
