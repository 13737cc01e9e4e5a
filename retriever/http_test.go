package retriever_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

const one = `{"data":[{"id":"a"}]}`

// serve runs a source until the test ends.
func serve(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// newHTTP makes a retriever whose pauses between attempts are short.
func newHTTP(t testing.TB, cfg retriever.HTTPConfig) *retriever.HTTP {
	t.Helper()
	if cfg.RetryWait == 0 {
		cfg.RetryWait = time.Millisecond
	}
	h, err := retriever.NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Setup(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.TearDown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func write(w io.Writer, body string) { _, _ = io.WriteString(w, body) } // the client may be gone

func TestNewHTTPNamesTheBadField(t *testing.T) {
	const good = "https://example.org/resources"
	for _, c := range []struct {
		field string
		cfg   retriever.HTTPConfig
	}{
		{"", retriever.HTTPConfig{URL: good}},
		{"", retriever.HTTPConfig{URL: "http://user:password@[::1]:8080?token=x#y"}},
		{"", retriever.HTTPConfig{
			URL: good, Method: "POST", Header: http.Header{"Authorization": {"Bearer x"}}, Body: []byte("x"),
			Timeout: time.Hour, Attempts: 1, RetryWait: time.Minute, MaxBytes: 1, MaxPages: 1,
		}},
		{"URL", retriever.HTTPConfig{}},
		{"URL", retriever.HTTPConfig{URL: "/resources"}},
		{"URL", retriever.HTTPConfig{URL: "example.org/resources"}},
		{"URL", retriever.HTTPConfig{URL: "localhost:8080"}},
		{"URL", retriever.HTTPConfig{URL: "//example.org/resources"}},
		{"URL", retriever.HTTPConfig{URL: "ftp://example.org/resources"}},
		{"URL", retriever.HTTPConfig{URL: "http://:80/"}},
		{"URL", retriever.HTTPConfig{URL: "http:///resources"}},
		{"URL", retriever.HTTPConfig{URL: "http://example.org/%zz"}},
		{"URL", retriever.HTTPConfig{URL: "http://a:b@example.org", Header: http.Header{"Authorization": {"x"}}}},
		{"Method", retriever.HTTPConfig{URL: good, Method: "G T"}},
		{"Method", retriever.HTTPConfig{URL: good, Method: "get"}},
		{"Method", retriever.HTTPConfig{URL: good, Method: "HEAD"}},
		{"Header", retriever.HTTPConfig{URL: good, Header: http.Header{"A b": {"x"}}}},
		{"Header", retriever.HTTPConfig{URL: good, Header: http.Header{"A": {"x\r\ny"}}}},
		{"Header", retriever.HTTPConfig{URL: good, Header: http.Header{"accept-encoding": {"br"}}}},
		{"Timeout", retriever.HTTPConfig{URL: good, Timeout: -1}},
		{"Attempts", retriever.HTTPConfig{URL: good, Attempts: -1}},
		{"Attempts", retriever.HTTPConfig{URL: good, Attempts: 101}},
		{"RetryWait", retriever.HTTPConfig{URL: good, RetryWait: -1}},
		{"RetryWait", retriever.HTTPConfig{URL: good, RetryWait: time.Second, RetryWaitMax: time.Millisecond}},
		{"RetryWaitMax", retriever.HTTPConfig{URL: good, RetryWaitMax: 2 * time.Hour}},
		{"TLS", retriever.HTTPConfig{
			URL: good, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Client: &http.Client{},
		}},
		{"MaxBytes", retriever.HTTPConfig{URL: good, MaxBytes: -1}},
		{"MaxPages", retriever.HTTPConfig{URL: good, MaxPages: -1}},
	} {
		h, err := retriever.NewHTTP(c.cfg)
		var input *drm.InputError
		if c.field == "" && err != nil ||
			c.field != "" && (h != nil || !errors.As(err, &input) || input.Field != c.field) {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
}

func TestHTTPSendsWhatIsConfigured(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		got := fmt.Sprintf("%s %s %s:%s %s %s %s %s",
			r.Method, r.URL, user, password, r.Host, r.Header.Get("Accept"), r.Header.Get("X-Key"), body)
		if want := "POST /list?of=all me:word example.org application/x-list key what?"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		write(w, one)
	})
	header := http.Header{"x-key": {"key"}, "Accept": {"application/x-list"}, "Host": {"example.org"}}
	h := newHTTP(t, retriever.HTTPConfig{
		URL:    strings.Replace(s.URL, "http://", "http://me:word@", 1) + "/list?of=all#part",
		Method: "POST", Header: header, Body: []byte("what?"),
	})
	header.Set("X-Key", "changed later")
	got, err := h.Fetch(t.Context())
	if err != nil || len(got) != 1 || got[0].ID != "a" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestHTTPAcceptsAnEmptyList(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { write(w, `{"data":[]}`) })
	got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
	if err != nil || got == nil || len(got) != 0 {
		t.Errorf("%#v, %v", got, err)
	}
}

func TestHTTPFetches100000Items(t *testing.T) {
	const n = 100_000
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if err := list(w, n); err != nil {
			t.Error(err)
		}
	})
	got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
	if err != nil || len(got) != n || got[n-1].ID != fmt.Sprint("resource-", n-1) {
		t.Errorf("%d, %v", len(got), err)
	}
}

func TestHTTPTriesAgainWhatMayPass(t *testing.T) {
	for _, c := range []struct{ code, requests int }{
		{400, 1},
		{401, 1},
		{403, 1},
		{404, 1},
		{408, 3},
		{410, 1},
		{425, 3},
		{429, 3},
		{500, 3},
		{501, 1},
		{502, 3},
		{503, 3},
		{504, 3},
		{599, 3},
		{304, 1}, // though the request was not conditional
	} {
		var requests atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); string(body) != "body" {
				t.Errorf("request %d has the body %q", requests.Load(), body)
			}
			requests.Add(1)
			w.WriteHeader(c.code)
		})
		cfg := retriever.HTTPConfig{URL: s.URL, Attempts: 3, Method: "POST", Body: []byte("body")}
		_, err := newHTTP(t, cfg).Fetch(t.Context())
		var status *retriever.StatusError
		if !errors.As(err, &status) || status.Code != c.code {
			t.Errorf("%d: %v", c.code, err)
		}
		if got := int(requests.Load()); got != c.requests {
			t.Errorf("%d: %d requests, want %d", c.code, got, c.requests)
		}
	}
}

