package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// rewait bounds how long a waiter trusts its watches before it looks again.
const rewait = 5 * time.Second

// until calls done now and after each change below one of the prefixes, until it says yes or fails, or ctx ends.
func (r *reader) until(ctx context.Context, prefixes []string, done func(context.Context) (bool, error)) error {
	for failures := 0; ; {
		watching, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), rewait)
		changed := make(chan struct{}, 1)
		for _, prefix := range prefixes { // before the look, so that no change falls between
			go notify(r.client.Watch(watching, prefix, clientv3.WithPrefix()), changed)
		}
		yes, err := r.untilChanged(watching, changed, done)
		cancel()
		switch {
		case yes:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, ErrUnreachable):
			return err
		case err != nil:
			failures++
			if !pauseFor(ctx, retryPause(failures)) {
				return context.Cause(ctx)
			}
		default:
			failures = 0
		}
	}
}

func notify(watch clientv3.WatchChan, changed chan<- struct{}) {
	for range watch {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// untilChanged looks after each change until watching ends.
func (r *reader) untilChanged(watching context.Context, changed <-chan struct{}, done func(context.Context) (bool, error)) (bool, error) {
	for {
		yes, err := done(watching)
		if watching.Err() != nil && !yes {
			return false, nil
		}
		if yes || err != nil {
			return yes, err
		}
		select {
		case <-changed:
		case <-watching.Done():
			return false, nil
		}
	}
}

// wait returns when a resource is active.
func (r *reader) wait(ctx context.Context, id string) (Assignment, error) {
	var last Assignment
	n := shard.Of(id, r.config.Shards)
	err := r.until(ctx, []string{r.layout.Resource(n, id), r.layout.Claim(n, id), r.layout.Summaries(n)}, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err != nil {
			return false, err
		}
		last = a
		if err := notWanted(entry); err != nil {
			return false, fmt.Errorf("wait for resource %q: %w", id, err)
		}
		return a.State == Active, nil
	})
	if err != nil && ctx.Err() != nil {
		state := string(last.State)
		if last.Error != "" {
			state += ": " + last.Error
		}
		err = fmt.Errorf("wait for resource %q, which is %s: %w", id, state, err)
	}
	return last, err
}

// waitGone returns when nobody has a claim on a resource that the catalogue does not want.
func (r *reader) waitGone(ctx context.Context, id string) error {
	n := shard.Of(id, r.config.Shards)
	err := r.until(ctx, []string{r.layout.Resource(n, id), r.layout.Claim(n, id)}, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err == nil && entry != nil && entry.Wanted() {
			err = errors.New("it was allocated again")
		}
		return err == nil && a.Token == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for the end of resource %q: %w", id, err)
	}
	return nil
}

// waitMember returns when done says yes of a picture; it looks after each change of the group or of any claim.
func (r *reader) waitMember(ctx context.Context, member string, done func(*picture) (bool, error)) error {
	err := r.until(ctx, []string{r.layout.Group(), r.layout.Shards()}, func(ctx context.Context) (bool, error) {
		p, err := r.read(ctx)
		if err != nil {
			return false, err
		}
		return done(p)
	})
	if err != nil {
		return fmt.Errorf("wait for member %q: %w", member, err)
	}
	return nil
}

// heldBy counts the claims of a member.
func (p *picture) heldBy(member string) int {
	n := 0
	for _, c := range p.claims {
		if c.Member == member {
			n++
		}
	}
	return n
}

// hasItsShare says whether a member is active and has every wanted resource of its shards, handled or failed.
func (p *picture) hasItsShare(member string, shards int) (bool, error) {
	m, live := p.view.Members[member]
	if !live {
		return false, fmt.Errorf("member %q: %w", member, ErrNotFound)
	}
	if m.State != membership.Active {
		return false, nil
	}
	for id, e := range p.entries {
		if !e.Wanted() || p.view.Owner(shard.Of(id, shards)) != member {
			continue
		}
		if c := p.claims[id]; c.Member != member || State(c.State) == Claimed {
			return false, nil
		}
	}
	return true, nil
}
