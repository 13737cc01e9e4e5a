package handler

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/hint"
	"github.com/distributed-resource-manager/drm/internal/secrets"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

const (
	// DefaultWebhookTimeout is the default time that a Webhook waits for an answer.
	DefaultWebhookTimeout = 30 * time.Second
	// TokenHeader is the HTTP header in which a Webhook repeats the fencing token, in decimal digits.
	TokenHeader = "DRM-Token"
	// ResourceHeader is the HTTP header in which a Webhook repeats the resource's id, percent-encoded as a part of a
	// URL's path (url.PathUnescape undoes it). With the three headers, a gateway can refuse outdated requests without
	// reading the body.
	ResourceHeader = "DRM-Resource"
	// CallHeader is the HTTP header in which a Webhook repeats the request's number, in decimal digits. Of two requests
	// for one resource under one token, the one that was sent later has the higher number.
	CallHeader = "DRM-Call"

	// webhookConnections is how many idle connections are kept. By default (drm.Config.HandleConcurrency), a member
	// makes no more than that many calls of Handle and Terminate at once.
	webhookConnections = 128
	// notifyTimeout is how long a notification may wait for its answer. The answer changes nothing, but the resource's
	// next request waits for it.
	notifyTimeout = 5 * time.Second
)

// WebhookConfig configures NewWebhook, which refuses an invalid value with a *drm.InputError. The zero value of every
// field but URL stands for its default.
type WebhookConfig struct {
	// URL receives the requests. It is an absolute http or https URL. A user and password in it are sent as basic
	// authentication. Errors and logs show only its scheme, host and path, and the names of its query's parameters.
	// Required.
	URL string
	// Header is added to each request, for authentication, say. It must not have Content-Type, DRM-Token, DRM-Call or
	// DRM-Resource.
	Header http.Header
	// Timeout bounds each request, from the start of the connection to the status and headers of the answer. Raised, a
	// slow receiver gets more time; lowered, a receiver that hangs is given up sooner, and the resource is tried again.
	// A shorter drm.Config.HandleTimeout ends the request first. Default 30 s; 1 ms to 24 h.
	Timeout time.Duration
	// TLS configures https, with root certificates or a client certificate of your own, say. Not together with Client.
	TLS *tls.Config
	// GetTLS, in place of TLS, returns the TLS configuration. It is called at most once a second while it succeeds.
	// When it returns another configuration than before, new connections use that, so that a CA can be rotated. (To
	// rotate a client certificate alone, TLS with GetClientCertificate is enough.) It is called from any goroutine. Its
	// error fails the request. Not together with TLS or Client.
	GetTLS func() (*tls.Config, error)
	// Client sends the requests. Its CheckRedirect is not used, because no redirect is followed. Default: a client that
	// keeps up to 128 idle connections and uses the proxy that the environment names.
	Client *http.Client
	// OnNotifyError is called with the error of a handle_failed or terminate_failed request, because DRM does not ask
	// for one. Such a request is not sent again. Optional; called from any goroutine.
	OnNotifyError func(error)
}

// Webhook is a drm.Handler and drm.Updater that tells an HTTP service what to do, with one POST per call. The contract
// is docs/webhook.md. A call returns when its request is over: answered, failed, or cancelled with its context.
//
// It is a drm.Finisher, so that DRM waits for the answer: the receiver might carry out a request that was cancelled.
//
// Each Webhook counts its own requests, and a receiver compares the numbers. So all calls of a member that reach one
// receiver must come from one Webhook.
type Webhook struct {
	url      *url.URL
	shown    string // the URL as errors show it
	header   http.Header
	timeout  time.Duration
	client   *http.Client
	own      bool // the transport of client was made here
	secrets  secrets.Set
	onNotify func(error)
	bodies   bodies
	calls    atomic.Int64 // the number of the last request; it stays far below 2^53, up to which JSON numbers are exact
}

var _ interface {
	drm.Handler
	drm.Updater
	drm.Finisher
} = (*Webhook)(nil)

