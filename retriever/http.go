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

// HTTPConfig says how to ask an HTTP source. URL is required; zero values of the rest take the defaults, and a value
// out of its range is a *drm.InputError.
//
// Userinfo and query values of URL, the values of Header, and Body are taken for secrets: no error tells them, and they
// are not sent to another host than that of URL. "The same host" means the same name and port; one redirect from http
// to https on their usual ports counts too, and one from https to http doesn't.
type HTTPConfig struct {
	// URL of the source, absolute, http or https. Userinfo in it becomes basic authentication.
	URL string
	// Method of the request. Whatever it is, the request may be sent more than once. Default GET.
	Method string
	// Header is added to each request. Accept-Encoding can't be set: compression is taken care of.
	Header http.Header
	// Body is sent with each request.
	Body []byte

	// Timeout bounds each single request, to the last byte of its answer; the context given to Fetch bounds all of them
	// together. Raised, a slow source is waited for; lowered, a dead one is given up, or tried again, sooner.
	// Default 30 s, or what Client has; negative is an error.
	Timeout time.Duration
	// Attempts is how many times a request is sent, in all, while it fails with a connection error or with a status
	// that may pass: 408, 425, 429, and 500 and above except 501. Default 4; 1 to 100.
	Attempts int
	// RetryWait is the pause after the first attempt; it doubles with each further one, up to RetryWaitMax. Where the
	// source says Retry-After, that is the pause. An attempt that couldn't begin before the context ends isn't waited
	// for. Default 500 ms; 1 ms to RetryWaitMax.
	RetryWait time.Duration
	// RetryWaitMax bounds a pause. A source that asks for a longer one with Retry-After makes the fetch fail at once,
	// and the member that fetches leaves it alone for as long as it said. Default 10 s, or RetryWait where that is
	// more; up to 1 h.
	RetryWaitMax time.Duration

	// TLS is the TLS configuration; nil uses the system's roots. Not together with Client.
	TLS *tls.Config
	// GetTLS, in place of TLS, is asked for the TLS configuration, at most once a second while all goes well. Where it
	// returns another one than before, further connections are made with that: so a CA can be rotated. (For a client
	// certificate alone, TLS with GetClientCertificate does.) It is called from any goroutine; an error fails the
	// request. Not together with TLS or Client.
	GetTLS func() (*tls.Config, error)
	// Client is the caller's own client, whose transport, cookies and redirect policy are used; it is copied. By
	// default a client is made that goes through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name.
	Client *http.Client

	// MaxBytes and NumberIDs are as in DecodeOptions. MaxBytes bounds all pages together.
	MaxBytes  int64
	NumberIDs bool

	// NextInBody follows the URL in "next" beside "data" to the next page, until there is none (or null, or ""). With
	// pages, the source is always asked for everything: that one page is unchanged says nothing about the others.
	NextInBody bool
	// NextInLink follows the URL of a Link header with rel="next" (RFC 8288) likewise.
	NextInLink bool
	// NextElsewhere follows a next page to another host too, with a bare GET. Default false: that is an error.
	NextElsewhere bool
	// MaxPages bounds the pages of one fetch; one more is an error. Default 1000; at least 1.
	MaxPages int
}

// HTTP is a source that is asked over HTTP. A GET without pages asks conditionally (RFC 9110, section 13) when the
// source gave an ETag or Last-Modified with the last answer that was good; Fetch then returns drm.ErrNotModified if it
// answers
// 304. Last-Modified is used only without an ETag, and only where the Date of the answer is at least two seconds later: a source
// can change twice within the second that it names. A 304 that names another ETag or Last-Modified than the last
// answer, or that comes of another URL, is not believed: everything is asked for then. It is safe for use from any
// goroutine.
type HTTP struct {
	cfg     HTTPConfig
	url     *url.URL
	header  http.Header
	client  *http.Client
	own     bool // client's transport is ours
	secrets secrets.Set

	mu         sync.Mutex
	validators *validators // of the next request; nil: it asks for everything
	forgotten  int         // how many times the validators were dropped
}

var _ drm.Retriever = (*HTTP)(nil)

// NewHTTP checks the configuration and makes a source of it. It connects to nothing. The error is a *drm.InputError
// that names the field.
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
				Want:  "no Accept-Encoding: compression is taken care of",
			}
		}
		if !slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			continue
		}
		return &drm.InputError{Field: "Header", Value: name, Want: "a value without control characters"}
	}
	return nil
}

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
		if cfg.TLS != nil {
			return &drm.InputError{
				Field: "TLS",
				Value: "set",
				Want:  "nothing beside Client, whose transport has its own",
			}
		}
		if cfg.GetTLS != nil {
			return &drm.InputError{
				Field: "GetTLS",
				Value: "set",
				Want:  "nothing beside Client, whose transport has its own",
			}
		}
		client := *cfg.Client
		h.client = &client
	}
	h.client.Timeout = cfg.Timeout
	h.client.CheckRedirect = h.redirects(h.client.CheckRedirect)
	return nil
}

// redirectError is an error of a redirect policy. Trying again would only meet it again.
type redirectError struct{ error }

func (e *redirectError) Unwrap() error { return e.error }

// redirects makes a policy for redirects that keeps what was configured from going to another host, and then asks the
// policy that was there before.
func (h *HTTP) redirects(before func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		// The client put the former URL there, with its query. No source needs it.
		req.Header.Del("Referer")
		stayed := true // once away, the secrets stay at home, even if the next redirect leads back
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

// Setup forgets what earlier fetches learned. It keeps nothing.
func (h *HTTP) Setup(context.Context, drm.API) error {
	h.Forget()
	return nil
}

// Forget makes the next Fetch ask for everything, and never return drm.ErrNotModified. Whoever didn't put the last
// answer into the catalogue, or finds that somebody else changed the catalogue since, calls it.
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

// String names the source without its secrets.
func (h *HTTP) String() string { return redact(h.url) }
