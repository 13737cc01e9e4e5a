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
	// DefaultWebhookTimeout is how long a Webhook waits for an answer.
	DefaultWebhookTimeout = 30 * time.Second
	// TokenHeader is the HTTP header in which a Webhook repeats the fencing token.
	TokenHeader = "DRM-Token"
	// ResourceHeader is the HTTP header in which a Webhook repeats the resource's id, percent-encoded as a part of a
	// URL's path (url.PathUnescape undoes it). With all three, a gateway can refuse outdated requests without reading
	// the body.
	ResourceHeader = "DRM-Resource"
	// CallHeader is the HTTP header in which a Webhook repeats the request's number, in decimal digits. Of two requests
	// for one resource under one token, the one that was sent later has the higher number.
	CallHeader = "DRM-Call"

	webhookConnections = 128             // idle ones kept; above the default of drm.Config.HandleConcurrency plus as many Terminates
	notifyTimeout      = 5 * time.Second // most that a notification waits: no answer of it changes anything, and the next request waits for it
)

// WebhookConfig is what NewWebhook needs to know. A value that cannot be is a *drm.InputError.
type WebhookConfig struct {
	// URL receives the requests: http or https. User and password in it are sent as basic authentication. Errors and
	// logs have its scheme, host, path and the names of its query's parameters. Required.
	URL string
	// Header is added to each request, for authentication, say. Content-Type, DRM-Token, DRM-Call and DRM-Resource are
	// not for it to set.
	Header http.Header
	// Timeout bounds each request, from connecting to the status and headers of the answer. Raised, a slow receiver is
	// borne longer; lowered, one that hangs is given up sooner, and the resource tried again. Default 30 s; 1 ms to 24
	// h. A drm.Config.HandleTimeout that is shorter comes first.
	Timeout time.Duration
	// TLS is for https: own roots, a client certificate. Not together with Client.
	TLS *tls.Config
	// GetTLS, in place of TLS, is asked for the TLS configuration, at most once a second while all goes well. Where it
	// returns another one than before, further connections are made with that: so a CA can be rotated. (For a client
	// certificate alone, TLS with GetClientCertificate does.) It is called from any goroutine; an error fails the
	// request. Not together with TLS or Client.
	GetTLS func() (*tls.Config, error)
	// Client sends the requests instead of the Webhook's own client, which keeps up to 128 idle connections and uses
	// the proxy that the environment names. Its CheckRedirect is not used: no redirect is followed.
	Client *http.Client
	// OnNotifyError is told when a handle_failed or terminate_failed request failed, since DRM expects no answer of
	// these. Such a request is not sent again. Optional; called from any goroutine.
	OnNotifyError func(error)
}

// Webhook is a drm.Handler and drm.Updater that tells an HTTP service what to do: one POST per call. The contract is
// docs/webhook.md. A call returns when its request is over: answered, failed or cancelled with its context.
//
// It is a drm.Finisher, since a request that is cancelled may still be carried out: DRM waits for the answer.
//
// Each Webhook counts its requests by itself, and a receiver compares the numbers. So a member needs one Webhook for
// each receiver, and not several whose calls for a resource reach the same one.
type Webhook struct {
	url      *url.URL
	shown    string // the URL as errors show it
	header   http.Header
	timeout  time.Duration
	client   *http.Client
	own      bool // client's transport is not the caller's
	secrets  secrets.Set
	onNotify func(error)
	bodies   bodies
	calls    atomic.Int64 // requests so far; far below 2^53, which is as far as a JSON number is exact everywhere
}

var _ interface {
	drm.Handler
	drm.Updater
	drm.Finisher
} = (*Webhook)(nil)

// NewWebhook makes a Webhook. It connects to nothing yet.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if shown, scheme, ok := hint.Scheme(cfg.URL); ok {
		return nil, &drm.InputError{Field: "URL", Value: shown, Want: scheme}
	}
	u, err := url.Parse(cfg.URL)
	if err != nil { // it is not shown: what does not parse cannot be stripped of its secrets
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

// checkHeader copies the header, with the values that every request has.
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
			return nil, &drm.InputError{
				Field: "Header",
				Value: name,
				Want:  "a header name other than Content-Type, " + TokenHeader + ", " + CallHeader + " and " + ResourceHeader,
			}
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

// FinishesCalls makes DRM wait for the answer of a request where the resource moves, or the member stops, meanwhile. A
// "terminate" would go out on another connection, and could be carried out before what it is to end.
func (w *Webhook) FinishesCalls() bool { return true }

// Handle sends a "handle" request. If the receiver may have done what it asks though no answer of it came, the error
// matches drm.ErrOutcomeUnknown, and DRM calls Terminate.
func (w *Webhook) Handle(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionHandle, c, nil)
}

// Update sends an "update" request.
func (w *Webhook) Update(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionUpdate, c, nil)
}

// Terminate sends a "terminate" request. Where a kept connection turns out to be closed, it is sent once more, over
// another one: nothing else would end what the receiver has.
func (w *Webhook) Terminate(ctx context.Context, c drm.Claim) error {
	return w.send(ctx, actionTerminate, c, nil)
}

