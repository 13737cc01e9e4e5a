//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

const (
	e2eResources = 1000
	e2eTTL       = 5 * time.Second
	e2ePoll      = time.Second
	// e2ePatience bounds waits that have no bound of their own.
	e2ePatience = 2 * time.Minute
)

// theatre is an etcd, a source, and agents as processes. Each agent has a receiver of its own for its webhooks.
type theatre struct {
	*lab
	endpoints []string // of the etcd
	source    *source
	fetches   *fetchLog
	journal   *journal.Journal
	follower  *journal.Follower
	sourceAt  string
	receivers map[string]*journal.Service     // for each member: its receiver
	sessions  map[string]*journal.Session     // for each member: its receiver, as its present or last process sees it
	hooks     map[string]*httptest.Server     // for each member: the server of its receiver's last address
	front     func(http.Handler) http.Handler // wraps the receivers, unless it is nil
	late      func() time.Duration            // how long a receiver waits before it looks at a request; nil: not at all
	naive     bool                            // makes the receivers compare nothing but tokens
	agents    map[string]*process
	logs      map[string]*beginning // for each member: what all its processes have logged
	flags     []string              // of all agents
	ttl       time.Duration
	// blinks is when somebody began to do things behind the members' backs: from then on, two members may handle a
	// resource until they hear of it. It is zero where nobody does.
	blinks time.Time
}

// newTheatre makes a theatre with an etcd in this process.
func newTheatre(t *testing.T) *theatre {
	t.Helper()
	lines, _ := begin(t, "etcd", "--data-dir", t.TempDir(), "--listen-client", "127.0.0.1:0",
		"--listen-peer", "127.0.0.1:0")
	th := newTheatreAt(t, strings.TrimPrefix(next(t, lines), "endpoint "))
	th.flags = []string{"--command-timeout", "30s"} // the machine may be slow
	return th
}

// newTheatreAt makes a theatre with an etcd that somebody else runs.
func newTheatreAt(t *testing.T, endpoints ...string) *theatre {
	t.Helper()
	th := &theatre{
		lab: &lab{
			t, []string{"--endpoints", strings.Join(endpoints, ","), "--app", "e2e", "--command-timeout", "30s"},
		},
		endpoints: endpoints, ttl: e2eTTL,
		source: &source{}, fetches: &fetchLog{}, journal: &journal.Journal{},
		agents: map[string]*process{}, logs: map[string]*beginning{},
		receivers: map[string]*journal.Service{}, sessions: map[string]*journal.Session{},
		hooks: map[string]*httptest.Server{},
	}
	th.follower = th.journal.Follow()
	src := httptest.NewServer(th.fetches.of(th.source))
	t.Cleanup(src.Close)
	th.sourceAt = src.URL
	return th
}

// receiver gives a process that is about to start an address of its own at its member's receiver.
func (th *theatre) receiver(id string) (url string) {
	if th.receivers[id] == nil {
		th.receivers[id] = journal.NewService(journal.ServiceConfig{
			Journal: th.journal, Delay: th.late, TokensOnly: th.naive,
		})
	}
	th.sessions[id] = th.receivers[id].Session()
	var h http.Handler = th.sessions[id]
	if th.front != nil {
		h = th.front(h)
	}
	hook := httptest.NewServer(h)
	th.t.Cleanup(hook.Close)
	th.hooks[id] = hook
	return hook.URL
}

// quiet waits until no receiver has a request that it has not looked at.
func (th *theatre) quiet() {
	th.t.Helper()
	eventually(th.t, func() error {
		for id, r := range th.receivers {
			if n := r.Waiting(); n > 0 {
				return fmt.Errorf("%d requests lie in the receiver of %s", n, id)
			}
		}
		return nil
	})
}

// fetchLog notes when a source was asked.
type fetchLog struct {
	mu  sync.Mutex
	all []time.Time
}

