package lease

import (
	"context"
	"fmt"
	"time"
)

// Clock tells the time since some fixed moment. It must never go back, and must go on while the machine sleeps, as etcd does
// not sleep with it. Its method is called from several goroutines.
type Clock interface {
	Now() time.Duration
}

// Options of a Keeper. All but TTL have defaults, which follow from the TTL that etcd granted.
type Options struct {
	// TTL to ask for, in whole seconds of at least 1. etcd may grant more: its least is 1.5 election timeouts. Lowered,
	// keys of a member that died are free sooner; raised, a longer hiccup of etcd or the network is survived.
	TTL time.Duration
	// Margin before the end of the TTL at which the lease counts as expired here. It covers that the two clocks run at
	// different speeds, and that it takes time to act on the deadline. Default TTL/10.
	Margin time.Duration
	// FenceLead is how long before the deadline the fence comes: the time in which the owner can end things in good
	// order. Raised, they have more of it, and renewal has less. Default TTL/10.
	FenceLead time.Duration
	// Interval between keepalives that are answered. They go out when the clock stands at a multiple of it, so that the
	// leases of one process are renewed together, and expire together if it dies. Default TTL/5.
	Interval time.Duration
	// Early is how long before the other leases of its process this one is renewed, so that it expires before them: the lease
	// of the key by which others know that the process lives. Below Interval. Default 0.
	Early time.Duration
	// RetryInterval from sending a keepalive that failed, or is not answered yet, to the next one. That one does not
	// wait for the other's end: it goes to the next endpoint of the cluster, so that one which swallows requests costs
	// this much, and not AttemptTimeout, each time. Default TTL/15.
	RetryInterval time.Duration
	// AttemptTimeout bounds one keepalive, from when it is sent. Default TTL/5.
	AttemptTimeout time.Duration
	// Outlast keeps a lease that is not renewed in time from being fenced: it is given up only when etcd says that it is
	// gone. Then nothing ends while etcd does not answer, and the keys may be another's before this keeper knows: it is
	// for owners who would rather do a thing twice than not at all. Remaining falls below zero, and rises again with
	// the next keepalive that is answered. Default false.
	Outlast bool
	// Clock on which the lease's life is counted. Default: the system's, which goes on while the machine sleeps.
	Clock Clock
	// Probe, if given, is called before each keepalive, which is sent only when it has returned nil: so that a lease lives no
	// longer than its owner works. It may take until the lease would be fenced, as an owner on a machine that is busy is
	// slow and yet alive; and must return when its context ends. There is one call at a time, from goroutines that differ.
	Probe func(context.Context) error
	// OnFence, if given, is called once, when the lease is fenced, with why. It runs on the Keeper's goroutine: it must
	// not block, and not call Close or Revoke. It is not called after Close.
	OnFence func(*Keeper, error)
	// OnDead, if given, is called once, at the deadline or when the lease is known to be gone, always after OnFence;
	// Context has ended by then. The same rules apply.
	OnDead func(*Keeper, error)
}

// check reports what is wrong with options as they were given.
func (o Options) check() error {
	if o.TTL < time.Second || o.TTL%time.Second != 0 {
		return fmt.Errorf("lease TTL: got %v, want whole seconds, at least 1", o.TTL)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"margin", o.Margin},
		{"fence lead", o.FenceLead},
		{"interval", o.Interval},
		{"early", o.Early},
		{"retry interval", o.RetryInterval},
		{"attempt timeout", o.AttemptTimeout},
	} {
		if f.value < 0 {
			return fmt.Errorf("lease %s: got %v, want a positive duration, or 0 for the default", f.name, f.value)
		}
	}
	return nil
}

// withDefaults fills in what was left out, for a lease of the TTL that was granted.
func (o Options) withDefaults(ttl time.Duration) (Options, error) {
	for _, f := range []struct {
		value *time.Duration
		parts time.Duration
	}{
		{&o.Margin, 10},
		{&o.FenceLead, 10},
		{&o.Interval, 5},
		{&o.RetryInterval, 15},
		{&o.AttemptTimeout, 5},
	} {
		if *f.value == 0 {
			*f.value = ttl / f.parts
		}
	}
	if o.Margin+o.FenceLead+o.Interval >= ttl {
		return o, fmt.Errorf("lease margin %v, fence lead %v and interval %v: want a sum of less than the TTL, %v",
			o.Margin, o.FenceLead, o.Interval, ttl)
	}
	if o.Early >= o.Interval {
		return o, fmt.Errorf("lease early: got %v, want less than the interval, %v", o.Early, o.Interval)
	}
	return o, nil
}

// tickAfter is when the keepalive after one that was sent at some time is due.
func (o Options) tickAfter(sent time.Duration) time.Duration {
	return ((sent+o.Early)/o.Interval+1)*o.Interval - o.Early
}
