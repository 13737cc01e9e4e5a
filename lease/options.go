package lease

import (
	"context"
	"fmt"
	"time"
)

// Clock tells how much time has passed since some fixed moment. It must be safe for concurrent use.
type Clock interface {
	// Now must never go back, and must go on while the machine sleeps, since etcd does not sleep with it.
	Now() time.Duration
}

// Leaps tells when a Clock has leapt. It must be safe for concurrent use.
type Leaps interface {
	// Tell calls f soon after each leap until forget is called. f does not block.
	Tell(f func()) (forget func())
}

// Options of a Keeper. All options but TTL have defaults, which follow from the TTL that etcd granted.
type Options struct {
	// TTL is what to ask etcd for, in whole seconds, at least 1. etcd may grant more: it grants at least 1.5 election
	// timeouts. With a lower TTL the keys of a process that died are free sooner; with a higher one the lease survives
	// a longer hiccup of etcd or of the network.
	TTL time.Duration
	// Margin is how long before the end of the TTL the Keeper takes the lease for expired. It covers the different
	// speeds of the two clocks, and the time that it takes to act on the deadline. Default TTL/10.
	Margin time.Duration
	// FenceLead is how long before the deadline the fence comes: the time in which the owner can end things in good
	// order. With a longer lead there is more time for that, and less time to renew the lease. Default TTL/10.
	FenceLead time.Duration
	// Interval is the time between keepalives while etcd answers them. Keepalives go out when the clock stands at a
	// multiple of Interval, so that the leases of one process are renewed together, and expire together if the process
	// dies. Default TTL/5.
	Interval time.Duration
	// Early is how long before the other leases of its process this one is renewed, so that it expires before them if
	// the process dies. It is meant for the lease of the key that tells others that the process is alive. It must be
	// less than Interval. Default 0.
	Early time.Duration
	// RetryInterval is the time from sending a keepalive that fails, or is not answered yet, to sending the next one.
	// The next one does not wait for the end of the first. It goes to the next endpoint of the cluster, so that an
	// endpoint that swallows requests costs only this much each time, and not AttemptTimeout. Default TTL/15.
	RetryInterval time.Duration
	// AttemptTimeout bounds one keepalive, counted from the moment it is sent. Default TTL/5.
	AttemptTimeout time.Duration
	// Outlast keeps the Keeper from fencing a lease that is not renewed in time: it gives the lease up only when etcd
	// says that the lease is gone. So nothing ends while etcd does not answer, but the keys may belong to somebody else
	// before this Keeper knows. Outlast is for owners who would rather do a thing twice than not at all. With it
	// Remaining falls below zero, and rises again with the next answered keepalive. Default false.
	Outlast bool
	// Clock measures the lease's life. Default: the system's clock that goes on while the machine sleeps.
	Clock Clock
	// Leaps, if given, tells when Clock has leapt ahead of timers, since the machine slept. Without it, the Keeper
	// looks at Clock every TTL/20, which costs something where there are hundreds of Keepers. Default nil.
	Leaps Leaps
	// Rounds, if given, renew the lease together with others as long as all goes well. Clock is that of the Rounds
	// then, and Pulse should be given if Probe is. Margin, FenceLead, RetryInterval and three times Interval must be no
	// more than the TTL together. Default nil: the Keeper sends each keepalive by itself.
	Rounds *Rounds
	// Pulse, if given, tells Rounds that the owner certainly works, so that they need not call Probe. Without it,
	// Rounds renew nothing if Probe is given, and the Keeper does all by itself.
	Pulse *Pulse
	// Probe, if given, is called before each keepalive, which is sent only if Probe returns nil. So the lease lives no
	// longer than its owner works. A call may take until the lease would be fenced, since an owner on a busy machine is
	// slow and yet alive; it must return when its context ends. The calls come one at a time, each on a goroutine of
	// its own.
	Probe func(context.Context) error
	// OnFence, if given, is called once, when the lease is fenced, with the reason. It runs on the Keeper's goroutine,
	// so it must not block, and must not call Close or Revoke. It is not called after Close.
	OnFence func(*Keeper, error)
	// OnDead, if given, is called once, at the deadline or when the lease is known to be gone, always after OnFence.
	// Context has ended by then. OnDead has to keep the same rules as OnFence.
	OnDead func(*Keeper, error)
}

// check returns an error that names the option that is out of its range.
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

// withDefaults fills in the defaults for a lease with the TTL that etcd granted.
func (o Options) withDefaults(ttl time.Duration) (Options, error) {
	o.TTL = ttl
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
	if least := o.Margin + o.FenceLead + 3*o.Interval + o.RetryInterval; o.Rounds != nil && least > ttl {
		// It may take as long to notice that no round has come.
		return o, fmt.Errorf("lease margin %v, fence lead %v, three times the interval %v and retry interval %v: "+
			"in rounds, want a sum of at most the TTL, %v", o.Margin, o.FenceLead, o.Interval, o.RetryInterval, ttl)
	}
	if o.Early >= o.Interval {
		return o, fmt.Errorf("lease early: got %v, want less than the interval, %v", o.Early, o.Interval)
	}
	return o, nil
}

// rhythm is what the Keeper has in common with others in Rounds.
func (o *Options) rhythm() rhythm {
	left := o.TTL - o.Margin - o.FenceLead - o.Interval // from when the keepalive is due to the fence
	return rhythm{o.Interval, o.Early, min(o.RetryInterval, left), o.AttemptTimeout, o.Margin}
}

// tickAfter is the time at which the next keepalive is due, after one that was sent at a given time.
func (o *Options) tickAfter(sent time.Duration) time.Duration { return o.rhythm().tickAfter(sent) }

func (r rhythm) tickAfter(sent time.Duration) time.Duration {
	return ((sent+r.early)/r.interval+1)*r.interval - r.early
}
