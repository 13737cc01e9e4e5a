package handler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/distributed-resource-manager/drm"
)

// ReadyURL asks a URL by GET whether a service can work. Its Ready is for drm.Config.Ready, where the service does the
// handler's work: it also notices that the service was restarted. Connections to it were refused after it had answered,
// and it answers again; or the answer names another instance (InstanceHeader) than the one before.
//
// Where the service is something else that the handler needs, as it is with an Exec, a Loop or a Printer, a restart of
// it takes nothing away from what is handled. There, its ReadyAnyway is for drm.Config.Ready.
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
	err := r.ask(ctx)
	if err != nil {
		return fmt.Errorf("GET %s: %w", r.w.shown, err)
	}
	return nil
}

// ReadyAnyway is Ready for a service that does not do the handler's work: a restart of it is just a success.
func (r *ReadyURL) ReadyAnyway(ctx context.Context) error {
	if err := r.Ready(ctx); !errors.Is(err, drm.ErrServiceRestarted) {
		return err
	}
	return nil
}

// ask asks once. The error is drm.ErrServiceRestarted if that was noticed.
func (r *ReadyURL) ask(ctx context.Context) error {
	w := r.w
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, fmt.Errorf("no answer within %v", w.timeout))
	defer cancel()
	var made attempt
	err := w.exchange(ctx, w.client, &made, http.MethodGet, w.header.Clone(), nil, true)
	if r.restarted(&made) {
		return drm.ErrServiceRestarted
	}
	return err
}

// restarted takes note of what became of a request, and returns whether the service was restarted since the last answer
// that said that it is ready.
func (r *ReadyURL) restarted(made *attempt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if made.refused {
		r.gone = r.answered
	}
	if made.status/100 != 2 {
		return false
	}
	another := made.instance != "" && r.instance != "" && made.instance != r.instance
	restarted := r.gone || another
	r.answered, r.gone = true, false
	if made.instance != "" {
		r.instance = made.instance
	}
	return restarted
}

// Close closes the idle connections, unless the client is the caller's own. Call it when Ready is not called any more.
func (r *ReadyURL) Close() { r.w.Close() }
