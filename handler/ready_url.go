package handler

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/hint"
)

// ReadyURL asks a URL by GET whether a service can work. Its Ready is for drm.Config.Ready. It also notices that the
// service was restarted: connections to it were refused after it had answered, and it answers again; or the answer
// names another instance (InstanceHeader) than the one before.
type ReadyURL struct {
	w *Webhook

	mu       sync.Mutex
	answered bool   // it was ready once
	gone     bool   // since then, nobody listened
	instance string // of the last answer that named one
}

// NewReadyURL makes a ReadyURL. It uses the fields URL, Header, Timeout, TLS, GetTLS and Client of the config as a
// Webhook does; Timeout bounds one question, beside the time that DRM gives it. Redirects are not followed. The error
// is a *drm.InputError that names the field.
func NewReadyURL(cfg WebhookConfig) (*ReadyURL, error) {
	w, err := NewWebhook(cfg)
	if err != nil {
		return nil, err
	}
	w.header.Del("Content-Type")
	return &ReadyURL{w: w}, nil
}

// Ready returns nil if the answer has a status of 2xx, and drm.ErrServiceRestarted if it has, and the service was
// restarted since the last such answer. Any other error says what was answered instead, with up to 200 bytes
// of the body, and shows no secrets: neither header values, nor the user, the password and the query values of the URL.
func (r *ReadyURL) Ready(ctx context.Context) error {
	w := r.w
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, fmt.Errorf("no answer within %v", w.timeout))
	defer cancel()
	if err := r.get(ctx); err != nil {
		return fmt.Errorf("GET %s: %w", w.shown, err)
	}
	return nil
}

// get makes the request. It does not wait for the rest of the answer.
func (r *ReadyURL) get(ctx context.Context) error {
	w := r.w
	asking, letGo := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, letGo)
	defer unhook()
	req, err := http.NewRequestWithContext(asking, http.MethodGet, "", http.NoBody)
	if err != nil {
		letGo()
		return w.clean(ctx, err)
	}
	req.URL, req.Host, req.Header = w.url, w.header.Get("Host"), w.header.Clone()
	res, err := w.client.Do(req) //nolint:bodyclose // w.bodies closes it
	if err != nil {
		letGo()
		if isRefused(err) {
			r.note(true, "")
		}
		return w.clean(ctx, err)
	}
	rest := w.bodies.read(res.Body, letGo)
	if res.StatusCode/100 == 2 {
		rest.wait(successWait, ctx.Done())
		if r.note(false, instanceOf(res.Header)) {
			return drm.ErrServiceRestarted
		}
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

// note takes note of a refused connection, or of an answer and the instance in it, and returns whether the service was
// restarted since the last answer.
func (r *ReadyURL) note(refused bool, instance string) (restarted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused {
		r.gone = r.answered
		return false
	}
	restarted = r.gone || instance != "" && r.instance != "" && instance != r.instance
	r.answered, r.gone = true, false
	if instance != "" {
		r.instance = instance
	}
	return restarted
}

// Close closes the idle connections, unless the client is the caller's own. Call it when Ready is not called any more.
func (r *ReadyURL) Close() { r.w.Close() }