func (l *fetchLog) of(s http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.all = append(l.all, time.Now())
		l.mu.Unlock()
		s.ServeHTTP(w, r)
	})
}

// count returns how often the source has been asked.
func (l *fetchLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// at returns when the source was asked for the n-th time, counted from 1. ok is false where it has not been yet.
func (l *fetchLog) at(n int) (when time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > len(l.all) {
		return time.Time{}, false
	}
	return l.all[n-1], true
}

// start runs an agent as a process of its own. The flags in more win over those that all agents have.
func (th *theatre) start(id string, more ...string) {
	th.t.Helper()
	th.startAs(nil, id, more...)
}

// startAs is start with a helper of the test binary that runs the agent.
func (th *theatre) startAs(helper []string, id string, more ...string) {
	th.t.Helper()
	th.journal.Record(journal.Event{Member: id, Action: journal.Started})
	if th.logs[id] == nil {
		th.logs[id] = &beginning{}
	}
	var log io.Writer = th.logs[id]
	if os.Getenv("DRM_TEST_LOG") != "" {
		log = io.MultiWriter(log, os.Stderr)
	}
	args := append(slices.Clone(helper), "agent", "--endpoints", strings.Join(th.endpoints, ","), "--app", "e2e")
	args = append(args, "--stop-on-eof", "--id", id, "--lease-ttl", th.ttl.String(), "--poll", e2ePoll.String(),
		"--source-url", th.sourceAt, "--handler-url", th.receiver(id))
	args = append(append(args, th.flags...), more...)
	p, err := startProcess(log, args...)
	if err != nil {
		th.t.Fatal(err)
	}
	th.agents[id] = p
	th.t.Cleanup(func() { _ = p.kill() })
}

// beginning keeps the beginning of what is written to it, since the first thing that went wrong tells most.
type beginning struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer. It never fails.
func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 1 << 20
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return len(p), nil
}

// all returns what was kept.
func (b *beginning) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// warnings returns the lines that tell of anything unusual, the first most of them.
func (b *beginning) warnings(most int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b.text)), "\n"),
		func(l string) bool { return strings.Contains(l, "\tINFO\t") })
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("and %d lines more", more))
	}
	return strings.Join(lines, "\n")
}

// kill ends an agent with SIGKILL, and returns when that was. The agent's receiver watches it, and ends what it had.
func (th *theatre) kill(id string) time.Time {
	th.t.Helper()
	if err := th.agents[id].kill(); err != nil {
		th.t.Fatal(err)
	}
	at := time.Now()
	th.sessions[id].End(id, at)
	return at
}

// terminate ends an agent with SIGTERM, and expects it to end well.
func (th *theatre) terminate(id string) {
	th.t.Helper()
	p := th.agents[id]
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		th.t.Fatal(err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			th.t.Fatalf("%s ended with %v: %s", id, p.err, p.log.last())
		}
	case <-time.After(e2ePatience):
		th.t.Fatalf("%s does not end", id)
	}
}

// holders waits until the resources are handled as ok wants, and returns who handles what.
func (th *theatre) holders(what string, ok func(map[string]string) bool) map[string]string {
	th.t.Helper()
	deadline := time.After(e2ePatience)
	for {
		held, twice := map[string]string{}, []string(nil)
		for r, members := range th.follower.Holders() {
			if len(members) > 1 && th.blinks.IsZero() {
				th.t.Fatalf("%s is handled by %v at once", r, members)
			}
			if len(members) > 1 {
				twice = append(twice, fmt.Sprint(r, " by ", members))
			}
			held[r] = members[0]
		}
		if len(twice) == 0 && ok(held) {
			return held
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			th.t.Fatalf("not in time: %s; %d are handled, and %d by more than one: %v", what, len(held), len(twice),
				twice)
		}
	}
}

