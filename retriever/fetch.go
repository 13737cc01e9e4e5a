package retriever

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/hint"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Fetch asks the source for all its pages. Its errors name the URL. They are those of Decode, a *StatusError if the
// status is not success, drm.ErrNotModified if nothing has changed, and errors of the network and of ctx.
func (h *HTTP) Fetch(ctx context.Context) ([]drm.Resource, error) {
	h.mu.Lock()
	known, forgotten := h.validators, h.forgotten
	h.mu.Unlock()

	c := newCollector(h.cfg.decodeOptions())
	c.scrub = func(text string) string { return scrubText(text, h.secrets) }
	visited := map[string]bool{}
	page := h.url
	for {
		if len(visited) == h.cfg.MaxPages {
			want := fmt.Sprintf("at most %d pages (MaxPages)", h.cfg.MaxPages)
			return nil, fmt.Errorf("fetching %s: %w", redact(page),
				&drm.InputError{Field: "next", Value: redact(page), Want: want})
		}
		visited[page.String()] = true
		next, found, err := h.fetchPage(ctx, page, known, c)
		if err != nil {
			return nil, fmt.Errorf("fetching %s: %w", redact(page), err)
		}
		if next == nil {
			h.mu.Lock()
			if h.forgotten == forgotten {
				h.validators = found
			}
			h.mu.Unlock()
			if err := c.bad.OrNil(); err != nil {
				return c.resources, fmt.Errorf("fetching %s: %w", redact(h.url), err)
			}
			return c.resources, nil
		}
		if visited[next.String()] {
			return nil, fmt.Errorf("fetching %s: %w", redact(page),
				&drm.InputError{Field: "next", Value: redact(next), Want: "a page that was not read before"})
		}
		page = next
	}
}

// fetchPage asks for one page and passes it to c. It returns the URL of the next page, or nil if this is the last one,
// and the validators that can make the next request conditional.
func (h *HTTP) fetchPage(
	ctx context.Context,
	page *url.URL,
	known *validators,
	c *collector,
) (next *url.URL, found *validators, err error) {
	resp, err := h.do(ctx, page, known)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode == http.StatusNotModified && known != nil {
		_ = resp.Body.Close() // it is empty
		if known.confirmed(resp) {
			return nil, nil, drm.ErrNotModified
		}
		if resp, err = h.do(ctx, page, nil); err != nil {
			return nil, nil, err
		}
	}
	defer func() { _ = resp.Body.Close() }() // an error of Close does not matter: the body was read
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		after, _ := retryAfter(resp)
		err = &StatusError{Code: resp.StatusCode, RetryAfter: after}
		if resp.StatusCode == http.StatusBadRequest && page.Scheme == "http" {
			err = fmt.Errorf("%w: a server that wants https:// also answers with this status", err)
		}
		return nil, nil, h.led(resp, page, err)
	}
	body, err := decompress(resp)
	if err != nil {
		return nil, nil, h.led(resp, page, h.scrub(err))
	}
	nextInBody, err := c.add(body)
	if err != nil {
		return nil, nil, h.led(resp, page, typed(resp, h.scrub(err)))
	}
	if h.cfg.paged() {
		next, err = h.nextPage(resp, nextInBody)
		return next, nil, err
	}
	if h.cfg.Method != http.MethodGet {
		return nil, nil, nil
	}
	return nil, validatorsOf(resp), nil
}

// led adds to an error where redirects have led: to a login page, say.
func (h *HTTP) led(resp *http.Response, page *url.URL, err error) error {
	if resp.Request == nil || resp.Request.URL == nil || redact(resp.Request.URL) == redact(page) {
		return err
	}
	return fmt.Errorf("redirected to %s: %w", scrubText(redact(resp.Request.URL), h.secrets), err)
}

// typed adds to an error the Content-Type of the answer, unless that says JSON or nothing in particular.
func typed(resp *http.Response, err error) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "" || strings.Contains(kind, "json") || kind == "text/plain" || kind == "application/octet-stream" {
		return err
	}
	return fmt.Errorf("the answer has Content-Type %s: %w", excerpt.Of(kind), err)
}

// scrub removes secrets from an error about an answer, because a source may repeat parts of the request in it.
func (h *HTTP) scrub(err error) error {
	var input *drm.InputError
	if errors.As(err, &input) {
		input.Value = scrubText(input.Value, h.secrets)
		input.Want = scrubText(input.Want, h.secrets)
		return err
	}
	return scrubError(err, h.secrets)
}

func decompress(resp *http.Response) (io.Reader, error) {
	// The transport has decompressed the answer if it had asked for compression. A source may compress unasked.
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return resp.Body, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("decompressing the answer: %w", err)
		}
		return r, nil
	default:
		return nil, &drm.InputError{Field: "Content-Encoding", Value: excerpt.Of(encoding), Want: "gzip, or none"}
	}
}

