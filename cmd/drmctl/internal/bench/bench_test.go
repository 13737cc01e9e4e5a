package bench

import (
	"context"
	"errors"
	"flag"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	// Most benches wait most of the time at this scale, so more of them run at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	embeddedtest.VerifyTestMain(m)
}

// figures are the figures that each bench has, at any scale. Those that users look at are a contract.
var figures = map[string][]string{
	"claim": {
		"resources", "rounds", "raw_seconds", "handled_seconds", "active_seconds", "handled_of_raw", "active_of_raw",
	},
	"mutex":      {"mutexes_per_second", "handled_per_second", "times_as_fast"},
	"failover":   {"lost", "raw_seconds", "events_seconds", "takeover_seconds", "of_raw", "others_fenced"},
	"handover":   {"moved", "raw_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms", "gap_p99_of_raw"},
	"join-storm": {"handled", "moves_of_single", "lone_join_ms"},
	"idle": {
		"revisions", "polls", "cpu_percent_each", "keys_read", "events", "requests_per_second", "keepalives_per_second",
		"ranges_per_second",
		"txns_per_second", "watches_per_second", "streams_per_second", "authenticates_per_second",
	},
	"many": {
		"apps", "members", "before_cpu_percent", "before_memory_mb", "before_streams", "before_requests_per_second",
		"before_keepalives_per_second", "after_cpu_percent", "after_memory_mb", "after_streams",
		"after_requests_per_second", "after_keepalives_per_second", "raw_cpu_percent",
	},
	"memory": {"bytes_each", "bytes_each_beside_data"},
	"scale": {
		"join_uninvolved", "join_other_events", "join_other_keys_read", "death_uninvolved", "death_other_events",
		"death_other_keys_read",
	},
	"sync": {"first_of_raw", "resync_writes", "resync_keys_read", "resync_seconds", "changes"},
	"rolling": {
		"stable_ids_moves_each", "stable_ids_longest_gap_ms", "rejoin_moves_each", "rejoin_longest_gap_ms",
		"new_ids_moves_each", "new_ids_longest_gap_ms", "new_versions_moves_each", "new_versions_longest_gap_ms",
	},
	"flapping": {
		"before_moves_per_minute", "before_unhandled_seconds_per_minute", "after_moves_per_minute",
		"after_unhandled_seconds_per_minute",
	},
	"million": {"takeover_seconds", "others_fenced", "memory_mb"},
}

// mayBeZero are the figures of what should not happen, or may be too short to see.
var mayBeZero = []string{
	"others_fenced", "revisions", "cpu_percent_each", "keys_read", "events", "events_seconds", "resync_keys_read",
	"join_uninvolved", "join_other_events", "join_other_keys_read", "join_group_events_each",
	"rejoin_moves_each", "before_moves_per_minute", "before_unhandled_seconds_per_minute", "before_unhandled_percent",
	"before_moves_of_first_lives", "after_moves_per_minute", "after_unhandled_seconds_per_minute",
	"after_unhandled_percent", "after_moves_of_first_lives",
	"death_uninvolved", "death_other_events", "death_other_keys_read", "death_group_events_each",
	"before_cpu_percent", "before_memory_mb", "after_cpu_percent", "after_memory_mb", "raw_cpu_percent",
}

func TestEachBenchRunsToItsEndAndTellsItsFigures(t *testing.T) {
	t.Parallel()
	for _, name := range Names() {
		if figures[name] == nil && name != Takeover { // it needs processes of drmctl, and so do its tests
			t.Errorf("the test does not know %s", name)
		}
	}
	for _, name := range Names() {
		if name == "memory" || name == Takeover {
			continue // it has a test of its own
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tells(t, name, 0.005)
		})
	}
}

// This test is not parallel: it measures the heap of the process, where the garbage of other tests would count against
// the member. etcd runs in this process here and counts as well, so there must be enough resources.
func TestMemoryRunsToItsEndAndTellsItsFigures(t *testing.T) { tells(t, "memory", 0.02) }

// tells runs one bench, and fails the test unless it tells each of its figures and leaves nothing in etcd.
func tells(t *testing.T, name string, scale float64) {
	t.Helper()
	server, left := embeddedtest.Server(t), ""
	// Many benches at once are so slow with the race detector that short leases get lost.
	ttl := 20 * time.Second
	if slices.Contains([]string{"failover", "scale", "million"}, name) { // a member dies, and its lease must expire
		ttl = 5 * time.Second
	}
	opts := Options{
		Scale: scale, LeaseTTL: ttl,
		Etcd: func(context.Context) (Etcd, error) { // without Stop, the etcd belongs to somebody else
			return Etcd{Config: drm.EtcdConfig{Endpoints: []string{server.Endpoint()}}}, nil
		},
		Say: func(line string) { left += line + "\n" },
	}
	r, err := Run(t.Context(), name, opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, left)
	}
	if r.Bench != name || r.Reach == "" {
		t.Errorf("%+v", r)
	}
	for _, f := range figures[name] {
		if _, has := r.Figures[f]; !has {
			t.Errorf("no figure %s in %v", f, r.Figures)
		}
	}
	for f, v := range r.Figures {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 ||
			v == 0 && !slices.Contains(mayBeZero, f) &&
				(name != "idle" && name != "many" || !strings.HasSuffix(f, "_per_second")) {
			t.Errorf("%s is %v", f, v)
		}
	}
	client := embeddedtest.Client(t, server.Endpoint())
	resp, err := client.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil || resp.Count != 0 {
		t.Errorf("%d keys are left in etcd, error %v", resp.Count, err)
	}
}

