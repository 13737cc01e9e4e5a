package lease

import (
	"errors"
	"fmt"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Why a lease ends: the causes of Keeper.Context, OnFence and OnDead. Test for them with errors.Is.
var (
	// ErrFenced says that the lease is so close to its deadline that its owner must end now what the lease guards.
	ErrFenced = errors.New("lease is near its deadline")
	// ErrExpired says that the deadline has passed. It wraps the reason, such as ErrFenced.
	ErrExpired = errors.New("lease passed its deadline")
	// ErrGone says that etcd does not know the lease, or no longer knows it: others may have its keys now.
	ErrGone = errors.New("lease is gone from etcd")
	// ErrUnderWay says that a Renewer has sent no keepalive of a lease, since an earlier one is about to be answered.
	ErrUnderWay = errors.New("an earlier keepalive is still under way")
	// ErrClosed says that the Keeper or the Writer was closed.
	ErrClosed = errors.New("closed")
)

// Why a Writer did not carry out an Op: Result.Err wraps one of these, or ErrClosed.
var (
	// ErrGuard says that the guard key does not exist, or was created at another revision; nothing was written.
	ErrGuard = errors.New("guard key differs")
	// ErrUnknown says that no answer came: etcd may have done the write, or may still do it.
	ErrUnknown = errors.New("outcome of the write is unknown")
	// ErrLeaseGone says that etcd does not know the op's lease; nothing was written. errors.Is finds ErrGone in it.
	ErrLeaseGone = fmt.Errorf("nothing written: %w", ErrGone)
	// ErrTooLarge says that the op alone is larger than etcd or its client allows a request to be; nothing was written.
	ErrTooLarge = txn.ErrTooLarge
	// ErrRefused says that etcd refused the request (no permission, no space, overload, …); nothing was written.
	ErrRefused = errors.New("refused by etcd")
)
