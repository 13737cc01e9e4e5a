package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/member"
)

// poisoned is a group of members, some of whose resources end the member that handles them. A member that has ended is
// one whose loop stands still for good: it writes nothing, and its leases expire, as those of a process that is dead.
type poisoned struct {
	*world
	harmless atomic.Bool // the poison is none any more

	mu      sync.Mutex
	members map[string]*drm.Manager
	dead    map[string]func() // by member: lets its loop go on, at the end of the test
	handled map[string]string // by resource: the member that has begun with it last
}

func newPoisoned(t *testing.T) *poisoned {
	w := newWorld(t)
	w.options = member.Options{Young: 2 * time.Second}
	p := &poisoned{
		world: w, members: map[string]*drm.Manager{}, dead: map[string]func(){}, handled: map[string]string{},
	}
	t.Cleanup(p.bury)
	return p
}

// bury lets the members that are dead end in order.
func (p *poisoned) bury() {
	p.harmless.Store(true)
	p.mu.Lock()
	for _, release := range p.dead {
		release()
	}
	p.mu.Unlock()
	for _, m := range p.members {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_ = m.Stop(ctx) // what it had has expired
		cancel()
	}
}

func (p *poisoned) begin(id string) {
	p.tb.Helper()
	cfg := p.config(id, p)
	cfg.LeaseTTL = 3 * time.Second
	m := p.startOnly(cfg)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members[id] = m
}

// Handle implements drm.Handler.
func (p *poisoned) Handle(_ context.Context, c drm.Claim) error {
	p.mu.Lock()
	m, dead := p.members[c.Member], p.dead[c.Member] != nil
	if !dead {
		p.handled[c.Resource.ID] = c.Member
	}
	p.mu.Unlock()
	if strings.HasPrefix(c.Resource.ID, "poison") && !p.harmless.Load() && m != nil && !dead {
		release := p.probe(m).Wedge()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dead[c.Member] = release
	}
	return nil
}

// Terminate implements drm.Handler.
func (p *poisoned) Terminate(context.Context, drm.Claim) error { return nil }

// HandleFailed implements drm.Handler.
func (p *poisoned) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed implements drm.Handler.
func (p *poisoned) TerminateFailed(context.Context, drm.Claim, error) {}

// deaths counts the members that are dead.
func (p *poisoned) deaths() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dead)
}

// areHandled says whether living members have begun with all of these resources.
func (p *poisoned) areHandled(all []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range all {
		if m, begun := p.handled[id]; !begun || p.dead[m] != nil {
			return false
		}
	}
	return true
}

// eventually waits until ok returns true.
func (p *poisoned) eventually(what string, ok func() bool) {
	p.tb.Helper()
	for deadline := time.Now().Add(2 * patience); !ok(); {
		if time.Now().After(deadline) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.tb.Fatalf("not in time: %s; %d are dead; handled last: %v", what, len(p.dead), p.handled)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		<-ctx.Done()
		cancel()
	}
}

func TestAPoisonResourceEndsThreeMembersAtMost(t *testing.T) {
	t.Parallel()
	p := newPoisoned(t)
	for i := range 4 {
		p.begin(fmt.Sprintf("m%d", i))
	}
	c := p.client()
	good := ids(30)
	for _, id := range append([]string{"poison"}, good...) {
		if err := c.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		p.eventually(fmt.Sprintf("death %d", n+1), func() bool { return p.deaths() > n })
		p.eventually("the good ones are handled", func() bool { return p.areHandled(good) })
	}
	var found drm.Assignment
	p.eventually("the poison is quarantined", func() bool {
		var err error
		found, err = c.Lookup(t.Context(), "poison")
		return err == nil && found.State == drm.StateQuarantined
	})
	if !strings.Contains(found.Error, "3 members died") || !strings.Contains(found.Error, "drmctl retry") {
		t.Errorf("the evidence is %q", found.Error)
	}
	p.eventually("the good ones are handled", func() bool { return p.areHandled(good) })
	if n := p.deaths(); n != 3 {
		t.Errorf("%d members died, want 3", n)
	}
	all, err := c.Quarantined(t.Context())
	if err != nil || len(all) != 1 || all[0] != "poison" {
		t.Errorf("%q are quarantined (%v), want the poison alone", all, err)
	}
	p.eventually("the status counts it", func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Quarantined == 1 && s.Active == 30 && s.Corrupt == 0
	})
	p.eventually("nothing is suspected any more", func() bool { return p.trails() == 0 })

	p.harmless.Store(true)
	if freed, err := c.RetryQuarantined(t.Context()); err != nil || len(freed) != 1 || freed[0] != "poison" {
		t.Fatalf("freed %q, %v", freed, err)
	}
	if _, err := c.Wait(t.Context(), "poison"); err != nil {
		t.Fatal(err)
	}
	if was, err := c.RetryWith(t.Context(), "poison", drm.OrderOptions{}); err != nil || was != "" {
		t.Errorf("Retry of what is not quarantined: it was %q, %v", was, err)
	}
	if err := c.Retry(t.Context(), "another"); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("Retry of what there is not: %v", err)
	}
}

// trails counts the trails in etcd.
func (p *poisoned) trails() int {
	n := 0
	layout := keys.New("/drm", p.app)
	resp, err := p.etcd.Get(p.tb.Context(), layout.Shards(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if layout.Parse(string(kv.Key)).Kind == keys.Trail {
			n++
		}
	}
	return n
}

func TestOtherDataFreeWhatIsQuarantined(t *testing.T) {
	t.Parallel()
	p := newPoisoned(t)
	p.begin("m")
	c := p.client()
	for _, id := range []string{"a", "poison"} {
		if err := c.Allocate(t.Context(), drm.Resource{ID: id, Data: []byte(`{"id":"` + id + `","v":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 3; n++ {
		p.eventually("the member dies", func() bool { return p.deaths() == n })
		p.begin(fmt.Sprintf("m%d", n))
	}
	p.eventually("the poison is quarantined", func() bool {
		a, err := c.Lookup(t.Context(), "poison")
		return err == nil && a.State == drm.StateQuarantined
	})
	_ = waitSays(t, "quarantined: 3 members died", func(ctx context.Context) error {
		_, err := c.Wait(ctx, "poison")
		return err
	})
	p.harmless.Store(true)
	if err := c.Allocate(t.Context(), drm.Resource{ID: "poison", Data: []byte(`{"id":"poison","v":2}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), "poison"); err != nil {
		t.Fatal(err)
	}
	if all, err := c.Quarantined(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%q are quarantined, %v", all, err)
	}
}
