package reach

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is an error of etcd's client, with the reason for it. errors.Is and errors.As find the client's error in it.
type Error struct {
	Err    error
	Reason *Reason
}

func (e *Error) Error() string {
	if isDeadline(e.Err) {
		return fmt.Sprintf("no answer in time (%v)", e.Reason)
	}
	return fmt.Sprintf("no connection (%v)", e.Reason)
}

// Unwrap returns the client's error.
func (e *Error) Unwrap() error { return e.Err }

// DeniedError says that etcd does not allow a user what was asked for, or requires a user.
type DeniedError struct {
	What string // what was asked for, and with which key
	User string // who asked
	Err  error  // etcd's error
}

func (e *DeniedError) Error() string {
	if errors.Is(e.Err, rpctypes.ErrUserEmpty) {
		return fmt.Sprintf("etcd wants to know the user, but %s asked to %s (%s)", e.User, e.What,
			rpctypes.ErrorDesc(e.Err))
	}
	return fmt.Sprintf("etcd does not let %s %s (%s)", e.User, e.What, rpctypes.ErrorDesc(e.Err))
}

// Unwrap returns etcd's error.
func (e *DeniedError) Unwrap() error { return e.Err }

// isDeadline says whether an error means that the time for a request was up.
func isDeadline(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.DeadlineExceeded
}

// IsSlow says whether an error means that a request took too long, while etcd was connected and had answered before.
func IsSlow(err error) bool {
	r := ReasonOf(err)
	return r != nil && r.Slow
}

// ReasonOf returns the reason that an error wraps, or nil if there is none.
func ReasonOf(err error) *Reason {
	var known *Error
	if errors.As(err, &known) {
		return known.Reason
	}
	var r *Reason
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// Explain adds to the error of a client's request what is known about it: why etcd was not reached, or what etcd
// does not allow which user. what completes "etcd does not let NAME …"; Explain calls it only then. It returns
// other errors unchanged.
func Explain(client *clientv3.Client, err error, what func() string) error {
	if err == nil {
		return nil
	}
	t := Of(client)
	etcds := rpctypes.Error(err) // errors of transactions come without etcd's type
	if errors.Is(etcds, rpctypes.ErrPermissionDenied) || errors.Is(etcds, rpctypes.ErrUserEmpty) {
		user := "the client's user"
		switch {
		case t != nil:
			user = t.whose()
		case client != nil && client.Username != "":
			user = fmt.Sprintf("the user %q", client.Username)
		}
		return &DeniedError{what(), user, etcds}
	}
	if t == nil || ReasonOf(err) != nil {
		return err
	}
	if s, ok := status.FromError(err); isDeadline(err) || ok && s.Code() == codes.Unavailable && isUnavailable(etcds) {
		return &Error{err, t.Reason()}
	}
	return err
}

// isUnavailable says whether an error is not etcd's own. If etcd itself says that it is unavailable, its error tells
// why.
func isUnavailable(err error) bool {
	var etcds rpctypes.EtcdError
	return !errors.As(err, &etcds)
}
