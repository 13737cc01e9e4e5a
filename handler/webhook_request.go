package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/hint"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

// attempt is what is known about one request. An http.Transport sets the atomic fields from goroutines of its own.
type attempt struct {
	told     atomic.Bool // the other fields can be relied on; a transport of the caller's own may not set them
	sent     atomic.Bool // there was a connection, so that the request may have been sent
	kept     atomic.Bool // the connection was kept from an earlier request
	answered atomic.Bool // the first byte of an answer came
	began    time.Time   // when the request was about to be sent
	status   int         // of the answer; 0 if there was none
	instance string      // what the receiver calls itself in the answer; "" if it does not
	refused  bool        // nobody listened
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

// post makes one request about a resource.
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
	header := w.header.Clone()
	header.Set(TokenHeader, strconv.FormatInt(c.Token, 10))
	header.Set(CallHeader, strconv.FormatInt(number, 10))
	header.Set(ResourceHeader, url.PathEscape(c.Resource.ID))
	return w.exchange(ctx, w.client, made, http.MethodPost, header, body, false)
}

// exchange sends one request, and waits for the answer. http.Transport may repeat the request over another connection
// only if repeat allows that.
func (w *Webhook) exchange(
	ctx context.Context,
	client *http.Client,
	made *attempt,
	method string,
	header http.Header,
	body []byte,
	repeat bool,
) error {
	// The call's context ends the request while exchange waits. After that, the request goes on until the rest of the
	// answer has been read, or letGo is called.
	asking, letGo := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, letGo)
	defer unhook()
	req, err := http.NewRequestWithContext(made.trace(asking), method, "", bytes.NewReader(body))
	if err != nil {
		made.told.Store(true)
		letGo()
		made.unsent = true
		return w.clean(ctx, err)
	}
	req.URL, req.Host, req.Header = w.url, header.Get("Host"), header
	if !repeat && (header["Idempotency-Key"] != nil || header["X-Idempotency-Key"] != nil) {
		req.GetBody = nil // because of these headers, http.Transport would repeat the request with its old number
	}
	switch client.Transport.(type) {
	case nil, *http.Transport, *tlsfiles.Transport:
		made.told.Store(true)
	}
	made.began = time.Now()
	res, err := client.Do(req) //nolint:bodyclose // w.bodies closes it
	if err != nil {
		letGo()
		made.refused = isRefused(err)
		timeout, ok := errors.AsType[net.Error](err)
		made.late = ok && timeout.Timeout()
		return w.clean(ctx, err)
	}
	made.status, made.instance = res.StatusCode, instanceOf(res.Header)
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