// NewWebhook makes a Webhook. It does not connect to the receiver yet. The error is a *drm.InputError that names the
// field.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if shown, scheme, ok := hint.Scheme(cfg.URL); ok {
		return nil, &drm.InputError{Field: "URL", Value: shown, Want: scheme}
	}
	u, err := url.Parse(cfg.URL)
	if err != nil { // the URL is not shown: where in a malformed URL its secrets are is not known
		return nil, &drm.InputError{Field: "URL", Value: "(not a URL)", Want: "an absolute http or https URL"}
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, &drm.InputError{Field: "URL", Value: redact(u), Want: "an absolute http or https URL"}
	}
	if want := hint.Port(u); want != "" {
		return nil, &drm.InputError{Field: "URL", Value: redact(u), Want: want}
	}
	timeout, err := checkDuration("Timeout", cfg.Timeout, DefaultWebhookTimeout, minDuration)
	if err != nil {
		return nil, err
	}
	header, err := checkHeader(cfg.Header)
	if err != nil {
		return nil, err
	}
	w := &Webhook{
		url: u, shown: redact(u), header: header, timeout: timeout,
		secrets: secretsOf(u, header), onNotify: cfg.OnNotifyError,
	}
	if cfg.Client != nil {
		if cfg.TLS != nil {
			return nil, &drm.InputError{Field: "TLS", Value: "set", Want: "none, since Client brings its own"}
		}
		if cfg.GetTLS != nil {
			return nil, &drm.InputError{Field: "GetTLS", Value: "set", Want: "none, since Client brings its own"}
		}
		client := *cfg.Client
		w.client = &client
	} else {
		transport := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     cfg.TLS.Clone(),
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: webhookConnections,
			IdleConnTimeout:     90 * time.Second,
		}
		w.client, w.own = &http.Client{Transport: transport}, true
		if cfg.GetTLS != nil {
			if cfg.TLS != nil {
				return nil, &drm.InputError{Field: "GetTLS", Value: "set", Want: "none, since there is TLS"}
			}
			w.client.Transport = tlsfiles.NewTransport(transport, cfg.GetTLS)
		}
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w, nil
}

// checkHeader returns a copy of the header with the fields that every request has.
func checkHeader(given http.Header) (http.Header, error) {
	header := make(http.Header, len(given)+5)
	reserved := []string{
		"Content-Type",
		http.CanonicalHeaderKey(TokenHeader),
		http.CanonicalHeaderKey(CallHeader),
		http.CanonicalHeaderKey(ResourceHeader),
	}
	header.Set("User-Agent", "drm")
	for _, name := range slices.Sorted(maps.Keys(given)) {
		canonical := http.CanonicalHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) || slices.Contains(reserved, canonical) {
			const others = "Content-Type, " + TokenHeader + ", " + CallHeader + " and " + ResourceHeader
			return nil, &drm.InputError{Field: "Header", Value: name, Want: "a header name other than " + others}
		}
		for _, value := range given[name] {
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, &drm.InputError{Field: "Header", Value: name, Want: "values without control characters"}
			}
		}
		header[canonical] = slices.Clone(given[name])
	}
	header.Set("Content-Type", "application/json")
	return header, nil
}

// FinishesCalls makes DRM wait for the answer of a request when the resource moves or the member stops meanwhile.
// Otherwise the "terminate" would go out on another connection, and the receiver could carry it out before the request
// that it should end.
func (w *Webhook) FinishesCalls() bool { return true }

// Handle sends a "handle" request. If the receiver may have carried it out although no answer came, the error matches
// drm.ErrOutcomeUnknown, and DRM calls Terminate.
func (w *Webhook) Handle(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionHandle, c, nil)
}

// Update sends an "update" request.
func (w *Webhook) Update(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionUpdate, c, nil)
}

// Terminate sends a "terminate" request. If the connection was kept from an earlier request and turns out to be closed,
// the request is sent again over another one, because nothing else would make the receiver end the handling.
func (w *Webhook) Terminate(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionTerminate, c, nil)
}

// HandleFailed sends a "handle_failed" request once, and waits up to 5 s for its answer. It sends nothing if the call
// failed because no connection could be made: nobody would receive the request.
func (w *Webhook) HandleFailed(ctx context.Context, c drm.Claim, err error) {
	w.notify(ctx, actionHandleFailed, c, err)
}