// Where the etcd is the bench's own, idle also turns users on. This test is not parallel: beside other benches, members
// may lose their leases with the race detector, and then there are no keepalives to count.
func TestIdleTellsWhatUsersCost(t *testing.T) {
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) { c.BcryptCost = 4 })
	own := Etcd{
		Config: drm.EtcdConfig{Endpoints: []string{server.Endpoint()}}, Stop: func() error { return nil },
	}
	r, err := Run(t.Context(), "idle", Options{
		Scale: 0.05, LeaseTTL: 10 * time.Second, Etcd: func(context.Context) (Etcd, error) { return own, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{
		"requests_per_second", "keepalives_per_second", "users_requests_per_second", "users_keepalives_per_second",
	} {
		if r.Figures[f] <= 0 {
			t.Errorf("%s is %v", f, r.Figures[f])
		}
	}
	// Each member asks for a token when users are turned on, before the figures are counted.
	if n := r.Figures["users_authenticates_per_second"]; n > 1 {
		t.Errorf("%v requests for tokens a second", n)
	}
}

func TestAnUnknownBenchIsAnError(t *testing.T) {
	if _, err := Run(t.Context(), "speed", Options{}); err == nil || !strings.Contains(err.Error(), "claim, mutex") {
		t.Errorf("error %v", err)
	}
	if Work("speed") != "" {
		t.Error("it does something")
	}
}

func TestAnEtcdThatDoesNotAnswerIsUnreachable(t *testing.T) {
	stopped := false
	opts := Options{Etcd: func(context.Context) (Etcd, error) {
		cfg := drm.EtcdConfig{Endpoints: []string{"127.0.0.1:1"}, DialTimeout: time.Second}
		return Etcd{Config: cfg, Stop: func() error { stopped = true; return nil }}, nil
	}}
	if _, err := Run(t.Context(), "claim", opts); !errors.Is(err, drm.ErrUnreachable) {
		t.Errorf("error %v", err)
	}
	if !stopped {
		t.Error("it is not let go of")
	}
}

func TestABenchEndsWithItsContextAndItsEtcd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var server *embedded.Server
	opts := Options{
		Scale: 0.01, LeaseTTL: 2 * time.Second,
		Etcd: func(ctx context.Context) (e Etcd, err error) {
			if server, err = embedded.Start(ctx, embeddedtest.Config()); err != nil {
				return e, err
			}
			return Etcd{Config: drm.EtcdConfig{Endpoints: []string{server.Endpoint()}}, Stop: server.Close}, nil
		},
		Say: func(line string) {
			if strings.Contains(line, "is dead") {
				cancel()
			}
		},
	}
	if _, err := Run(ctx, "failover", opts); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	select {
	case _, open := <-server.Err():
		if open {
			t.Error("etcd has failed")
		}
	case <-time.After(30 * time.Second):
		t.Error("etcd still runs")
	}
}

func TestCounterTellsGapsAndWhoHandlesWhat(t *testing.T) {
	c := newCounter(3)
	claim := func(member string, n int) drm.Claim {
		return drm.NewClaim("app", member, drm.Resource{ID: id(n)}, 1, nil)
	}
	call := func(f func(context.Context, drm.Claim) error, member string, n int) {
		t.Helper()
		if err := f(t.Context(), claim(member, n)); err != nil {
			t.Fatal(err)
		}
	}
	full := c.expect(2)
	call(c.Handle, "a", 0)
	select {
	case <-full:
		t.Fatal("one is not two")
	default:
	}
	call(c.Handle, "a", 1)
	<-full
	all := func(member string) []string { return slices.Repeat([]string{member}, drm.DefaultShards) }
	if n := c.misplaced(all("a")); n != 1 {
		t.Errorf("%d misplaced, want the one that nobody handles", n)
	}
	call(c.Handle, "b", 2)
	if n := c.misplaced(all("a")); n != 1 {
		t.Errorf("%d misplaced, want the one of b", n)
	}
	call(c.Terminate, "a", 0)
	call(c.Handle, "b", 0)
	call(c.Terminate, "a", 0) // a member that was cut off calls this late
	if n := c.misplaced(all("b")); n != 1 {
		t.Errorf("%d misplaced, want the one of a", n)
	}
	if gaps := c.takeGaps(); len(gaps) != 1 || gaps[0] < 0 {
		t.Errorf("gaps %v, want one", gaps)
	}
	if gaps := c.takeGaps(); len(gaps) != 0 {
		t.Errorf("gaps %v that were taken", gaps)
	}
}

func TestIDsAndNumbersAreEachOthersInverse(t *testing.T) {
	for _, n := range []int{0, 1, 999_999, 9_999_999} {
		if got := number(id(n)); got != n {
			t.Errorf("%d became %s and then %d", n, id(n), got)
		}
	}
	if o := object(7, 100, "x"); len(o) != 100 || (drm.Resource{ID: id(7), Data: o}).Validate() != nil {
		t.Errorf("%s: %d bytes", o, len(o))
	}
}
