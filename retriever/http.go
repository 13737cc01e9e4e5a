package retriever

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-cleanhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/hint"
	"github.com/distributed-resource-manager/drm/internal/secrets"
	"github.com/distributed-resource-manager/drm/internal/tlsfiles"
)

// Defaults of HTTPConfig.
const (
	DefaultTimeout      = 30 * time.Second
	DefaultAttempts     = 4
	DefaultRetryWait    = 500 * time.Millisecond
	DefaultRetryWaitMax = 10 * time.Second
	DefaultMaxPages     = 1000
)

// HTTPConfig configures NewHTTP, which refuses an invalid value with a *drm.InputError. URL is required. Zero values of
// the other fields stand for their defaults.
//
// The userinfo and query values of URL, the values of Header, and Body count as secrets: no error shows them, and they
// are sent only to the host of URL. "The same host" means the same name and port. One redirect from http to https on
// their usual ports stays on the same host too; one from https to http does not.
type HTTPConfig struct {
	// URL is that of the source, an absolute http or https URL. Userinfo in it is sent as basic authentication.
	URL string
	// Method is that of each request. A request may be sent more than once, whatever its method. Default GET.
	Method string
	// Header is added to each request. It must not have Accept-Encoding, because HTTP handles compression itself.
	Header http.Header
	// Body is sent with each request.
	Body []byte

	// Timeout bounds each single request, up to the last byte of its answer. The context of Fetch bounds all requests
	// together. Raised, a slow source gets more time; lowered, a dead one is tried again, or given up, sooner.
	// Default 30 s, or the timeout of Client if that has one; a negative value is an error.
	Timeout time.Duration
	// Attempts is how many times a request is sent at most while it fails with a connection error or with a status
	// that may pass: 408, 425, 429, and 500 and above except 501. Default 4; 1 to 100.
	Attempts int
	// RetryWait is the pause after the first attempt. It doubles with each further attempt, up to RetryWaitMax. If the
	// source sends Retry-After, that is the pause instead. If the next attempt could not begin before the context ends,
	// the fetch fails at once. Default 500 ms; 1 ms to RetryWaitMax.
	RetryWait time.Duration
	// RetryWaitMax is the longest pause. If a source asks for a longer one with Retry-After, the fetch fails at once,
	// and the coordinating member leaves the source alone for the time that it asked for. Default 10 s, or RetryWait if
	// that is longer; up to 1 h.
	RetryWaitMax time.Duration

	// TLS is the TLS configuration. Default: one with the system's root certificates. Not together with Client.
	TLS *tls.Config
	// GetTLS, in place of TLS, returns the TLS configuration. It is called at most once a second while it succeeds.
	// When it returns another configuration than before, new connections use that, so that a CA can be rotated. (To
	// rotate a client certificate alone, TLS with GetClientCertificate is enough.) It is called from any goroutine. Its
	// error fails the request. Not together with TLS or Client.
	GetTLS func() (*tls.Config, error)
	// Client is the caller's own client. HTTP copies it, and uses its transport, cookies and redirect policy. Default:
	// a client that uses the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name.
	Client *http.Client

	// MaxBytes and NumberIDs are as in DecodeOptions. MaxBytes bounds all pages together.
	MaxBytes  int64
	NumberIDs bool

	// NextInBody makes Fetch read further pages: the URL of the next page is in "next" beside "data". The last page has
	// no "next", or null, or "". A source with pages is always asked for everything, because an unchanged page says
	// nothing about the other pages. Default false.
	NextInBody bool
	// NextInLink does the same with the URL of a Link header with rel="next" (RFC 8288). Default false.
	NextInLink bool
	// NextElsewhere allows a next page on another host, which is asked with a bare GET. Default false: such a page is
	// an error.
	NextElsewhere bool
	// MaxPages is how many pages one fetch may read; one more is an error. Default 1000; at least 1.
	MaxPages int
}

// HTTP is a source that is asked over HTTP. It is safe for use from any goroutine.
//
// A GET without pages is conditional (RFC 9110, section 13) if the last good answer had an ETag or Last-Modified. If
// the source then answers 304, Fetch returns drm.ErrNotModified. Last-Modified counts only if there is no ETag, and if
// the answer's Date is at least two seconds later: a source can change twice within the second that Last-Modified
// names. A 304 that names another ETag or Last-Modified than the last answer, or that comes from another URL, is not
// believed: Fetch then asks for everything.
type HTTP struct {
	cfg     HTTPConfig
	url     *url.URL
	header  http.Header
	client  *http.Client
	own     bool // the transport of client was made here
	secrets secrets.Set

	mu         sync.Mutex
	validators *validators // for the next request; nil if it must ask for everything
	forgotten  int         // how many times Forget was called, so that a Fetch in progress keeps no validators
}