// TerminateFailed sends a "terminate_failed" request in the same way.
func (w *Webhook) TerminateFailed(ctx context.Context, c drm.Claim, err error) {
	w.notify(ctx, actionTerminateFailed, c, err)
}

func (w *Webhook) notify(ctx context.Context, action string, c drm.Claim, cause error) {
	if _, nobody := errors.AsType[*unreachedError](cause); nobody {
		return
	}
	if err := w.send(ctx, action, c, cause); err != nil && w.onNotify != nil {
		w.onNotify(err)
	}
}

// unreachedError marks the failure of a request for which no connection could be made.
type unreachedError struct{ err error }

func (e *unreachedError) Error() string { return e.err.Error() }
func (e *unreachedError) Unwrap() error { return e.err }

// Close closes the idle connections, unless the client is the caller's own, and the connections on which the rest of an
// answer is still being read. Call it when no call is in progress any more. A later call opens new connections.
func (w *Webhook) Close() {
	w.bodies.close()
	if w.own {
		w.client.CloseIdleConnections()
	}
}

// attempt is what is known about one request. An http.Transport sets the atomic fields from goroutines of its own.
type attempt struct {
	told     atomic.Bool // the other fields can be relied on; a transport of the caller's own may not set them
	sent     atomic.Bool // there was a connection, so that the request may have been sent
	kept     atomic.Bool // the connection was kept from an earlier request
	answered atomic.Bool // the first byte of an answer came
	status   int         // of the answer; 0 if there was none
	late     bool        // the client's own timeout ended the request
	unsent   bool        // the request could not be made
}

// trace returns a context with which an http.Transport reports what becomes of the request.
func (a *attempt) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { a.told.Store(true) },
		GotConn: func(got httptrace.GotConnInfo) {
			a.sent.Store(true)
			a.kept.Store(got.Reused)
		},
		GotFirstResponseByte: func() { a.answered.Store(true) },
	})
}

// unreached reports whether no connection could be made.
func (a *attempt) unreached() bool {
	return a.status == 0 && a.told.Load() && !a.sent.Load() && !a.unsent
}

// unknown reports whether the receiver may have got the request without telling what became of it.
func (a *attempt) unknown() bool {
	switch a.status {
	case 0:
		return a.sent.Load() || !a.told.Load()
	case http.StatusBadGateway, http.StatusGatewayTimeout: // the answer of a proxy that does not know
		return true
	}
	return false
}

// broken reports whether the request may have failed only because a kept connection ended. Receivers close idle
// connections, some after seconds, and may do so just when a request is on its way.
func (a *attempt) broken() bool {
	return a.status == 0 && a.kept.Load() && !a.answered.Load() && !a.late
}

