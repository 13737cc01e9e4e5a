package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/journal"
	"github.com/distributed-resource-manager/drm/membership"
)

// The states of a member of the demo.
const (
	actorStarting = "starting"
	actorRunning  = "running"
	actorKilled   = "killed"
	actorLeft     = "left"
)

// actor is one member of the demo.
type actor struct {
	id      string
	process *process
	state   string
}

// stage is everything that the demo runs: an etcd, a source and a receiver in this process, and members as processes.
type stage struct {
	app, prefix string
	ids         []string
	first       int
	ttl         time.Duration
	log         io.Writer // also receives what the members log, unless it is nil
	logLevel    string

	journal  journal.Journal
	etcd     *embedded.Server
	client   *drm.Client
	source   string // URL
	receiver string // URL
	closers  []func(context.Context) error

	mu     sync.Mutex
	actors []*actor
}

func newStage(c *cli.Context, app string) (*stage, error) {
	s := &stage{
		app: app, prefix: c.String(flagPrefix), ids: numbered("feed", c.Int(flagResources)),
		first: c.Int(flagMembers), ttl: c.Duration(flagLeaseTTL), logLevel: "warn",
	}
	if c.IsSet(flagLogLevel) {
		if _, _, err := newLogger(c, 0); err != nil {
			return nil, err
		}
		s.log, s.logLevel = c.App.ErrWriter, c.String(flagLogLevel)
	}
	return s, nil
}

// build starts everything but the members.
func (s *stage) build(ctx context.Context) error {
	var err error
	if s.etcd, err = embedded.Start(ctx, embedded.Config{UnsafeNoFsync: true, AutoCompaction: "5m"}); err != nil {
		return err
	}
	s.closers = append(s.closers, func(context.Context) error { return s.etcd.Close() })

	from := &source{}
	from.fill(s.ids)
	if s.source, err = s.serve(from, "/feeds"); err != nil {
		return err
	}
	if s.receiver, err = s.serve(journal.Receiver{Journal: &s.journal}, "/"); err != nil {
		return err
	}
	s.client, err = drm.NewClient(ctx, drm.ClientConfig{
		App: s.app, Prefix: s.prefix, Etcd: drm.EtcdConfig{Endpoints: []string{s.etcd.Endpoint()}},
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func(context.Context) error { return s.client.Close() })
	return nil
}

// serve serves HTTP on a free loopback port.
func (s *stage) serve(h http.Handler, path string) (url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.closers = append(s.closers, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	return "http://" + listener.Addr().String() + path, nil
}

// join starts a member.
func (s *stage) join(id string) (*actor, error) {
	s.journal.Record(journal.Event{Member: id, Action: journal.Started})
	p, err := startProcess(
		s.log, "agent", "--"+flagStopOnEOF, "--"+flagLogLevel, s.logLevel,
		"--"+flagEndpoints, s.etcd.Endpoint(), "--"+flagApp, s.app, "--"+flagPrefix, s.prefix,
		"--"+flagID, id, "--"+flagLeaseTTL, s.ttl.String(),
		"--"+flagSourceURL, s.source, "--"+flagPoll, "10s",
		"--"+flagHandlerURL, s.receiver,
	)
	if err != nil {
		return nil, err
	}
	a := &actor{id: id, process: p, state: actorStarting}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actors = append(s.actors, a)
	return a, nil
}

// kill kills a member, and returns when that happened.
func (s *stage) kill(a *actor) (time.Time, error) {
	s.set(a, actorKilled)
	if err := a.process.kill(); err != nil {
		return time.Time{}, fmt.Errorf("kill %s: %w", a.id, err)
	}
	now := time.Now()
	s.journal.Record(journal.Event{Time: now, Member: a.id, Action: journal.Gone})
	return now, nil
}

// leave stops a member gracefully.
func (s *stage) leave(ctx context.Context, a *actor) error {
	s.set(a, actorLeft)
	if err := a.process.stop(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", a.id, err)
	}
	return nil
}

func (s *stage) set(a *actor, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.state = state
}

// cast is a copy of all members in their present state.
func (s *stage) cast() []actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]actor, 0, len(s.actors))
	for _, a := range s.actors {
		list = append(list, *a)
	}
	return list
}

// live are the members that should be running.
func (s *stage) live() []*actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.actors), func(a *actor) bool {
		return a.state == actorKilled || a.state == actorLeft
	})
}

// settle waits until each resource is handled by the member that should have it, according to etcd and to the journal.
//
// It first asks whether each member is active, and then how many resources are misplaced. A member that is still
// joining owns nothing yet, so without it everything would seem to be in its place.
func (s *stage) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+2*s.ttl)
	defer cancel()
	last := "nothing yet"
	for {
		members, err := s.client.Members(ctx)
		var status drm.Status
		if err == nil {
			status, err = s.client.Status(ctx)
		}
		if err == nil {
			live, holders := s.live(), journal.Holders(s.journal.Events())
			absent := notActive(live, members)
			if len(absent) == 0 && status.Members == len(live) && status.Active == len(s.ids) &&
				status.Misplaced == 0 && len(holders) == len(s.ids) {
				for _, a := range live {
					s.set(a, actorRunning)
				}
				return nil
			}
			last = fmt.Sprintf("%d members, not active of those that should be: %q; "+
				"%d of %d resources active, %d misplaced, %d handled",
				status.Members, absent, status.Active, len(s.ids), status.Misplaced, len(holders))
			if status.Source.Error != "" {
				last += ", source: " + status.Source.Error
			}
		} else if ctx.Err() == nil {
			last = err.Error()
		}
		for _, a := range s.live() {
			select {
			case <-a.process.done:
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("member %s ended by itself: %s", a.id, a.process.log.last())
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the members do not settle: %s: %w", last, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// notActive names those of the actors that are not listed as active members.
func notActive(live []*actor, members []drm.MemberInfo) []string {
	active := make(map[string]bool)
	for _, m := range members {
		active[m.ID] = m.State == string(membership.Active)
	}
	var absent []string
	for _, a := range live {
		if !active[a.id] {
			absent = append(absent, a.id)
		}
	}
	return absent
}

// close ends everything that still runs. The members end first, all at once, because they need the rest.
func (s *stage) close(ctx context.Context) error {
	var g errgroup.Group
	for _, a := range s.live() {
		g.Go(func() error { return s.leave(ctx, a) })
	}
	err := g.Wait()
	for _, f := range slices.Backward(s.closers) {
		err = errors.Join(err, f(ctx))
	}
	s.closers = nil
	return err
}

// commandLine is the command with which a user can look at the app.
func (s *stage) commandLine(words ...string) string {
	line := []string{"drmctl", "--endpoints", s.etcd.Endpoint(), "--app", s.app}
	if s.prefix != drm.DefaultPrefix {
		line = append(line, "--prefix", s.prefix)
	}
	return strings.Join(append(line, words...), " ")
}
