// Package login authenticates with etcd by user and password, in place of etcd's own client. etcd's client asks for a
// token for each stream that it opens, and each time etcd has to compare a password, which is slow on purpose. It also
// sends the old token along, which etcd before 3.5 refuses once the token is no longer good, so that the client never
// gets another one.
//
// A Login asks for a token once in the token's life: when etcd refuses the current one. While that fails, it asks with
// growing pauses.
package login

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// patience bounds one request for a token: etcd compares passwords one after the other, and takes about 0.1 s for
	// each.
	patience = 10 * time.Second
	// minPause and maxPause bound the pause before another request for a token, after one that failed or whose token
	// did not last.
	minPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	// lasting is how long a token has to live for its end to be normal, so that the next request needs no pause.
	lasting = 2 * time.Second
)

// RefusedError says that etcd does not accept the user's password.
type RefusedError struct {
	User string
	Err  error // etcd's error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("authentication failed: etcd refuses the user %q: %s", e.User, rpctypes.ErrorDesc(e.Err))
}

// Unwrap returns etcd's error, as package rpctypes defines it.
func (e *RefusedError) Unwrap() error { return rpctypes.Error(e.Err) }

// GRPCStatus gives the error a status with which etcd's client does not try again.
func (e *RefusedError) GRPCStatus() *status.Status {
	return status.New(codes.Unauthenticated, e.Error())
}

// Login holds the token of one connection. The owner closes it together with the connection. Its methods are safe for
// concurrent use.
type Login struct {
	user, password string

	ctx    context.Context
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu     sync.Mutex
	closed bool
	token  token
	err    error         // why there is no token, if the last request failed
	pauses *pace.Pauses  // the pauses after requests that failed, or whose token did not last
	next   time.Time     // the earliest time of the next request
	done   chan struct{} // closed when the request in progress has ended; nil if there is none
}

// token is a token that etcd gave; nr counts the tokens of a Login.
type token struct {
	nr   int    // 0: there is no token yet
	text string // empty: authentication is turned off in etcd
	got  time.Time
	old  bool // etcd has refused it
}

// New returns a Login. It asks etcd for nothing before the first request.
func New(user, password string) *Login {
	l := &Login{user: user, password: password, pauses: pace.New(minPause, maxPause, 0.25)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Close cancels a request that is in progress, and returns when it has ended.
func (l *Login) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.asking.Wait()
}

// current returns a token that etcd is not known to refuse. All callers that need a token wait for the same request.
func (l *Login) current(ctx context.Context, conn grpc.ClientConnInterface) (token, error) {
	for {
		l.mu.Lock()
		switch wait := time.Until(l.next); {
		case l.token.nr > 0 && !l.token.old:
			defer l.mu.Unlock()
			return l.token, nil
		case l.closed:
			l.mu.Unlock()
			return token{}, status.Error(codes.Canceled, "the connection to etcd is closed")
		case l.done == nil && wait > 0 && IsRefused(l.err):
			defer l.mu.Unlock()
			return token{}, l.err
		case l.done == nil && wait > 0:
			l.mu.Unlock()
			if !pace.Wait(ctx, wait) {
				return token{}, l.whyNot(ctx.Err())
			}
		default:
			if l.done == nil {
				l.done = make(chan struct{})
				l.asking.Go(func() { l.ask(conn) })
			}
			done := l.done
			l.mu.Unlock()
			select {
			case <-done:
			case <-ctx.Done():
				return token{}, l.whyNot(ctx.Err())
			}
		}
	}
}

// atHand returns the token, if there is one that etcd is not known to refuse, and otherwise an empty one.
func (l *Login) atHand() token {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token.old {
		return token{}
	}
	return l.token
}

// whyNot returns the error of a caller whose time was up before there was a token.
func (l *Login) whyNot(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := status.FromContextError(err)
	if l.err != nil {
		s = status.Newf(s.Code(), "%s; no token of etcd's: %s", err, rpctypes.ErrorDesc(l.err))
	}
	return s.Err()
}

// refused notes that etcd has refused a token.
func (l *Login) refused(t token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token.nr != t.nr || l.token.old {
		return
	}
	l.token.old = true
	if time.Since(t.got) < lasting {
		l.pause()
	} else {
		l.next = time.Time{}
		l.pauses.Reset()
	}
}

// pause delays the next request. The caller holds the mutex.
func (l *Login) pause() { l.next = time.Now().Add(l.pauses.Next()) }

// ask asks etcd for a token, without sending the current one.
func (l *Login) ask(conn grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	resp := new(pb.AuthenticateResponse)
	err := conn.Invoke(ctx, pb.Auth_Authenticate_FullMethodName,
		&pb.AuthenticateRequest{Name: l.user, Password: l.password}, resp, grpc.WaitForReady(true))
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(l.done)
	l.done = nil
	switch {
	case err == nil || rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCAuthNotEnabled):
		l.token = token{nr: l.token.nr + 1, text: resp.Token, got: time.Now()}
		l.err = nil
		return
	case IsRefused(err):
		l.err = &RefusedError{l.user, err}
	default:
		l.err = fmt.Errorf("authenticate with etcd: %w", err)
	}
	l.pause()
}