// send sends a request and waits until it is over. The error matches drm.ErrOutcomeUnknown if the receiver may have
// carried out the request although it failed.
//
// A terminate whose kept connection ended is sent again with a number of its own: the receiver may read the first
// request late, and must see which of the two is the later one. http.Transport would repeat the same bytes.
func (w *Webhook) send(ctx context.Context, action string, c drm.Claim, cause error) (err error) {
	maybeDone, unreached, timeout := false, false, w.timeout
	if action == actionHandleFailed || action == actionTerminateFailed {
		timeout = min(timeout, notifyTimeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	for range webhookConnections + 1 { // every kept connection may have been closed
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		var made attempt
		if err = w.post(ctx, &made, action, c, cause); err == nil {
			return nil
		}
		// An earlier request that broke is settled by an answer, not by a later request that reaches nobody.
		maybeDone = made.unknown() || maybeDone && made.status == 0
		unreached = made.unreached() && !maybeDone && ctx.Err() == nil
		if action != actionTerminate || ctx.Err() != nil || !made.broken() {
			break
		}
	}
	err = fmt.Errorf("POST %s: %w", w.shown, err)
	if maybeDone {
		err = fmt.Errorf("%w: %w", drm.ErrOutcomeUnknown, err)
	}
	if unreached {
		err = &unreachedError{err}
	}
	return failure("webhook: "+action, c, err)
}

// post makes one request.
func (w *Webhook) post(ctx context.Context, made *attempt, action string, c drm.Claim, cause error) error {
	number := w.calls.Add(1)
	body, err := encode(struct {
		call
		Call    int64 `json:"call"`
		ValidMS int64 `json:"valid_ms"`
	}{newCall(action, c, cause), number, c.Remaining().Milliseconds()})
	if err != nil {
		made.told.Store(true)
		made.unsent = true
		return err
	}
	// The call's context ends the request while post waits. After that, the request goes on until the rest of the
	// answer has been read, or letGo is called.
	asking, letGo := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, letGo)
	defer unhook()
	req, err := http.NewRequestWithContext(made.trace(asking), http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		made.told.Store(true)
		letGo()
		made.unsent = true
		return w.clean(ctx, err)
	}
	req.URL, req.Host, req.Header = w.url, w.header.Get("Host"), w.header.Clone()
	req.Header.Set(TokenHeader, strconv.FormatInt(c.Token, 10))
	req.Header.Set(CallHeader, strconv.FormatInt(number, 10))
	req.Header.Set(ResourceHeader, url.PathEscape(c.Resource.ID))
	if req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil {
		req.GetBody = nil // because of these headers, http.Transport would repeat the request with its old number
	}
	switch w.client.Transport.(type) {
	case nil, *http.Transport, *tlsfiles.Transport:
		made.told.Store(true)
	}
	res, err := w.client.Do(req) //nolint:bodyclose // w.bodies closes it
	if err != nil {
		letGo()
		timeout, ok := errors.AsType[net.Error](err)
		made.late = ok && timeout.Timeout()
		return w.clean(ctx, err)
	}
	made.status = res.StatusCode
	rest := w.bodies.read(res.Body, letGo)
	if res.StatusCode/100 == 2 { // a success, whatever follows the status
		rest.wait(successWait, ctx.Done())
		return nil
	}
	rest.wait(refusalWait, ctx.Done())
	err = fmt.Errorf("status %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if res.StatusCode/100 == 3 {
		err = fmt.Errorf("%w (redirects are not followed)", err)
	} else if check := hint.Status(res.StatusCode); check != "" && res.StatusCode < 500 { // the others may pass
		err = fmt.Errorf("%w (%s)", err, check)
	}
	if text := w.excerpt(rest.text()); text != "" {
		err = fmt.Errorf("%w: %q", err, text)
	}
	return err
}

// clean removes the URL and the secrets from an error of the client. If the context has ended, the error is its cause
// instead.
func (w *Webhook) clean(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if err = context.Cause(ctx); errors.Is(err, drm.CauseTimeout) { // the member's limit, not the Webhook's
			err = fmt.Errorf("no answer came: %w", err)
		}
		return err
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	check := hint.Connection(err, w.url.Scheme)
	if text := err.Error(); w.secrets.Hide(text) != text {
		err = errors.New(w.secrets.Hide(text))
	}
	if check != "" {
		err = fmt.Errorf("%w (%s)", err, check)
	}
	return err
}

// redact returns the text of a URL without user and password, and without the values of its query.
func redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	query := url.Values{}
	for name := range u.Query() {
		query.Set(name, "REDACTED")
	}
	shown.RawQuery = query.Encode()
	return shown.String()
}

// secretsOf returns the secrets that each request has: header values, user and password, and query values.
func secretsOf(u *url.URL, header http.Header) secrets.Set {
	var all []string
	for name, values := range header {
		if name != "Content-Type" && name != "User-Agent" {
			all = append(all, values...)
			for _, value := range values {
				if _, credential, ok := strings.Cut(value, " "); ok { // "Bearer …"
					all = append(all, credential)
				}
			}
		}
	}
	if u.User != nil {
		name := u.User.Username()
		password, _ := u.User.Password()
		all = append(all, name, password, base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
	}
	for _, values := range u.Query() {
		for _, value := range values {
			all = append(all, value, url.QueryEscape(value))
		}
	}
	return secrets.New(all, "REDACTED")
}
