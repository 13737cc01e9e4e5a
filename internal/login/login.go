// Package login authenticates with etcd by user and password, in place of etcd's own client. That one asks for a token
// for each stream that it opens, which costs etcd the comparison of a password each time, meant to be slow; and it asks
// with the old token, which an etcd of before 3.5 refuses once that is not good any more, so that the client never gets
// another.
//
// A Login asks once in a token's life: when etcd refuses the one there is. While that fails it asks with growing
// pauses.
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
	// patience bounds one request for a token: etcd compares passwords one after the other, each for about 0.1 s.
	patience = 10 * time.Second
	// minPause and maxPause are between two requests for a token, where the first failed or its token did not last.
	minPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	// lasting is a token's life after which it is no fault of anybody's that there has to be another.
	lasting = 2 * time.Second
)

// RefusedError says that etcd does not take the user's password.
type RefusedError struct {
	User string
	Err  error // etcd's
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("authentication failed: etcd refuses the user %q: %s", e.User, rpctypes.ErrorDesc(e.Err))
}

// Unwrap returns etcd's error, as the package rpctypes has it.
func (e *RefusedError) Unwrap() error { return rpctypes.Error(e.Err) }

// GRPCStatus makes it one that etcd's client does not try again.
func (e *RefusedError) GRPCStatus() *status.Status {
	return status.New(codes.Unauthenticated, e.Error())
}

// Login holds the token of one connection. Close it with the connection. Its methods are safe for concurrent use.
type Login struct {
	user, password string

	ctx    context.Context
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu     sync.Mutex
	closed bool
	token  token
	err    error         // why there is no token, if it was asked for in vain
	pauses *pace.Pauses  // after requests in a row that failed, or got a token that did not last
	next   time.Time     // when it may be asked for again
	done   chan struct{} // closed when the request under way has ended; nil if there is none
}

// token is what etcd gave, the nr-th of its Login.
type token struct {
	nr   int    // 0: none yet
	text string // "": etcd has authentication off
	got  time.Time
	old  bool // etcd has refused it
}

// New returns a Login that has not asked for anything yet.
func New(user, password string) *Login {
	l := &Login{user: user, password: password, pauses: pace.New(minPause, maxPause, 0.25)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Close ends a request that is under way, and returns when it has ended.
func (l *Login) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.asking.Wait()
}

// current returns a token that etcd is not known to refuse. All who wait for one wait for the same request.
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

// whyNot is the error of a request whose time has passed while there was no token.
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

// pause puts the next request off. The mutex is held.
func (l *Login) pause() { l.next = time.Now().Add(l.pauses.Next()) }

// ask asks etcd for a token, without the one there was.
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
