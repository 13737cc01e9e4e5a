// Package order gives the orders of an operator: that a member hold nothing, take nothing new, or have a certain
// weight; that a shard be with a certain member; that the load be evened out; that the source be asked, that removals
// which are held be made, that the app have no source any more; that what has failed be tried again. It decides whether
// an order may be given, and tells when it has been carried out. The members carry it out: packages membership, source
// and core say how.
package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

// Errors that a caller can test for with errors.Is.
var (
	// ErrLastMember says that nobody would be left who takes any resource, so that all drains would be ignored, or only
	// members that are not ready.
	ErrLastMember = errors.New("every other member is drained, not ready or of weight 0, or there is none")
	// ErrPinned says that a shard is pinned to a member, so that it cannot be moved.
	ErrPinned = errors.New("the shard is pinned")
	// ErrCannotTake says that a member cannot be given shards now.
	ErrCannotTake = errors.New("the member cannot take a shard")
	// ErrNoPlacer says that no live coordinator places shards, so that nobody would carry out an order about that.
	ErrNoPlacer = errors.New("no live coordinator places shards")
	// ErrNoSource says that no live member has a source, so that nobody would carry out an order about it.
	ErrNoSource = errors.New("no live member has a source")
	// ErrNotAccepted says that the coordinator refused to make the removals which were held: others are held by now.
	ErrNotAccepted = errors.New("not accepted")
)

// errBusy is the error of an order whose keys others change again and again.
var errBusy = errors.New("others change it at the same time")

// SourceInUseError says which live member has a source that was to be dropped.
type SourceInUseError struct{ Member string }

func (e *SourceInUseError) Error() string {
	return fmt.Sprintf(
		"member %q has a source, and would bring back what it has: stop the members that do, or start them without",
		e.Member,
	)
}

// Desk gives orders in one app that exists.
type Desk struct {
	// Reader looks at the app. Orders are written with its client and within its timeout.
	Reader *picture.Reader
	// Created is the revision at which the app's config key was created. An order is not given to an app that was
	// deleted and made anew.
	Created int64
	// Wall is the clock of whoever gives the orders; nil: that of this machine.
	Wall func() time.Time

	// Origin is who takes orders back, or has something done once, where the order itself does not say so: each such
	// change is recorded, unless it is zero.
	Origin deed.Origin

	limits txn.Limits // what etcd takes in one transaction, where many orders are given at once
}

func (d *Desk) now() time.Time {
	if d.Wall != nil {
		return d.Wall()
	}
	return time.Now()
}

// Options says who gives an order, and how. An order that stands already keeps what the options do not say.
type Options struct {
	By, Why string        // who, and why; for people
	For     time.Duration // of a drain or a cordon: it ends by itself after that time; 0: it does not
	AtOnce  bool          // of a drain: the member does not keep its shards until they are placed elsewhere
	Force   bool          // of a drain: it is obeyed even if nobody is left who takes shards
	Absent  bool          // nothing need be known of the member
	// IfRevision refuses the order, with ErrChanged, where the group has changed since that revision; 0: it does not
	// matter.
	IfRevision int64
}

// order returns what an order says of its origin.
func (o Options) order(now time.Time) membership.Order {
	return membership.Order{By: o.By, Why: o.Why, Since: now.UTC().Truncate(time.Second)}
}

// change is what becomes of the key of an order.
type change struct {
	none   bool // nothing
	delete bool
	value  string
	life   time.Duration  // if it is not 0, the key gets a new lease that lives so long
	only   []clientv3.Cmp // if not all of these hold any more, the change is planned anew
	// covered says that only compares, too, that nobody has written the key since the view, in which its revision was
	// seen: so the transaction has one comparison less, since an etcd may take only three.
	covered bool
	seen    int64
}

// attempts is how often a change is planned anew, at most, because the keys have changed meanwhile.
const attempts = 10