// nextPage returns the URL of the page after the one in resp, or nil if that was the last one.
func (h *HTTP) nextPage(resp *http.Response, inBody json.RawMessage) (*url.URL, error) {
	var ref string
	if h.cfg.NextInBody && inBody != nil {
		var s *string
		if err := json.Unmarshal(inBody, &s); err != nil {
			return nil, &drm.InputError{Field: "next", Value: "another value", Want: "a string, null, or nothing"}
		}
		if s != nil {
			ref = *s
		}
	}
	if h.cfg.NextInLink && ref == "" {
		ref = linkNext(resp.Header.Values("Link"))
	}
	if ref == "" {
		return nil, nil
	}
	next, err := resp.Request.URL.Parse(ref)
	if err != nil {
		return nil, &drm.InputError{Field: "next", Value: "(not shown, for it may have secrets)", Want: "a URL"}
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	if next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
		return nil, &drm.InputError{Field: "next", Value: redact(next), Want: "an http or https URL"}
	}
	if !h.cfg.NextElsewhere && !sameHost(h.url, next) {
		return nil, &drm.InputError{
			Field: "next",
			Value: redact(next),
			Want:  "a URL on the host of the source (NextElsewhere allows others)",
		}
	}
	return next, nil
}

// request makes the request for a page. Only the source's own host gets the configured method, header and body.
func (h *HTTP) request(ctx context.Context, page *url.URL, known *validators) (*retryablehttp.Request, error) {
	method, header, body := h.cfg.Method, h.header, h.cfg.Body
	if !sameHost(h.url, page) {
		method, header, body = http.MethodGet, nil, nil
	}
	var raw any
	if len(body) > 0 {
		raw = body
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, method, page.String(), raw)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	for name, values := range header {
		name = http.CanonicalHeaderKey(name)
		req.Header[name] = values
		if name == "Host" && len(values) > 0 {
			req.Host = values[0]
		}
	}
	known.set(req.Header)
	return req, nil
}

// do sends a request, repeats it while its failure may pass, and returns the last answer, whatever its status.
func (h *HTTP) do(ctx context.Context, page *url.URL, known *validators) (*http.Response, error) {
	req, err := h.request(ctx, page, known)
	if err != nil {
		return nil, scrubError(err, h.secrets)
	}
	attempts := newAttempts(&h.cfg)
	client := &retryablehttp.Client{
		HTTPClient:   h.client,
		RetryMax:     h.cfg.Attempts - 1,
		CheckRetry:   attempts.again,
		Backoff:      attempts.pause,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	resp, err := client.Do(req)
	if err == nil {
		return resp, nil
	}
	if resp != nil {
		_ = resp.Body.Close() // do returns another error already
	}
	check := ""
	if ctx.Err() == nil {
		check = hint.Connection(err, page.Scheme)
	}
	err = scrubError(err, h.secrets)
	if check != "" {
		err = fmt.Errorf("%w (%s)", err, check)
	}
	if last := attempts.last; ctx.Err() != nil && last != nil {
		return nil, fmt.Errorf("%w, after %w", err, scrubError(last, h.secrets))
	}
	return nil, err
}

// attempts decides whether and when one request is sent again.
type attempts struct {
	cfg    *HTTPConfig
	pauses *pace.Pauses
	wait   time.Duration // before the next attempt
	last   error         // the failure of the last attempt after which another one was due
}

func newAttempts(cfg *HTTPConfig) *attempts {
	return &attempts{cfg: cfg, pauses: pace.New(cfg.RetryWait, cfg.RetryWaitMax, 0)}
}

// again is the CheckRetry of retryablehttp: it decides whether to try again after an answer or an error.
func (a *attempts) again(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		// The policy of retryablehttp knows which other errors of the client are permanent.
		var redirect *redirectError
		if errors.As(err, &redirect) {
			return false, err
		}
		if again, _ := retryablehttp.DefaultRetryPolicy(ctx, nil, err); !again {
			return false, err
		}
	} else if !mayPass(resp.StatusCode) {
		return false, nil
	}
	a.wait = a.pauses.Next()
	status := &StatusError{}
	if err == nil {
		status.Code = resp.StatusCode
		if after, ok := retryAfter(resp); ok {
			if after > a.cfg.RetryWaitMax {
				return false, nil
			}
			a.wait, status.RetryAfter = after, after
		}
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= a.wait {
		return false, err
	}
	a.last = err
	if err == nil {
		a.last = status
	}
	return true, nil
}

// pause is the Backoff of retryablehttp.
func (a *attempts) pause(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return a.wait }

// mayPass reports whether a failure with this status may be over soon.
func mayPass(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented:
		return false
	}
	return code >= 500
}

// retryAfter returns how long the header Retry-After (RFC 9110, section 10.2.3) asks to wait. It has seconds or a date.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date).Round(time.Second)), true
	}
	return 0, false
}
