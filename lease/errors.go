package lease

import (
	"errors"
	"fmt"
)

// What ends a lease: causes of Keeper.Context, OnFence and OnDead, to be tested for with errors.Is.
var (
	// ErrFenced says that the lease is so close to its deadline that what it guards has to be ended now.
	ErrFenced = errors.New("lease is near its deadline")
	// ErrExpired says that the deadline has passed. It wraps what led there, such as ErrFenced.
	ErrExpired = errors.New("lease passed its deadline")
	// ErrGone says that etcd does not know the lease (any more): its keys are free for others.
	ErrGone = errors.New("lease is gone from etcd")
	// ErrClosed says that the Keeper or the Writer was closed.
	ErrClosed = errors.New("closed")
)

// Why an Op was not carried out: Result.Err wraps one of these, or ErrClosed.
var (
	// ErrGuard says that the guard key is not the one it should be; nothing was written.
	ErrGuard = errors.New("guard key differs")
	// ErrUnknown says that no answer came: the write may have been done, or be done yet.
	ErrUnknown = errors.New("outcome of the write is unknown")
	// ErrLeaseGone says that etcd does not know the op's lease; nothing was written. It is an ErrGone.
	ErrLeaseGone = fmt.Errorf("nothing written: %w", ErrGone)
	// ErrTooLarge says that the op alone is more than etcd or its client takes in a request; it was not written.
	ErrTooLarge = errors.New("too large for one request")
	// ErrRefused says that etcd turned the request down (no permission, no space, overload, …); nothing was written.
	ErrRefused = errors.New("refused by etcd")
)
