package handler_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestAURLIsReadyIfItAnswersASuccess(t *testing.T) {
	var answer http.HandlerFunc
	asked := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r:
		default:
		}
		answer(w, r)
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	r := must[*handler.ReadyURL](t)(handler.NewReadyURL(handler.WebhookConfig{
		URL:    "http://joe:pa55word@" + address + "/healthz?key=s3cret-key",
		Header: http.Header{"X-Custom": {"hush-hush"}},
	}))
	defer r.Close()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // part of the error; "" if there is none
	}{
		{"200", func(http.ResponseWriter, *http.Request) {}, ""},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, ""},
		{
			"500", func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "no\n database", http.StatusInternalServerError)
			},
			`status 500 Internal Server Error: "no database"`,
		},
		{"404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "check the path"},
		{
			"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) },
			"redirects are not followed",
		},
		{
			"a body that repeats the secrets",
			func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "joe pa55word s3cret-key hush-hush", http.StatusServiceUnavailable)
			},
			"REDACTED REDACTED REDACTED",
		},
		{"a success whose body never ends", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, ""},
		{"a refusal of many bytes", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("x", 1<<20), http.StatusServiceUnavailable)
		}, "xxx…"},
	} {
		answer = tt.answer
		err := r.Ready(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "pa55word") || strings.Contains(err.Error(), "s3cret-key") ||
			strings.Contains(err.Error(), "hush-hush") || len(err.Error()) > 500) {
			t.Errorf("%s: it shows a secret, or too much: %v", tt.name, err)
		}
		req := <-asked
		name, password, _ := req.BasicAuth()
		if req.Method != http.MethodGet || name != "joe" || password != "pa55word" ||
			req.Header.Get("X-Custom") != "hush-hush" ||
			req.URL.Path != "/healthz" ||
			req.Header.Get("Content-Type") != "" {
			t.Errorf("%s: asked %s %v %v", tt.name, req.Method, req.URL, req.Header)
		}
	}
	answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	short, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too late"))
	defer cancel()
	if err := r.Ready(short); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Errorf("of one that does not answer: %v", err)
	}
}

func TestAURLThatCannotBeAskedIsRefused(t *testing.T) {
	_, err := handler.NewReadyURL(handler.WebhookConfig{URL: "ftp://x"})
	wantInputError(t, err, "URL")
	r := must[*handler.ReadyURL](t)(handler.NewReadyURL(handler.WebhookConfig{URL: "http://127.0.0.1:1/healthz"}))
	defer r.Close()
	if err := r.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "GET http://127.0.0.1:1/healthz: ") {
		t.Error(err)
	}
}

func init() {
	programs["ready"] = func(args []string) int {
		fmt.Println("looking")
		fmt.Fprintln(os.Stderr, strings.Join(args[1:], " "), os.Getenv("DRM_PASSWORD"))
		fmt.Println(" ")
		if args[0] == "0" {
			return 0
		}
		return 3
	}
	programs["hang"] = func(args []string) int {
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return 1
		}
		_, _ = conn.Read(make([]byte, 1))
		return 0
	}
}

func readyExec(t *testing.T, beside *handler.Exec, command ...string) *handler.ReadyExec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return must[*handler.ReadyExec](t)(handler.NewReadyExec(append([]string{self}, command...), beside))
}

func TestAProgramIsReadyIfItsExitCodeIsZero(t *testing.T) {
	t.Setenv("DRM_PASSWORD", "s3cret")
	if err := readyExec(t, nil, "ready", "0").Ready(t.Context()); err != nil {
		t.Error(err)
	}
	err := readyExec(t, nil, "ready", "1", "no", "database").Ready(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: no database") {
		t.Error(err)
	}
	err = readyExec(t, nil, "ready", "1", strings.Repeat("long ", 10_000)).Ready(t.Context())
	if err == nil || len(err.Error()) > 600 || !strings.HasSuffix(err.Error(), "…") {
		t.Errorf("a line of 50,000 bytes: %v", err)
	}
	missing := must[*handler.ReadyExec](t)(handler.NewReadyExec([]string{"/does/not/exist"}, nil))
	if err := missing.Ready(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	_, err = handler.NewReadyExec([]string{""}, nil)
	wantInputError(t, err, "command")
	_, err = handler.NewReadyExec([]string{"x", "\x00"}, nil)
	wantInputError(t, err, "command")
}

func TestAProgramThatHangsIsKilledWithItsGroup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no process groups")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The shell waits for a child that hangs; only a kill of the whole group ends that child.
	r := must[*handler.ReadyExec](t)(handler.NewReadyExec(
		[]string{"sh", "-c", `"$0" hang "$1"; exit 0`, self, l.Addr().String()}, nil))
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() { result <- r.Ready(ctx) }()
	child, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	cancel(errors.New("no answer within 5s"))
	if err := await(t, result, "the end of the program"); err == nil ||
		!strings.Contains(err.Error(), "sh: no answer within 5s, and was killed") {
		t.Error(err)
	}
	_ = child.SetReadDeadline(time.Now().Add(patience))
	if _, err := child.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("its child lives on")
	}
}

// A service whose URL answers again after nobody listened was restarted; so was one that names another instance.
func TestAReadyURLNoticesThatTheServiceWasRestarted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	serve := func(l net.Listener, instance string) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if instance != "" {
				w.Header().Set(handler.InstanceHeader, instance)
			}
		}))
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	r, err := handler.NewReadyURL(handler.WebhookConfig{URL: "http://" + address + "/ready"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	asks := func(want error) {
		t.Helper()
		if got := r.Ready(t.Context()); !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	service := serve(listener, "")
	asks(nil)
	asks(nil)
	service.Close()
	if err := r.Ready(t.Context()); err == nil || errors.Is(err, drm.ErrServiceRestarted) {
		t.Errorf("nobody listens: %v", err)
	}
	service = serve(listen(), "")
	asks(drm.ErrServiceRestarted)
	asks(nil)
	service.Close()
	service = serve(listen(), "one") // it was not asked meanwhile, and the former one had no name
	asks(nil)
	service.Close()
	service = serve(listen(), "two")
	defer func() { service.Close() }()
	asks(drm.ErrServiceRestarted)
	service.Close()
	if err := r.ReadyAnyway(t.Context()); err == nil {
		t.Error("nobody listens, and it is ready anyway")
	}
	service = serve(listen(), "three")
	if err := r.ReadyAnyway(t.Context()); err != nil {
		t.Errorf("ready anyway: %v", err)
	}
	asks(nil) // the restart was noticed before
	asks(nil)
}
