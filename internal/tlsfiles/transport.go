package tlsfiles

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"time"
)

// askEvery is how often a Transport asks at most, while all goes well.
const askEvery = time.Second

// Transport is an http.RoundTripper that asks for its TLS configuration: before a request, a second or more after the
// last time or when a request failed. Where another one is returned than before, new connections are made with it;
// requests in progress are left to end. It is safe for use from any goroutine.
type Transport struct {
	base *http.Transport
	get  Get
	now  func() time.Time

	mu      sync.Mutex
	asked   time.Time // zero: ask before the next request
	asking  int       // how many times it was asked
	answer  int       // which of them config is of
	config  *tls.Config
	current *http.Transport
	former  []*http.Transport // which may still have connections
}

// maxFormer bounds the transports of former configurations that CloseIdleConnections knows. Those before let go of
// their idle connections by themselves, after a time.
const maxFormer = 8

// NewTransport makes a Transport whose connections are like base's, but for TLS. base is not used itself.
func NewTransport(base *http.Transport, get Get) *Transport {
	return &Transport{base: base, get: get, now: time.Now}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	transport, err := t.transport(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as a RoundTripper has to
		}
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.mu.Lock()
		t.asked = time.Time{} // it may have been for want of another configuration
		t.mu.Unlock()
	}
	return resp, err
}

// transport is the one of the configuration that is good now. One that cannot be told fails the request.
func (t *Transport) transport(ctx context.Context) (*http.Transport, error) {
	t.mu.Lock()
	current := t.current
	due := current == nil || t.asked.IsZero() || t.now().Sub(t.asked) >= askEvery
	if due && current != nil {
		t.asked = t.now() // others need not wait for the answer
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
	t.current.TLSClientConfig = config.Clone() // http.Transport adds to it
	return t.current, nil
}

// CloseIdleConnections is for http.Client.
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