func TestHTTPOutlastsASourceThatFailsForAWhile(t *testing.T) {
	var requests atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		switch requests.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler) // closes the connection
		case 3:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			write(w, one)
		}
	})
	got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
	if err != nil || len(got) != 1 || requests.Load() != 4 {
		t.Errorf("%v, %v after %d requests", got, err, requests.Load())
	}
}

func TestHTTPTriesAgainAfterErrorsOfTheConnection(t *testing.T) {
	requests := 0
	broken := errors.New("broken")
	h := newHTTP(t, retriever.HTTPConfig{
		URL: "http://example.org", Attempts: 5,
		Client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			requests++
			return nil, broken
		})},
	})
	if _, err := h.Fetch(t.Context()); !errors.Is(err, broken) || requests != 5 {
		t.Errorf("%v after %d requests", err, requests)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHTTPDoesNotWaitForWhatItCannotWaitFor(t *testing.T) {
	var requests atomic.Int32
	var after atomic.Value
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", after.Load().(string))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	inAnHour := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name, after string
		wait        time.Duration // RetryWait
		timeout     time.Duration // the timeout of the context
		least, most time.Duration // the limits of StatusError.RetryAfter
	}{
		{"more than RetryWaitMax", "3600", time.Millisecond, 0, time.Hour, time.Hour},
		{"more than RetryWaitMax, as a date", inAnHour, time.Millisecond, 0, 50 * time.Minute, time.Hour},
		{"more than the context has", "60", time.Hour, time.Minute, time.Minute, time.Minute},
		{"a pause longer than the context has", "", time.Hour, time.Minute, 0, 0},
		{"nonsense", "soon", time.Hour, time.Minute, 0, 0},
	} {
		requests.Store(0)
		after.Store(c.after)
		ctx := t.Context()
		if c.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.timeout)
			defer cancel()
		}
		_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, RetryWait: c.wait}).Fetch(ctx)
		var status *retriever.StatusError
		if !errors.As(err, &status) || status.Code != 503 || status.RetryAfter < c.least || status.RetryAfter > c.most {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := requests.Load(); got != 1 {
			t.Errorf("%s: %d requests", c.name, got)
		}
	}
}

func TestHTTPGivesUpWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		time.AfterFunc(10*time.Millisecond, cancel) // during the pause before the next attempt
	})
	_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, RetryWait: time.Hour}).Fetch(ctx)
	var status *retriever.StatusError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &status) || status.Code != 502 {
		t.Errorf("want the end of the context and what came before, got %v", err)
	}
}

// silent answers with this beginning, and then sends nothing more until the client is gone.
func silent(beginning string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if beginning != "" {
			write(w, beginning)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}
}

func TestHTTPTimesOutWhereTheSourceFallsSilent(t *testing.T) {
	for name, beginning := range map[string]string{"at once": "", "in the body": `{"data":[{"id":"a"},`} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, silent(beginning))
			h := newHTTP(t, retriever.HTTPConfig{URL: s.URL, Timeout: 50 * time.Millisecond, Attempts: 2})
			var timeout net.Error
			if _, err := h.Fetch(t.Context()); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("by its own timeout: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(ctx)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("by the context: %v", err)
			}
		})
	}
}