// settled waits until these members, and no others, share n resources, all where they belong.
func (th *theatre) settled(n int, members ...string) map[string]string {
	th.t.Helper()
	return th.holders(fmt.Sprintf("%d resources are with %v", n, members), func(held map[string]string) bool {
		by := map[string]int{}
		for _, m := range held {
			by[m]++
		}
		if len(held) != n || !slices.Equal(slices.Sorted(maps.Keys(by)), members) {
			return false
		}
		s, ok := th.status()
		return ok && s.Active == n && s.Misplaced == 0 && s.Members == len(members)
	})
}

// status returns the output of drmctl status, if etcd answers.
func (th *theatre) status() (s statusJSON, ok bool) {
	th.t.Helper()
	got := drmctl(th.t.Context(), append(th.args(), "--command-timeout", "5s", "-o", "json", "status")...)
	return s, got.code == exitFine && json.Unmarshal([]byte(got.stdout), &s) == nil
}

// since returns the events from the n-th on that are about resources.
func (th *theatre) since(n int) []journal.Event {
	var events []journal.Event
	for _, e := range th.journal.Events()[n:] {
		if e.Resource != "" {
			events = append(events, e)
		}
	}
	return events
}

// lastDeletion watches the app. It returns a function that tells when etcd last deleted a key.
func (th *theatre) lastDeletion() func() time.Time {
	client := embeddedtest.Client(th.t, th.endpoints...)
	var mu sync.Mutex
	var last time.Time
	ctx, cancel := context.WithCancel(th.t.Context())
	watch := client.Watch(ctx, "/drm/e2e/", clientv3.WithPrefix(), clientv3.WithFilterPut())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range watch {
			mu.Lock()
			last = time.Now()
			mu.Unlock()
		}
	}()
	th.t.Cleanup(func() { cancel(); <-ended })
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

// judgeTakeover compares with the TTL when, after the kill, the first and the last of a killed member's resources were
// handled again.
//
// None may be handled sooner than TTL·4/5 after the kill. A member sends keepalives every TTL/5, for all its leases at
// once, and etcd counts from when it gets one. So the last keepalive that etcd can have got was sent no longer than
// TTL/5 before the kill, and the claims live for a TTL from then on.
//
// The last may be handled no later than the TTL and a second after the kill. Where the machine is slow (other tests,
// the race detector), what counts is the time after etcd's expiry: no more than a tenth of it, or three graceful
// handovers of the same run.
func (th *theatre) judgeTakeover(first, last, expired, handover time.Duration) {
	th.t.Helper()
	th.t.Logf("the resources of the killed member were handled again after %v to %v; "+
		"etcd had its keys expired after %v; a graceful handover took %v",
		first.Round(time.Millisecond), last.Round(time.Millisecond), expired.Round(time.Millisecond),
		handover.Round(time.Millisecond))
	if bound := th.ttl * 4 / 5; first < bound {
		th.t.Errorf("a resource was handled again %v after the kill, and its claim lived for %v at least", first, bound)
	}
	if bound := max(th.ttl+time.Second, expired*11/10, expired+3*handover); last > bound {
		th.t.Errorf("a resource was handled again %v after the kill, want %v", last, bound)
	}
}

// judgeChange compares the time of the last call after a change of the source with the source's polls. The source had
// been asked n times when it changed, so the next poll brings the change, and all calls must have ended before the
// second poll after that one. Where the machine is slow, a handover in the same run tells how long calls take.
func (th *theatre) judgeChange(n int, done time.Time, handover time.Duration) {
	th.t.Helper()
	told, ok := th.fetches.at(n + 1)
	if !ok { // the poll that was under way brought the change
		told, _ = th.fetches.at(n)
	}
	th.t.Logf("the change of the source was done with %v after the source was asked",
		done.Sub(told).Round(time.Millisecond))
	if late, ok := th.fetches.at(n + 3); ok && done.After(late) && done.After(told.Add(3*handover)) {
		th.t.Errorf(
			"the change was done with %v after the source was asked, and %v after it was asked another two times",
			done.Sub(told), done.Sub(late))
	}
}
