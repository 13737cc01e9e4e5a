package handler

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
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
	// error fails the request. Not together with TLS or Client. For a receiver that has sent InstanceHeader, it is
	// called up to twice as often, since the questions for its instance have connections of their own.
	GetTLS func() (*tls.Config, error)
	// Client sends the requests. Its CheckRedirect is not used, because no redirect is followed. Default: a client that
	// keeps up to 128 idle connections and uses the proxy that the environment names.
	Client *http.Client
	// OnNotifyError is called with the error of a handle_failed or terminate_failed request, because DRM does not ask
	// for one. Such a request is not sent again. Optional; called from any goroutine.
	OnNotifyError func(error)
	// Checks lets Check ask the receiver, with "check" requests, whether what it was given still works. Without it,
	// Check sends nothing. A receiver that answers 404 or 501 does not know the action, and is not asked again, unless
	// another instance of it answers (InstanceHeader). Default false.
	Checks bool
}

// Webhook is a drm.Handler and drm.Updater that tells an HTTP service what to do, with one POST per call. The contract
// is docs/webhook.md. A call returns when its request is over: answered, failed, or cancelled with its context.
//
// It is a drm.Finisher, so that DRM waits for the answer: the receiver might carry out a request that was cancelled.
//
// It is drm.Restartable: once an answer of the receiver had InstanceHeader, the receiver is asked which instance of it
// answers, so that one that was restarted is told everything again. A receiver that sends no such header is never
// asked.
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

	instances instances // the instances of the receiver that have answered
	questions questions // which one answers now
	checks    bool
	// noChecks is the number of the instance of the receiver that does not know the action "check", plus 1; 0: none.
	noChecks atomic.Int32
}

var _ interface {
	drm.Handler
	drm.Updater
	drm.Finisher
	drm.Restartable
	drm.Checker
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
		secrets: secretsOf(u, header), onNotify: cfg.OnNotifyError, checks: cfg.Checks,
		questions: newQuestions(),
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
			w.questions.transport = func() http.RoundTripper {
				return tlsfiles.NewTransport(withOneConnection(transport), cfg.GetTLS)
			}
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
	_, err := w.send(ctx, actionHandle, c, nil)
	return err
}

// Update sends an "update" request.
func (w *Webhook) Update(ctx context.Context, c drm.Claim) error {
	_, err := w.send(ctx, actionUpdate, c, nil)
	return err
}

// Terminate sends a "terminate" request. If the connection was kept from an earlier request and turns out to be closed,
// the request is sent again over another one, because nothing else would make the receiver end the handling.
//
// A receiver that says which instance of it answers (InstanceHeader) is first asked for that, where it has not answered
// for a moment or where a request got no answer. If another instance is there than the one that was given the resource,
// nothing is sent, and Terminate has succeeded.
func (w *Webhook) Terminate(ctx context.Context, c drm.Claim) error {
	_, err := w.send(ctx, actionTerminate, c, nil)
	return err
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
	if _, err := w.send(ctx, action, c, cause); err != nil && w.onNotify != nil {
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
	w.questions.close()
	if w.own {
		w.client.CloseIdleConnections()
	}
}

// send sends a request and waits until it is over. The error matches drm.ErrOutcomeUnknown if the receiver may have
// carried out the request although it failed.
//
// A terminate whose kept connection ended is sent again with a number of its own: the receiver may read the first
// request late, and must see which of the two is the later one. http.Transport would repeat the same bytes.
//
// The status is that of the last answer; 0 if there was none.
func (w *Webhook) send(
	ctx context.Context,
	action string,
	c drm.Claim,
	cause error,
) (status int, err error) {
	maybeDone, unreached, timeout := false, false, w.timeout
	given := w.instances.current() // it, or one before it, was given the resource
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
		if action == actionTerminate && w.replaced(ctx, given, c) {
			return 0, nil
		}
		var made attempt
		err = w.post(ctx, &made, action, c, cause)
		status = made.status
		if name := w.instances.note(&made, keyOf(c)); name != "" && action != actionCheck {
			c.ServedBy(name)
		}
		if err == nil {
			w.settle(action, c, true)
			return status, nil
		}
		// An earlier request that broke is settled by an answer, not by a later request that reaches nobody.
		maybeDone = made.unknown() || maybeDone && made.status == 0
		unreached = made.unreached() && !maybeDone && ctx.Err() == nil
		if action != actionTerminate || ctx.Err() != nil || !made.broken() {
			break
		}
	}
	if maybeDone {
		w.settle(action, c, false)
	}
	err = fmt.Errorf("POST %s: %w", w.shown, err)
	if maybeDone && action != actionCheck { // a check changes nothing
		err = fmt.Errorf("%w: %w", drm.ErrOutcomeUnknown, err)
	}
	if unreached {
		err = &unreachedError{err}
	}
	return status, failure("webhook: "+action, c, err)
}

// settle takes note of whether the outcome of a request is known. That of a terminate which failed leaves everything as
// it was.
func (w *Webhook) settle(action string, c drm.Claim, known bool) {
	switch action {
	case actionHandle, actionUpdate:
		w.instances.settle(keyOf(c), known)
	case actionTerminate:
		if known {
			w.instances.settle(keyOf(c), true)
		}
	}
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