func TestHTTPRefusesHalfABody(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		write(w, `{"data":[{"id":"a"},`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
	var syntax *retriever.SyntaxError
	if !errors.As(err, &syntax) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestHTTPTellsGarbageFromResources(t *testing.T) {
	for name, body := range samples(t) {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
		_, want := decode(body, retriever.DecodeOptions{})
		_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
		if want == nil {
			if err != nil {
				t.Errorf("%s: got %v, want no error", name, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), "fetching "+s.URL+": ") ||
			!strings.HasSuffix(err.Error(), want.Error()) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func TestHTTPAsksForChangesOnly(t *testing.T) {
	const tag, date = `"v1"`, "Mon, 02 Jan 2006 15:04:05 GMT"
	for _, c := range []struct {
		name         string
		give, expect map[string]string
	}{
		{"ETag", map[string]string{"ETag": tag}, map[string]string{"If-None-Match": tag}},
		{"Last-Modified", map[string]string{"Last-Modified": date}, map[string]string{"If-Modified-Since": date}},
		{
			"both",
			map[string]string{"ETag": tag, "Last-Modified": date},
			map[string]string{"If-None-Match": tag, "If-Modified-Since": ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := "garbage"
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for name, value := range c.give {
					w.Header().Set(name, value)
				}
				same := true
				for name, value := range c.expect {
					same = same && r.Header.Get(name) == value
				}
				if same {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				write(w, body)
			})
			h := newHTTP(t, retriever.HTTPConfig{URL: s.URL})
			fetch := func(what string, modified bool) {
				t.Helper()
				got, err := h.Fetch(t.Context())
				if modified && (err != nil || len(got) != 1) || !modified && !errors.Is(err, drm.ErrNotModified) {
					t.Errorf("%s: %v, %v", what, got, err)
				}
			}
			if _, err := h.Fetch(t.Context()); err == nil || errors.Is(err, drm.ErrNotModified) {
				t.Errorf("garbage: %v", err)
			}
			body = one
			fetch("the first good one, after garbage with a tag", true)
			fetch("again", false)
			fetch("and again", false)
			h.Forget()
			fetch("forgotten", true)
			fetch("known again", false)
			if err := h.Setup(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			fetch("set up anew", true)
		})
	}
}

func TestForgetDuringAFetchHolds(t *testing.T) {
	var h *retriever.HTTP
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			t.Error("the request is conditional")
		}
		h.Forget()
		w.Header().Set("ETag", `"v1"`)
		write(w, one)
	})
	h = newHTTP(t, retriever.HTTPConfig{URL: s.URL})
	for range 2 {
		if _, err := h.Fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyAGetWithoutPagesIsConditional(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			t.Errorf("a conditional %s", r.Method)
		}
		w.Header().Set("ETag", `"v1"`)
		write(w, one)
	})
	for _, cfg := range []retriever.HTTPConfig{
		{URL: s.URL, Method: "POST"},
		{URL: s.URL, NextInBody: true},
		{URL: s.URL, NextInLink: true},
	} {
		h := newHTTP(t, cfg)
		for range 2 {
			if _, err := h.Fetch(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func zip(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	write(z, body)
	_ = z.Close() // the client may be gone
}

func TestHTTPDecompresses(t *testing.T) {
	var asked atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Header.Get("Accept-Encoding") == "gzip")
		zip(w, one)
	})
	got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context())
	if err != nil || len(got) != 1 || !asked.Load() {
		t.Errorf("asked for %t: %v, %v", asked.Load(), got, err)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	cfg := retriever.HTTPConfig{URL: s.URL, Client: &http.Client{Transport: transport}}
	got, err = newHTTP(t, cfg).Fetch(t.Context())
	if err != nil || len(got) != 1 || asked.Load() {
		t.Errorf("not asked for %t: %v, %v", !asked.Load(), got, err)
	}
}

func TestTheLimitCountsDecompressedBytes(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { zip(w, one+strings.Repeat(" ", 1<<20)) })
	_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, MaxBytes: 100_000}).Fetch(t.Context())
	var large *retriever.TooLargeError
	if !errors.As(err, &large) || large.Limit != 100_000 {
		t.Error(err)
	}
}

func TestUnknownAndBrokenCompressionIsAnError(t *testing.T) {
	for _, encoding := range []string{"br", "gzip"} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", encoding)
			write(w, one)
		})
		if got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL}).Fetch(t.Context()); err == nil {
			t.Errorf("%s: %v", encoding, got)
		}
	}
}

func TestHTTPChecksCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w, one) }))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, RetryWait: time.Hour}).Fetch(t.Context())
	// another attempt would be of no use
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("unknown authority: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	got, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, TLS: trusting}).Fetch(t.Context())
	if err != nil || len(got) != 1 {
		t.Errorf("known authority: %v, %v", got, err)
	}
}

// A process reads the proxy settings only once, so this test needs a process of its own.
func TestHTTPGoesThroughTheProxyOfTheEnvironment(t *testing.T) {
	const child = "RETRIEVER_TEST_PROXY"
	if os.Getenv(child) != "" {
		got, err := newHTTP(t, retriever.HTTPConfig{URL: "http://source.invalid/list"}).Fetch(t.Context())
		if err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		return
	}
	var asked atomic.Value
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		write(w, one)
	})
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1", "HTTP_PROXY="+s.URL, "http_proxy="+s.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil || asked.Load() != "http://source.invalid/list" {
		t.Errorf("the proxy was asked for %v: %v\n%s", asked.Load(), err, out)
	}
}
