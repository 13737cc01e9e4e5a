package retriever_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/retriever"
)

// said gathers everything that a member says about its source.
type said struct {
	mu    sync.Mutex
	texts []string
}

func (s *said) add(where string, what any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, fmt.Sprintf("%s: %+v", where, what))
}

// TestAMemberTellsNoSecretOfItsSource has a source that fails in all ways that can repeat the secrets of its requests.
// It reads everything that the member then says: its log at debug level, the errors of Start, OnSourceError and Err,
// and the status.
func TestAMemberTellsNoSecretOfItsSource(t *testing.T) {
	t.Parallel()
	echo := func(format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			secrets := fmt.Sprint(r.URL, " ", user, ":", password, " ",
				r.Header["Authorization"], r.Header["Cookie"], r.Header["X-Key"])
			quoted, err := json.Marshal(secrets)
			if err != nil {
				panic(err) // it is a string
			}
			_, _ = fmt.Fprintf(w, format, strings.Trim(string(quoted), `"`))
		}
	}
	authorized := func(base string) retriever.HTTPConfig {
		return retriever.HTTPConfig{URL: base + "/list?token=hush-query", Header: http.Header{
			"Authorization": {
				"Bearer hush-bearer",
			},
			"Cookie": {"session=hush-cookie; other=hush-other"},
			"X-Key":  {"hush-key"},
		}}
	}
	client := embeddedtest.Client(t)
	apps := 0
	for name, answer := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			echo("%s")(w, r)
		},
		"garbage":  echo("%s"),
		"an item":  echo(`{"data":[{"name":"%s"}]}`),
		"an id":    echo(`{"data":[{"id":"\u0000%s"}]}`),
		"no data":  echo(`{"%s":[]}`),
		"a broken": echo(`{"data":[{"id":"%s"`),
		"silence":  silent(`{"data":[`),
		"a redirect to nobody": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://hush:hush@127.0.0.1:1/list?"+r.URL.RawQuery, http.StatusFound)
		},
	} {
		for kind, config := range map[string]func(base string) retriever.HTTPConfig{
			"userinfo": secretive, "headers": authorized,
		} {
			apps++
			app := fmt.Sprint("app-", apps)
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				source := newUnruly(t)
				core, logs := observer.New(zapcore.DebugLevel)
				all := &said{}
				start := func() (*drm.Manager, error) {
					cfg := config(source.URL)
					cfg.Timeout, cfg.Attempts, cfg.RetryWait = patience, 2, time.Millisecond
					budget := time.Millisecond
					if name == "silence" { // a good answer that is late must not make Start fail
						cfg.Timeout, budget = 200*time.Millisecond, 2*time.Second
					}
					src, err := retriever.NewHTTP(cfg)
					if err != nil {
						t.Fatal(err)
					}
					return drm.Start(t.Context(), drm.Config{
						App:              app,
						ID:               "m",
						Etcd:             drm.EtcdConfig{Client: client},
						Shards:           8,
						LeaseTTL:         time.Minute,
						Handler:          handler.New(handler.Funcs{}),
						Retriever:        src,
						Logger:           zap.New(core),
						PollInterval:     100 * time.Millisecond,
						FetchRetryBudget: budget,
						SourcePolicy:     drm.ExitOnSourceError,
						OnSourceError:    func(err error) { all.add("OnSourceError", strings.Join(texts(err), "\n")) },
					})
				}

				source.set(answer)
				_, err := start() // the app is new, so Start fails with its source
				if err == nil {
					t.Fatal("Start succeeded")
				}
				all.add("Start", strings.Join(texts(err), "\n"))

				source.set(good("a"))
				m, err := start()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = m.Stop(context.Background()) }()
				source.set(answer)
				select {
				case <-m.Done():
				case <-time.After(patience):
					t.Fatal("the member does not end")
				}
				all.add("Err", strings.Join(texts(m.Err()), "\n"))

				c, err := drm.NewClient(t.Context(),
					drm.ClientConfig{App: app, Etcd: drm.EtcdConfig{Client: client}})
				if err != nil {
					t.Fatal(err)
				}
				status, err := c.Status(t.Context())
				if err != nil || status.Source.Error == "" {
					t.Errorf("the status tells of no failure: %+v, %v", status, err)
				}
				all.add("Status", status)
				for _, entry := range logs.All() {
					all.add("log", fmt.Sprintf("%s %+v", entry.Message, entry.ContextMap()))
					for _, field := range entry.Context {
						if err, ok := field.Interface.(error); ok {
							all.add("log", strings.Join(texts(err), "\n"))
						}
					}
				}

				kinds := map[string]bool{}
				all.mu.Lock()
				defer all.mu.Unlock()
				for _, text := range all.texts {
					where, _, _ := strings.Cut(text, ":")
					kinds[where] = true
					if strings.Contains(text, "hush") ||
						strings.Contains(text, "aHVza") { // the latter is "hush" in base64
						t.Error(text)
					}
				}
				if len(kinds) != 5 {
					t.Errorf("heard of %v only", kinds)
				}
			})
		}
	}
}
