package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/procfs"
	"github.com/distributed-resource-manager/drm/shard"
)

// Process is a drmctl in a process of its own.
type Process interface {
	PID() int
	// Kill ends it with SIGKILL, if it has not ended, and waits for its end.
	Kill() error
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Last is the last line that it has logged.
	Last() string
}

const (
	takeoverRuns      = 10
	takeoverResources = 1000
	// mostAboveRaw is how much longer than raw a takeover may take.
	mostAboveRaw = 100 * time.Millisecond
)

// The ids of the members of the takeover bench.
const (
	victimID   = "victim"
	survivorID = "survivor-%d"
	survivors  = 3
)

// takeover kills an agent that has all of the resources, with drmctl run above it and without, in turn. It measures how
// long it takes until another member handles the last of them, and beside that how long etcd needs to delete as many
// keys with their lease and to put them again.
func takeover(ctx context.Context, l *lab) (figures map[string]float64, ok bool, err error) {
	if l.opts.Spawn == nil {
		return nil, false, errors.New("no way to start processes")
	}
	n, runs := max(1, int(float64(l.opts.Resources)*l.opts.Scale)), l.opts.Runs
	latch := &latch{}
	for i := range survivors {
		_, err := l.start(ctx, fmt.Sprintf(survivorID, i), func(c *drm.Config) {
			c.Handler, c.BalanceMoves = latch, drm.NoBalance // so that the victim has all of the resources
		})
		if err != nil {
			return nil, false, err
		}
	}
	var with, without, raw []time.Duration
	for i := range runs {
		for _, supervised := range []bool{true, false} {
			took, err := l.killed(ctx, latch, n, supervised, i == 0 && supervised)
			if err != nil {
				return nil, false, err
			}
			alone, err := l.rawTakeover(ctx, n)
			if err != nil {
				return nil, false, err
			}
			raw = append(raw, alone)
			if supervised {
				with = append(with, took)
			} else {
				without = append(without, took)
			}
			l.say("run %d of %d, supervised %t: %v; raw %v", i+1, runs, supervised, took.Round(time.Millisecond/10),
				alone.Round(time.Millisecond/10))
		}
	}
	above := max(quantile(with, 99)-quantile(raw, 50), 0)
	return map[string]float64{
		"resources": float64(n), "runs": float64(runs), "raw_p50_ms": ms(quantile(raw, 50)),
		"raw_p99_ms": ms(quantile(raw, 99)), "supervised_p50_ms": ms(quantile(with, 50)),
		"supervised_p99_ms": ms(quantile(with, 99)), "alone_p50_ms": ms(quantile(without, 50)),
		"alone_p99_ms": ms(quantile(without, 99)), "above_raw_ms": ms(above),
	}, above <= mostAboveRaw, nil
}

// killed starts an agent that gets n resources, kills it, and returns how long it took from the kill to the last Handle
// of another member. The first time, it makes the resources.
func (l *lab) killed(ctx context.Context, latch *latch, n int, supervised, first bool) (took time.Duration, err error) {
	// A member that dies again and again stays away for longer and longer. This one is to have its share at once.
	if _, err := l.client.Delete(ctx, l.layout.Lives(victimID)); err != nil {
		return 0, err
	}
	p, err := l.spawnVictim(supervised)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Kill()) }()
	if first {
		if err := l.fillVictim(ctx, p, n); err != nil {
			return 0, err
		}
	}
	if err := l.hasAll(ctx, p, n); err != nil {
		return 0, err
	}
	if err := l.age(ctx); err != nil {
		return 0, err
	}
	pid := p.PID()
	if supervised {
		if pid, err = childOf(p); err != nil {
			return 0, err
		}
	}
	full := latch.expect(n)
	began := time.Now()
	if err := kill(pid); err != nil {
		return 0, fmt.Errorf("kill the agent: %w", err)
	}
	if err := await(ctx, "all are handled again", full); err != nil {
		return 0, err
	}
	return latch.reached().Sub(began), nil
}

// kill ends a process without a word.
func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // nothing depends on it
	return p.Signal(syscall.SIGKILL)
}

// spawnVictim starts the agent that will be killed.
func (l *lab) spawnVictim(supervised bool) (Process, error) {
	ttl := l.opts.LeaseTTL
	if ttl == 0 {
		ttl = drm.DefaultLeaseTTL
	}
	flags := []string{"--endpoints", strings.Join(l.etcd.Config.Endpoints, ","), "--prefix", l.prefix, "--app", app}
	agent := append([]string{"agent"}, flags...)
	agent = append(agent, "--id", victimID, "--lease-ttl", ttl.String(), "--allocate-only", "--handler-log")
	if !supervised {
		return l.opts.Spawn(agent...)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find drmctl itself: %w", err)
	}
	run := append([]string{"run", "--no-restart"}, flags...)
	return l.opts.Spawn(append(append(run, "--", self), agent...)...)
}

