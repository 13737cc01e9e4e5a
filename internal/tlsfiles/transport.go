package tlsfiles

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"time"
)

// askEvery is the shortest time between two questions of a Transport while all requests succeed.
const askEvery = time.Second

// Transport is an http.RoundTripper that asks for its TLS configuration before a request, if the last time was a second
// or more ago, or if a request has failed since. When it gets another configuration than before, it makes new
// connections with that one; requests in progress run to their end. It is safe for concurrent use.
type Transport struct {
	base *http.Transport
	get  Get
	now  func() time.Time

	mu      sync.Mutex
	asked   time.Time // zero: ask before the next request
	asking  int       // how many times get was asked
	answer  int       // which of those calls returned config
	config  *tls.Config
	current *http.Transport
	former  []*http.Transport // they may still have connections
}

// maxFormer is how many transports of former configurations CloseIdleConnections knows. Older ones close their idle
// connections by themselves, after a time.
const maxFormer = 8

// NewTransport makes a Transport whose connections are like those of base, except for TLS. It does not use base itself.
func NewTransport(base *http.Transport, get Get) *Transport {
	return &Transport{base: base, get: get, now: time.Now}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	transport, err := t.transport(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper has to close it
		}
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.mu.Lock()
		t.asked = time.Time{} // the reason may be a configuration that is no longer good
		t.mu.Unlock()
	}
	return resp, err
}

// transport returns the one with the current configuration. The request fails if there is no answer about the
// configuration.
func (t *Transport) transport(ctx context.Context) (*http.Transport, error) {
	t.mu.Lock()
	current := t.current
	due := current == nil || t.asked.IsZero() || t.now().Sub(t.asked) >= askEvery
	if due && current != nil {
		t.asked = t.now() // other requests need not wait for the answer
	}
	if !due {
		t.mu.Unlock()
		return current, nil
	}
	t.asking++
	number := t.asking
	t.mu.Unlock()
	config, err := ask(ctx, t.get)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.asked = time.Time{}
		return nil, err
	}
	t.asked = t.now()
	if t.current != nil && (t.config == config || number < t.answer) {
		return t.current, nil
	}
	t.answer = number
	if t.current != nil {
		t.current.CloseIdleConnections()
		t.former = append(t.former, t.current)
		t.former = t.former[max(0, len(t.former)-maxFormer):]
	}
	t.config, t.current = config, t.base.Clone()
	t.current.TLSClientConfig = config.Clone() // a copy, since http.Transport changes it
	return t.current, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections work.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	all := append(append([]*http.Transport(nil), t.former...), t.current)
	t.mu.Unlock()
	for _, transport := range all {
		if transport != nil {
			transport.CloseIdleConnections()
		}
	}
}