// HandleFailed sends a "handle_failed" request, once, and waits for up to 5 s. It sends none where the call failed
// because no connection could be made: nobody is there to be told.
func (w *Webhook) HandleFailed(ctx context.Context, c drm.Claim, err error) {
	w.notify(ctx, actionHandleFailed, c, err)
}

// TerminateFailed sends a "terminate_failed" request likewise.
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

// Close closes the idle connections, and those on which the rest of an answer is still being read. It is for when no
// call is in progress any more; a later call opens new ones.
func (w *Webhook) Close() {
	w.bodies.close()
	if w.own {
		w.client.CloseIdleConnections()
	}
}

// attempt is what is known of one request. http.Transport tells it, from goroutines of its own.
type attempt struct {
	told     atomic.Bool // what sends the request tells of connections: an http.Transport does, others may not
	sent     atomic.Bool // there was one
	kept     atomic.Bool // it was kept from an earlier request
	answered atomic.Bool // the first byte of an answer came
	status   int         // of the answer; 0 where there was none
	late     bool        // the client waited no longer
	unsent   bool        // it could not be made in the first place
}

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

// unreached says whether no connection could be made.
func (a *attempt) unreached() bool {
	return a.status == 0 && a.told.Load() && !a.sent.Load() && !a.unsent
}

// unknown says whether the receiver may have got the request, and has not said what became of it.
func (a *attempt) unknown() bool {
	switch a.status {
	case 0:
		return a.sent.Load() || !a.told.Load()
	case http.StatusBadGateway, http.StatusGatewayTimeout: // what a proxy says when it does not know
		return true
	}
	return false
}

// broken says whether the end of a kept connection may be all that went wrong: receivers close those that are idle,
// some after seconds, and may do so just when a request is on its way.
func (a *attempt) broken() bool {
	return a.status == 0 && a.kept.Load() && !a.answered.Load() && !a.late
}

// send sends a request and waits for its end. An error matches drm.ErrOutcomeUnknown where the receiver may have done
// what was asked all the same.
//
// A terminate that meets the end of a kept connection is sent again, under a number of its own: the receiver may come
// to the first one late, and has to see which one is later. http.Transport would repeat the same bytes.
func (w *Webhook) send(ctx context.Context, action string, c drm.Claim, cause error) (err error) {
	maybeDone, unreached, timeout := false, false, w.timeout
	if action == actionHandleFailed || action == actionTerminateFailed {
		timeout = min(timeout, notifyTimeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	for range webhookConnections + 1 { // all that are kept may have been closed
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		var made attempt
		if err = w.post(ctx, &made, action, c, cause); err == nil {
			return nil
		}
		// What was sent before and broke is settled by an answer, not by finding nobody there any more.
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
		made.told.Store(true) // and nothing was sent
		made.unsent = true
		return err
	}
	// The request outlives the call by what follows the status of a success, and ends with the call's context until
	// then.
	asking, give := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, give)
	defer unhook()
	req, err := http.NewRequestWithContext(made.trace(asking), http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		made.told.Store(true)
		give()
		made.unsent = true
		return w.clean(ctx, err)
	}
	req.URL, req.Host, req.Header = w.url, w.header.Get("Host"), w.header.Clone()
	req.Header.Set(TokenHeader, strconv.FormatInt(c.Token, 10))
	req.Header.Set(CallHeader, strconv.FormatInt(number, 10))
	req.Header.Set(ResourceHeader, url.PathEscape(c.Resource.ID))
	if req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil {
		req.GetBody = nil // with one of these, http.Transport would repeat the request under its old number
	}
	switch w.client.Transport.(type) {
	case nil, *http.Transport, *tlsfiles.Transport:
		made.told.Store(true)
	}
	res, err := w.client.Do(req) //nolint:bodyclose // w.bodies does
	if err != nil {
		give()
		timeout, ok := errors.AsType[net.Error](err)
		made.late = ok && timeout.Timeout()
		return w.clean(ctx, err)
	}
	made.status = res.StatusCode
	rest := w.bodies.read(res.Body, give)
	if res.StatusCode/100 == 2 { // whatever follows, and whether it ends
		rest.wait(successWait, ctx.Done())
		return nil
	}
	rest.wait(refusalWait, ctx.Done())
	err = fmt.Errorf("status %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if res.StatusCode/100 == 3 {
		err = fmt.Errorf("%w (redirects are not followed)", err)
	} else if check := hint.Status(res.StatusCode); check != "" && res.StatusCode < 500 { // what fails later may pass
		err = fmt.Errorf("%w (%s)", err, check)
	}
	if text := w.excerpt(rest.text()); text != "" {
		err = fmt.Errorf("%w: %q", err, text)
	}
	return err
}

// clean takes the URL out of the client's error, and says why the context ended where that is the reason.
func (w *Webhook) clean(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if err = context.Cause(ctx); errors.Is(err, drm.CauseTimeout) { // the member's limit came before the Webhook's
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

// redact shows a URL without user, password, and the values of its query.
func redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	query := url.Values{}
	for name := range u.Query() {
		query.Set(name, "REDACTED")
	}
	shown.RawQuery = query.Encode()
	return shown.String()
}

// secretsOf are the secrets that each request carries.
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