// fillVictim puts n resources into the catalogue that belong to the victim.
func (l *lab) fillVictim(ctx context.Context, p Process, n int) error {
	var owners []string
	err := l.until(ctx, p, func(ctx context.Context) (bool, string, error) {
		all, active, err := l.owners(ctx)
		owners = all
		return active == survivors+1, fmt.Sprintf("%d members are active, want %d", active, survivors+1), err
	})
	if err != nil {
		return err
	}
	var ops []clientv3.Op
	for i := 0; len(ops) < n; i++ {
		if s := shard.Of(id(i), len(owners)); owners[s] == victimID {
			e := catalogue.Entry{Allocated: true, Data: object(i, dataBytes, "x")}
			ops = append(ops, clientv3.OpPut(l.layout.Resource(s, id(i)), string(e.Encode())))
		}
	}
	_, err = batched(ctx, l.client, drm.DefaultMaxInFlight, ops)
	return err
}

// hasAll waits until the victim handles all n resources.
func (l *lab) hasAll(ctx context.Context, p Process, n int) error {
	c, err := drm.NewClient(ctx, drm.ClientConfig{App: app, Prefix: l.prefix, Etcd: drm.EtcdConfig{Client: l.client}})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // this does not close the connection, which belongs to the lab
	return l.until(ctx, p, func(ctx context.Context) (bool, string, error) {
		all, err := c.Assignments(ctx, drm.AssignmentFilter{Member: victimID})
		if err != nil {
			return false, "", err
		}
		has := 0
		for _, a := range all {
			if a.State == drm.StateActive {
				has++
			}
		}
		return has == n, fmt.Sprintf("the agent handles %d of %d resources", has, n), nil
	})
}

// until waits until ok says yes, for patience at most, or the process ends.
func (l *lab) until(ctx context.Context, p Process, ok func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		done, saw, err := ok(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s: the agent has ended: %s", saw, p.Last())
		default:
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", saw, err)
		}
	}
}

// rawTakeover measures how long etcd takes to revoke a lease with n keys like those of claims, and to put as many keys
// on another lease.
func (l *lab) rawTakeover(ctx context.Context, n int) (time.Duration, error) {
	var leases [2]clientv3.LeaseID
	for i := range leases {
		granted, err := l.client.Grant(ctx, int64(patience/time.Second))
		if err != nil {
			return 0, fmt.Errorf("raw: get a lease: %w", err)
		}
		leases[i] = granted.ID
	}
	value := string(object(0, claimBytes, "x"))
	ops := func(lease clientv3.LeaseID) []clientv3.Op {
		return l.rawOps(
			n,
			func(key string) clientv3.Op { return clientv3.OpPut(key, value, clientv3.WithLease(lease)) },
		)
	}
	if _, err := batched(ctx, l.client, drm.DefaultMaxInFlight, ops(leases[0])); err != nil {
		return 0, err
	}
	again := ops(leases[1])
	began := time.Now()
	if _, err := l.client.Revoke(ctx, leases[0]); err != nil {
		return 0, fmt.Errorf("raw: revoke a lease: %w", err)
	}
	if _, err := batched(ctx, l.client, drm.DefaultMaxInFlight, again); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if _, err := l.client.Revoke(ctx, leases[1]); err != nil {
		return 0, fmt.Errorf("raw: revoke a lease: %w", err)
	}
	return took, nil
}

// childOf returns the process that a supervisor has started.
func childOf(p Process) (int, error) {
	if below := procfs.Children(procfs.Lists(strconv.Itoa(p.PID()))); len(below) > 0 {
		return below[0], nil
	}
	return 0, fmt.Errorf("the supervisor has no process below it: %s", p.Last())
}

// quantile returns the least duration that percent of all are not above.
func quantile(all []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

// latch is a handler that tells when so many resources were handled.
type latch struct {
	mu   sync.Mutex
	left int
	full chan struct{}
	last time.Time
}

// expect returns a channel that is closed when n more were handled from now on.
func (h *latch) expect(n int) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left, h.full = n, make(chan struct{})
	return h.full
}

// reached returns when that was.
func (h *latch) reached() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Handle implements drm.Handler.
func (h *latch) Handle(context.Context, drm.Claim) error {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left--; h.left == 0 {
		h.last = now
		close(h.full)
	}
	return nil
}

// Terminate implements drm.Handler.
func (h *latch) Terminate(context.Context, drm.Claim) error { return nil }

// HandleFailed implements drm.Handler. It is never called, since Handle does not fail.
func (h *latch) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed implements drm.Handler. It is never called, since Terminate does not fail.
func (h *latch) TerminateFailed(context.Context, drm.Claim, error) {}
