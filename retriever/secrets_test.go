package retriever_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/retriever"
)

// secretive returns a configuration full of secrets, each with "hush" in it. Its URL is made from base.
func secretive(base string) retriever.HTTPConfig {
	u, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword("hush-user", "hush-password")
	u.Path = "/list"
	u.RawQuery = "token=hush-query&hush-key"
	u.Fragment = "hush-fragment"
	return retriever.HTTPConfig{
		URL: u.String(),
		Header: http.Header{
			"X-Key": {"hush-key-header"}, "Cookie": {"session=hush-cookie"}, "x-lower": {"hush-lower"},
		},
	}
}

func TestRedirectsTakeNoSecretsToAnotherHost(t *testing.T) {
	var visits atomic.Int32
	other := serve(t, nil)
	home := serve(t, nil)
	// The same machine under another name is another host; so is another port of the same name.
	byName := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	check := func(w http.ResponseWriter, r *http.Request, secret bool) {
		visits.Add(1)
		sent := fmt.Sprint(r.URL, r.Header)
		if strings.Contains(r.Header.Get("Referer"), "hush") {
			t.Errorf("%s got the referer %s", r.Host, r.Header.Get("Referer"))
		}
		_, _, basic := r.BasicAuth()
		if has := strings.Contains(sent, "hush") || basic; has != secret {
			t.Errorf("%s %s got %s, want secrets: %t", r.Host, r.URL.Path, sent, secret)
		}
	}
	for _, c := range []struct {
		name   string
		target string // where the redirect leads
		secret bool   // whether the target should get the secrets
	}{
		{"same host", home.URL + "/target", true},
		{"same host, relative", "/target", true},
		{"another port", other.URL + "/target", false},
		{"another name", byName + "/target", false},
		{"away and back", other.URL + "/back", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			visits.Store(0)
			home.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/list" {
					check(w, r, true)
					http.Redirect(w, r, c.target, http.StatusTemporaryRedirect)
					return
				}
				check(w, r, c.secret)
				write(w, one)
			})
			other.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				check(w, r, false)
				if r.URL.Path == "/back" {
					http.Redirect(w, r, home.URL+"/target", http.StatusFound)
					return
				}
				write(w, one)
			})
			got, err := newHTTP(t, secretive(home.URL)).Fetch(t.Context())
			if err != nil || len(got) != 1 || visits.Load() < 2 {
				t.Errorf("%v, %v after %d requests", got, err, visits.Load())
			}
		})
	}
}

func TestRedirectsTakeNoBodyToAnotherHost(t *testing.T) {
	other := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("it got a %s", r.Method) })
	var requests atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
	})
	cfg := secretive(s.URL)
	cfg.Method, cfg.Body = http.MethodPost, []byte("hush-body")
	if _, err := newHTTP(t, cfg).Fetch(t.Context()); err == nil || requests.Load() != 1 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
}

func TestTheCallersRedirectPolicyIsKept(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	no := errors.New("no")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return no }}
	defer client.CloseIdleConnections()
	if _, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, Client: client}).Fetch(t.Context()); !errors.Is(err, no) {
		t.Errorf("no redirects: %v", err)
	}
	client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var status *retriever.StatusError
	_, err := newHTTP(t, retriever.HTTPConfig{URL: s.URL, Client: client}).Fetch(t.Context())
	if !errors.As(err, &status) || status.Code != 302 {
		t.Errorf("the redirect itself: %v", err)
	}
}

// texts returns the text of an error and those of all errors inside it.
func texts(err error) []string {
	if err == nil {
		return nil
	}
	all := []string{fmt.Sprintf("%v %+v %#v", err, err, err)}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, texts(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, texts(inner)...)
		}
	}
	return all
}

func TestNoErrorTellsASecret(t *testing.T) {
	echo := func(format string) http.HandlerFunc { // a source that repeats parts of the request
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, format, r.Header.Get("X-Key")+r.URL.String()) // the client may be gone
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	hushed := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hush", code) }
	}
	for name, handler := range map[string]http.HandlerFunc{
		"refused":             nil, // nobody listens
		"status":              hushed(http.StatusForbidden),
		"unavailable":         hushed(http.StatusServiceUnavailable),
		"abort":               func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"silence":             silent(""),
		"silence in the body": silent(`{"data":[`),
		"garbage":             echo("%s"),
		"wrong shape":         echo(`{"data":"%s"}`),
		"wrong field":         echo(`{"%s":[]}`),
		"wrong item":          echo(`{"data":[{"name":"%s"}]}`),
		"wrong id":            echo(`{"data":[{"id":"\u0000%s"}]}`),
		"duplicate":           echo(`{"data":[{"id":"%[1]s"},{"id":"%[1]s"}]}`),
		"wrong next":          echo(`{"data":[],"next":["%s"]}`),
		"next elsewhere":      echo(`{"data":[],"next":"http://hush:hush@example.org?%s"}`),
		"next is no URL":      echo(`{"data":[],"next":"http://hush:hush@example.org/%%zz?%s"}`),
		"next is not HTTP":    echo(`{"data":[],"next":"hush:%s"}`),
		"next again": func(w http.ResponseWriter, r *http.Request) {
			write(w, `{"data":[],"next":"`+r.URL.String()+`"}`)
		},
		"encoding": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", r.Header.Get("X-Key"))
		},
		"redirect in a circle": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		},
		"redirect to no URL":  redirect("http://hush:hush@example.org/%zz?hush"),
		"redirect to no port": redirect("http://hush:hush@example.org:hush/"),
		"redirect to ftp":     redirect("ftp://hush:hush@example.org/?hush"),
		"redirect to nobody":  redirect("http://hush:hush@127.0.0.1:1/list?token=hush"),
		"redirect to nowhere": redirect(""),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, handler)
			if handler == nil {
				s.Close()
			}
			cfg := secretive(s.URL)
			cfg.NextInBody, cfg.Timeout, cfg.Attempts = true, 100*time.Millisecond, 2
			h := newHTTP(t, cfg)
			if strings.Contains(fmt.Sprintf("%v %+v %s", h, h, h), "hush") {
				t.Errorf("its own name: %v", h)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			for _, ctx := range []context.Context{t.Context(), ended} {
				_, err := h.Fetch(ctx)
				if err == nil {
					t.Fatal("no error")
				}
				for _, text := range texts(err) {
					if strings.Contains(text, "hush") {
						t.Errorf("%s", text)
					}
				}
				if !strings.Contains(err.Error(), "127.0.0.1") {
					t.Errorf("the source isn't named: %v", err)
				}
			}
		})
	}
	for name, change := range map[string]func(*retriever.HTTPConfig){
		"scheme":        func(c *retriever.HTTPConfig) { c.URL = strings.Replace(c.URL, "http:", "ftp:", 1) },
		"relative":      func(c *retriever.HTTPConfig) { c.URL = strings.TrimPrefix(c.URL, "http:") },
		"no URL":        func(c *retriever.HTTPConfig) { c.URL += "%zz" },
		"two passwords": func(c *retriever.HTTPConfig) { c.Header.Set("Authorization", "hush") },
		"method":        func(c *retriever.HTTPConfig) { c.Method = "no method" },
		"header":        func(c *retriever.HTTPConfig) { c.Header.Set("X-Key", "hush\n") },
		"timeout":       func(c *retriever.HTTPConfig) { c.Timeout = -1 },
	} {
		cfg := secretive("http://example.org")
		change(&cfg)
		_, err := retriever.NewHTTP(cfg)
		if name == "no URL" && err == nil {
			continue // the query itself may have secrets
		}
		if err == nil || strings.Contains(strings.Join(texts(err), " "), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