// change changes the key of an order as plan says after a look at the group. It plans anew if the key has changed by
// then. Unless the change gives the key another lease, it keeps its own. since is Options.IfRevision; where nothing is
// to be changed, it does not matter, so that an order can be repeated.
func (d *Desk) change(ctx context.Context, key string, since int64, plan func(*membership.View) (change, error)) error {
	for range attempts {
		now, err := d.look(ctx, key)
		if err != nil {
			return err
		}
		view, err := d.Reader.Group(ctx)
		if err != nil {
			return err
		}
		c, err := plan(view)
		if err != nil || c.none {
			return err
		}
		same, err := d.unchanged(ctx, view, since)
		if err != nil {
			return err
		}
		c.only = append(c.only, same...)
		done := false
		err = d.ask(ctx, func(ctx context.Context) (err error) {
			done, err = d.commit(ctx, key, now, c)
			return err
		})
		if done || err != nil {
			return tooMany(err, since)
		}
	}
	return errBusy
}

// held is what etcd has of a key.
type held struct {
	revision int64 // its mod revision; 0: the key is not there
	lease    clientv3.LeaseID
}

func (d *Desk) look(ctx context.Context, key string) (now held, err error) {
	err = d.ask(ctx, func(ctx context.Context) error {
		resp, err := d.Reader.Client.Get(ctx, key) // without the value there would be no lease
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			now = held{kv.ModRevision, clientv3.LeaseID(kv.Lease)}
		}
		return nil
	})
	return now, err
}

// commit makes a change if the key is as it was, and the app the same. done says that the change was made.
func (d *Desk) commit(ctx context.Context, key string, was held, c change) (done bool, err error) {
	client, config := d.Reader.Client, d.Reader.Layout.Config()
	lease, op := was.lease, clientv3.OpDelete(key)
	only := append([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(config), "=", d.Created)}, c.only...)
	switch {
	case !c.covered:
		only = append(only, clientv3.Compare(clientv3.ModRevision(key), "=", was.revision))
	case c.seen != was.revision: // somebody has written it between the two looks at it
		return false, nil
	}
	if c.life > 0 {
		granted, err := client.Grant(ctx, int64((c.life+time.Second-1)/time.Second))
		if err != nil {
			return false, err
		}
		lease = granted.ID
	}
	ops := []clientv3.Op{op}
	if !c.delete {
		ops[0] = clientv3.OpPut(key, c.value, clientv3.WithLease(lease))
	} else {
		ops = append(ops, d.noted()...)
	}
	resp, err := client.Txn(ctx).
		If(only...).
		Then(ops...).
		Else(clientv3.OpGet(config, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return false, err // a lease that was granted expires by itself; the key may live on it
	}
	if resp.Succeeded {
		if c.delete || lease != was.lease {
			d.end(ctx, was.lease)
		}
		return true, nil
	}
	if c.life > 0 {
		d.end(ctx, lease)
	}
	found := resp.Responses[0].GetResponseRange().Kvs
	if len(found) == 0 || found[0].CreateRevision != d.Created {
		return false, appconfig.ErrGone
	}
	return false, nil
}

// noted is the write that goes along with a change which itself does not say whose it is.
func (d *Desk) noted() []clientv3.Op {
	if d.Origin.IsZero() {
		return nil
	}
	return []clientv3.Op{clientv3.OpPut(d.Reader.Layout.Deed(), d.Origin.At(d.now()).Encode())}
}

// end revokes a lease that no key lives on. Where that fails, the lease expires by itself.
func (d *Desk) end(ctx context.Context, lease clientv3.LeaseID) {
	if lease == clientv3.NoLease {
		return
	}
	left, err := d.Reader.Client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err == nil && len(left.Keys) == 0 {
		_, _ = d.Reader.Client.Revoke(ctx, lease)
	}
}

// ask calls f within the timeout of a request.
func (d *Desk) ask(ctx context.Context, f func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, d.Reader.Timeout)
	defer cancel()
	return etcd.Unreachable(ctx, f(bounded))
}