var _ drm.Retriever = (*HTTP)(nil)

// NewHTTP checks the configuration and makes a source of it. It does not connect to the source. The error is a
// *drm.InputError that names the field.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	h := &HTTP{header: cfg.Header.Clone()}
	if h.header == nil {
		h.header = http.Header{}
	}
	for _, check := range []func(*HTTPConfig) error{h.takeURL, checkRequest, checkNumbers, h.takeClient} {
		if err := check(&cfg); err != nil {
			return nil, err
		}
	}
	cfg.Body = bytes.Clone(cfg.Body)
	h.cfg = cfg
	h.secrets = secretsOf(h.url, h.header, cfg.Body)
	return h, nil
}

// takeURL checks the URL, and sets h.url and the header for basic authentication.
func (h *HTTP) takeURL(cfg *HTTPConfig) error {
	const want = "an absolute http or https URL"
	if shown, scheme, ok := hint.Scheme(cfg.URL); ok {
		return &drm.InputError{Field: "URL", Value: shown, Want: scheme}
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return &drm.InputError{Field: "URL", Value: "(not shown, for it may have secrets)", Want: want}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return &drm.InputError{Field: "URL", Value: redact(u), Want: want}
	}
	if want := hint.Port(u); want != "" {
		return &drm.InputError{Field: "URL", Value: redact(u), Want: want}
	}
	if user := u.User; user != nil {
		if h.header.Get("Authorization") != "" {
			return &drm.InputError{Field: "URL", Value: redact(u), Want: "no userinfo beside an Authorization header"}
		}
		password, _ := user.Password()
		r := http.Request{Header: h.header}
		r.SetBasicAuth(user.Username(), password)
		u.User = nil
	}
	u.Fragment, u.RawFragment = "", ""
	h.url = u
	return nil
}

// checkRequest checks the method and the header, and fills in the default of the method.
func checkRequest(cfg *HTTPConfig) error {
	if cfg.Method == "" {
		cfg.Method = http.MethodGet
	}
	unfit := []string{http.MethodHead, http.MethodConnect, http.MethodOptions, http.MethodTrace}
	if !httpguts.ValidHeaderFieldName(cfg.Method) || cfg.Method != strings.ToUpper(cfg.Method) ||
		slices.Contains(unfit, cfg.Method) {
		return &drm.InputError{
			Field: "Method",
			Value: excerpt.Of(cfg.Method),
			Want:  "a method whose answer is the resources, in capitals, such as GET or POST",
		}
	}
	for name, values := range cfg.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return &drm.InputError{
				Field: "Header",
				Value: excerpt.Of(name),
				Want:  "names of letters, digits and hyphens",
			}
		}
		if http.CanonicalHeaderKey(name) == "Accept-Encoding" {
			return &drm.InputError{
				Field: "Header",
				Value: name,
				Want:  "no Accept-Encoding: compression needs no header",
			}
		}
		if !slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			continue
		}
		return &drm.InputError{Field: "Header", Value: name, Want: "a value without control characters"}
	}
	return nil
}

