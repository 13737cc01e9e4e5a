// Package reach remembers why etcd cannot be reached. gRPC and etcd's client try again until the time is up, and then
// say only "context deadline exceeded". A Trace sees each attempt to connect to each endpoint, and says afterwards how
// the last attempt ended. It also knows whether etcd answers at all, which tells a slow request from an etcd that is
// gone.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

// Trace records what happens to the connections of one client. Its methods are safe for concurrent use. A nil Trace is
// valid and knows nothing.
type Trace struct {
	named    bool // a user's name is configured; otherwise the certificate may name one
	answered atomic.Bool

	mu       sync.Mutex
	user     string   // the user as an error names it
	order    []string // the addresses of the endpoints, in the order in which they were given
	states   map[string]*state
	hopeless map[int]func() // called once there is no hope to connect to any endpoint, by number
	numbered int            // the last such number
}

// state is what is known about one endpoint.
type state struct {
	dialing  int     // attempts in progress that have no connection yet
	accepted bool    // an attempt got a connection, whatever happened to it then
	up       int     // connections over which the other end has said something, and that are not known to have ended
	failed   *Detail // how the last attempt failed; nil if it did not fail
	unheard  bool    // the last attempt failed before there was a connection
}

// New makes the Trace of a client of these endpoints, which must have passed CheckEndpoints. config is the client's TLS
// configuration; it is nil if there is none, or a new one for each connection.
func New(endpoints []string, config *tls.Config, username string) *Trace {
	t := &Trace{named: username != "", user: describeUser(config, username), states: map[string]*state{}}
	for _, e := range endpoints {
		if a := address(e); t.states[a] == nil {
			t.order = append(t.order, a)
			t.states[a] = &state{}
		}
	}
	return t
}

// describeUser names the user as an error does.
func describeUser(config *tls.Config, username string) string {
	switch {
	case username != "":
		return fmt.Sprintf("the user %q", username)
	case config != nil && len(config.Certificates) > 0 && len(config.Certificates[0].Certificate) > 0:
		if leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0]); err == nil {
			return fmt.Sprintf("the user %q of the client's certificate", leaf.Subject.CommonName)
		}
		return "the user of the client's certificate"
	case config != nil && config.GetClientCertificate != nil:
		return "the user of the client's certificate"
	default:
		return "a client without a user"
	}
}

// shows notes which configuration the next connection has.
func (t *Trace) shows(config *tls.Config) {
	user := describeUser(config, "")
	t.mu.Lock()
	t.user = user
	t.mu.Unlock()
}

// whose names the user as an error does.
func (t *Trace) whose() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.user
}

type traceKey struct{}

// Context returns the context for clientv3.Config, by which Of finds the Trace.
func (t *Trace) Context() context.Context {
	return context.WithValue(context.Background(), traceKey{}, t)
}

// Of returns the Trace of a client, or nil if the client was made without one.
func Of(client *clientv3.Client) *Trace {
	if client == nil || client.Ctx() == nil {
		return nil
	}
	t, _ := client.Ctx().Value(traceKey{}).(*Trace)
	return t
}

// DialOptions returns the options for the client's connections. They also choose between TLS and plain text, as the
// endpoints say. The TLS configuration is config, or what get returns for each connection; both may be nil.
func (t *Trace) DialOptions(endpoints []string, config *tls.Config, get tlsfiles.Get) []grpc.DialOption {
	secure := insecure.NewCredentials()
	switch {
	case get != nil:
		secure = tlsfiles.Credentials(func() (*tls.Config, error) {
			config, err := get()
			if err == nil && !t.named {
				t.shows(config)
			}
			return config, err
		})
	case config != nil || slices.ContainsFunc(endpoints, wantsTLS):
		secure = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(traced{secure, t}),
		grpc.WithChainUnaryInterceptor(t.unary),
	}
	if len(endpoints) > 0 && !proxied(address(endpoints[0])) {
		options = append(options, grpc.WithContextDialer(t.dial)) // gRPC ignores proxies once it has a dialer
	}
	return options
}

// proxied says whether gRPC connects to an address through a proxy that the environment names.
func proxied(address string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	return proxy != nil || err != nil
}

// unary notes that etcd has answered.
func (t *Trace) unary(
	ctx context.Context,
	method string,
	req, reply any,
	conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
	default:
		if !t.answered.Load() {
			t.answered.Store(true)
		}
	}
	return err
}

// dial connects as gRPC would.
func (t *Trace) dial(ctx context.Context, target string) (net.Conn, error) {
	network, where := "tcp", target
	if path, unix := strings.CutPrefix(target, "unix:"); unix {
		network, where = "unix", strings.TrimPrefix(path, "//")
	}
	at := address(target)
	t.change(at, func(s *state) { s.dialing++ })
	conn, err := new(net.Dialer).DialContext(ctx, network, where)
	t.change(at, func(s *state) {
		s.dialing--
		if err == nil {
			s.accepted = true
			if s.unheard {
				s.failed = nil // an error of a handshake stays until another handshake ends
			}
		}
	})
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		t.fail(at, true, explainDial(err))
	}
	return conn, err
}

// change changes the state of an endpoint, if there is one at that address.
func (t *Trace) change(at string, do func(*state)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.states[at]; s != nil {
		do(s)
	}
}

// fail notes how an attempt failed. unheard says that it failed before there was a connection.
func (t *Trace) fail(at string, unheard bool, d Detail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.states[at]; s != nil {
		s.failed, s.unheard = &d, unheard
		t.despair()
	}
}

// WhenHopeless adds a function to call when all endpoints have failed in a way that does not pass by itself. f is
// called on the goroutine that finds out, or at once if that has already happened, and again with each further failure.
// f must not block. forget takes it back.
func (t *Trace) WhenHopeless(f func()) (forget func()) {
	if t == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hopeless == nil {
		t.hopeless = map[int]func(){}
	}
	t.numbered++
	n := t.numbered
	t.hopeless[n] = f
	t.despair()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.hopeless, n)
	}
}

// despair calls what waits for it if there is no hope. The caller holds the mutex.
func (t *Trace) despair() {
	if len(t.hopeless) == 0 {
		return
	}
	for _, s := range t.states {
		if s.up > 0 || s.failed == nil || !s.failed.Kind.lasting() {
			return
		}
	}
	for _, f := range t.hopeless {
		f()
	}
}

// Reason returns what is known now; nil for a nil Trace.
func (t *Trace) Reason() *Reason {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Reason{}
	up := false
	for _, at := range t.order {
		s := t.states[at]
		d := Detail{Kind: Unknown, Text: "not reached yet"}
		switch {
		case s.up > 0:
			up = true
			d = Detail{Kind: Connected, Text: "connected, and did not answer this"}
			if !t.answered.Load() {
				d.Text = "connected, and does not answer"
			}
		case s.failed != nil:
			d = *s.failed
		case s.accepted:
			d = Detail{Kind: Silent, Text: "accepts connections, and says nothing"}
		case s.dialing > 0:
			d = Detail{Kind: NoAnswer, Text: "no answer to the attempt to connect"}
		}
		d.Endpoint = at
		r.Details = append(r.Details, d)
	}
	r.Slow = up && t.answered.Load()
	return r
}