// checkNumbers checks the durations and numbers, and fills in their defaults.
func checkNumbers(cfg *HTTPConfig) error {
	for _, d := range []struct {
		field    string
		value    *time.Duration
		standard time.Duration
		min, max time.Duration
	}{
		{"Timeout", &cfg.Timeout, cfg.clientTimeout(), 1, 1<<63 - 1},
		{"RetryWait", &cfg.RetryWait, DefaultRetryWait, time.Millisecond, time.Hour},
		{"RetryWaitMax", &cfg.RetryWaitMax, max(DefaultRetryWaitMax, cfg.RetryWait), time.Millisecond, time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
		if *d.value < d.min || *d.value > d.max {
			return &drm.InputError{
				Field: d.field,
				Value: d.value.String(),
				Want:  fmt.Sprintf("%s to %s, or 0 for the default", d.min, d.max),
			}
		}
	}
	if cfg.RetryWait > cfg.RetryWaitMax {
		return &drm.InputError{
			Field: "RetryWait",
			Value: cfg.RetryWait.String(),
			Want:  "at most RetryWaitMax, " + cfg.RetryWaitMax.String(),
		}
	}
	for _, n := range []struct {
		field              string
		value              *int
		standard, min, max int
	}{
		{"Attempts", &cfg.Attempts, DefaultAttempts, 1, 100},
		{"MaxPages", &cfg.MaxPages, DefaultMaxPages, 1, 1 << 30},
	} {
		if *n.value == 0 {
			*n.value = n.standard
		}
		if *n.value < n.min || *n.value > n.max {
			return &drm.InputError{
				Field: n.field,
				Value: strconv.Itoa(*n.value),
				Want:  fmt.Sprintf("%d to %d, or 0 for the default", n.min, n.max),
			}
		}
	}
	return cfg.decodeOptions().check()
}

func (c *HTTPConfig) clientTimeout() time.Duration {
	if c.Client != nil && c.Client.Timeout > 0 {
		return c.Client.Timeout
	}
	return DefaultTimeout
}

func (c *HTTPConfig) decodeOptions() DecodeOptions {
	return DecodeOptions{MaxBytes: c.MaxBytes, NumberIDs: c.NumberIDs}
}

func (c *HTTPConfig) paged() bool { return c.NextInBody || c.NextInLink }

// takeClient makes the client, or copies the caller's own.
func (h *HTTP) takeClient(cfg *HTTPConfig) error {
	if cfg.Client == nil {
		transport := cleanhttp.DefaultPooledTransport()
		transport.TLSClientConfig = cfg.TLS.Clone()
		h.client, h.own = &http.Client{Transport: transport}, true
		if cfg.GetTLS != nil {
			if cfg.TLS != nil {
				return &drm.InputError{Field: "GetTLS", Value: "set", Want: "nothing beside TLS"}
			}
			h.client.Transport = tlsfiles.NewTransport(transport, cfg.GetTLS)
		}
	} else {
		const want = "nothing beside Client, whose transport has its own"
		if cfg.TLS != nil {
			return &drm.InputError{Field: "TLS", Value: "set", Want: want}
		}
		if cfg.GetTLS != nil {
			return &drm.InputError{Field: "GetTLS", Value: "set", Want: want}
		}
		client := *cfg.Client
		h.client = &client
	}
	h.client.Timeout = cfg.Timeout
	h.client.CheckRedirect = h.redirects(h.client.CheckRedirect)
	return nil
}

// redirectError is an error of a redirect policy. It is permanent: another attempt would end in the same error.
type redirectError struct{ error }

func (e *redirectError) Unwrap() error { return e.error }

// redirects returns a redirect policy that keeps the configured header and body from another host, and then asks the
// caller's own policy, if there is one.
func (h *HTTP) redirects(before func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		// The client has put the URL before the redirect there, with its query. No source needs it.
		req.Header.Del("Referer")
		stayed := true // no secret goes along after a redirect to another host, even if the next one leads back
		for _, r := range append(via[1:len(via):len(via)], req) {
			stayed = stayed && sameHost(h.url, r.URL)
		}
		if !stayed {
			if req.Body != nil && req.Body != http.NoBody {
				return &redirectError{errors.New("a redirect to another host would take the request's body along")}
			}
			for name := range h.header {
				req.Header.Del(name)
			}
		}
		if before != nil {
			err := before(req, via)
			if err != nil && !errors.Is(err, http.ErrUseLastResponse) {
				return &redirectError{err}
			}
			return err
		}
		if len(via) >= 10 {
			return &redirectError{errors.New("too many redirects")}
		}
		return nil
	}
}

// Setup calls Forget. It does not use the API.
func (h *HTTP) Setup(context.Context, drm.API) error {
	h.Forget()
	return nil
}

// Forget makes the next Fetch ask for everything, so that it does not return drm.ErrNotModified. DRM calls it when the
// last answer has not become the catalogue, or when somebody else has changed the catalogue since.
func (h *HTTP) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.validators = nil
	h.forgotten++
}

// TearDown closes idle connections, unless the client is the caller's own.
func (h *HTTP) TearDown(context.Context) error {
	if h.own {
		h.client.CloseIdleConnections()
	}
	return nil
}

// String returns the URL of the source without its secrets.
func (h *HTTP) String() string { return redact(h.url) }
