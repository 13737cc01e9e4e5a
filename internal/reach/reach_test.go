package reach_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

const patience = time.Minute

func TestEndpointsThatAreAccepted(t *testing.T) {
	for _, list := range [][]string{
		{"127.0.0.1:2379"},
		{"localhost:2379", "[::1]:2379", "etcd-1.example.org:1", "under_score:65535", ":2379"},
		{"http://127.0.0.1:2379", "http://[::1]:2379/", "etcd:2379"},
		{"https://etcd:2379", "etcd:2379", "HTTPS://etcd:2379"},
		{"unix:///run/etcd.sock", "unix://run/etcd.sock", "unix:etcd.sock", "unixs:///run/etcd.sock"},
	} {
		if err := reach.CheckEndpoints(list, false); err != nil {
			t.Errorf("%q: %v", list, err)
		}
	}
	if err := reach.CheckEndpoints([]string{"etcd:2379", "https://etcd:2379", "[::1]:2379"}, true); err != nil {
		t.Error(err)
	}
}

func TestEndpointsThatAreNot(t *testing.T) {
	for endpoint, want := range map[string]string{
		"":                        reach.Accepted,
		"etcd":                    reach.Accepted,
		"::1:2379":                "[::1]:2379",
		"fe80::1":                 reach.Accepted,
		"[::1]":                   reach.Accepted,
		"[fe80::1%eth0]:2379":     "without a zone",
		"[etcd]:2379":             reach.Accepted,
		"etcd:":                   "1 to 65535",
		"etcd:-1":                 "1 to 65535",
		"etcd:2379/":              "1 to 65535",
		"foo://etcd:2379":         reach.Accepted,
		"://etcd:2379":            reach.Accepted,
		"http://":                 reach.Accepted,
		"http://etcd:2379?x":      "nothing after it",
		"https://etcd:2379#x":     "nothing after it",
		"https://u@etcd:2379":     "without a user",
		"u:s3cret@etcd:2379":      reach.Accepted,
		"http://u:s3cret@[x:2379": "HOST:PORT",
		"etcd:2379\n":             "white space",
	} {
		err := reach.CheckEndpoints([]string{"ok:1", endpoint}, false)
		var bad *reach.EndpointError
		if !errors.As(err, &bad) || !strings.Contains(bad.Want, want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: got %v, want it to say %q", endpoint, err, want)
		}
	}
	for _, test := range []struct {
		list []string
		tls  bool
	}{
		{[]string{"http://a:1", "https://b:1"}, false},
		{[]string{"https://b:1", "http://a:1"}, false},
		{[]string{"http://a:1"}, true},
	} {
		var bad *reach.EndpointError
		if err := reach.CheckEndpoints(test.list, test.tls); !errors.As(err, &bad) || bad.Endpoint != "http://a:1" {
			t.Errorf("%v: got %v, want http://a:1 refused", test, err)
		}
	}
}

// connect makes a client with a Trace.
func connect(t *testing.T, endpoints []string, config *tls.Config) *clientv3.Client {
	t.Helper()
	trace := reach.New(endpoints, config, "")
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		TLS:         config,
		Logger:      zap.NewNop(),
		Context:     trace.Context(),
		DialOptions: trace.DialOptions(endpoints, config, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.KV = reach.KV(c)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// get asks etcd until the outcome is as wanted.
func get(t *testing.T, c *clientv3.Client, want func(error) bool) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, last = c.Get(ctx, "/x")
		cancel()
		if want(last) {
			return
		}
	}
	t.Fatalf("the last error was %v", last)
}

// says recognises an error with these words, about an etcd that is slow or not.
func says(slow bool, words ...string) func(error) bool {
	return func(err error) bool {
		if err == nil || reach.IsSlow(err) != slow {
			return false
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				return false
			}
		}
		return true
	}
}

// A Trace follows what happens to an etcd: it answers, says nothing any more, is gone, and is back.
func TestATraceFollowsWhatBecomesOfEtcd(t *testing.T) {
	server := embeddedtest.Server(t)
	proxy, err := faultproxy.New(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	at := proxy.Endpoint()
	c := connect(t, []string{at}, nil)
	fine := func(err error) bool { return err == nil }
	get(t, c, fine)
	proxy.BlackHole()
	get(t, c, says(true, "no answer in time ("+at+": connected, and did not answer this)"))
	proxy.Heal()
	get(t, c, fine)
	proxy.Close()
	get(t, c, says(false, at+": connection refused"))
}

func TestOneEndpointOfTwoIsEnoughToBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := connect(t, []string{l.Addr().String(), embeddedtest.Server(t).Endpoint()}, nil)
	hopeless := make(chan struct{}, 100)
	reach.Of(c).WhenHopeless(func() { hopeless <- struct{}{} })
	get(t, c, func(err error) bool { return err == nil })
	if len(hopeless) > 0 {
		t.Error("it is called hopeless")
	}
	r := reach.Of(c).Reason()
	if !r.Slow || !r.Has(reach.Connected) {
		t.Errorf("etcd is there, and what is known is %v", r)
	}
}

func TestASocketIsCalledByItsLastPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.sock")
	c := connect(t, []string{"unix://" + path}, nil)
	get(t, c, says(false, "etcd.sock: no such socket"))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	get(t, c, says(false, "etcd.sock: accepts connections, and says nothing"))
}

func TestReasonsAreToldOnce(t *testing.T) {
	r := &reach.Reason{
		Details: []reach.Detail{
			{"a:1", reach.Refused, "refused"},
			{"b:1", reach.NoName, "no name"},
			{"c:1", reach.Refused, "refused"},
		},
	}
	if got, want := r.Error(), "a:1, c:1: refused; b:1: no name"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An error that is explained is still classified as before.
func TestAnExplainedErrorIsStillWhatItWas(t *testing.T) {
	c := connect(t, []string{"127.0.0.1:1"}, nil)
	what := func() string { return reach.Key("read", "/x") }
	for _, err := range []error{
		context.DeadlineExceeded, fmt.Errorf("ask: %w", context.DeadlineExceeded),
		status.Error(codes.DeadlineExceeded, "x"), status.Error(codes.Unavailable, "connection error"),
	} {
		got := reach.Explain(c, err, what)
		if reach.ReasonOf(got) == nil || !errors.Is(got, err) || status.Code(got) != status.Code(err) {
			t.Errorf("%v became %v", err, got)
		}
		if again := reach.Explain(c, got, what); again != got {
			t.Errorf("%v was explained twice: %v", got, again)
		}
	}
	for _, err := range []error{
		nil, context.Canceled, rpctypes.ErrNoLeader, rpctypes.ErrGRPCNoLeader, errors.New("x"),
	} {
		if got := reach.Explain(c, err, what); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, client := range []*clientv3.Client{c, nil} {
		err := reach.Explain(client, rpctypes.ErrGRPCPermissionDenied, what)
		if !errors.Is(err, rpctypes.ErrPermissionDenied) || !strings.Contains(err.Error(), `read "/x"`) {
			t.Errorf("got %v", err)
		}
	}
	if got := reach.Explain(nil, context.DeadlineExceeded, what); !errors.Is(got, context.DeadlineExceeded) ||
		reach.ReasonOf(got) != nil {
		t.Errorf("of a client without a Trace: %v", got)
	}
}

func TestOfManyKeysTheFirstAreTold(t *testing.T) {
	got := reach.Several(
		[]string{
			reach.Key("write", "a"),
			reach.Key("read", "a"),
			reach.Key("delete", "b"),
			reach.Key("read", "c"),
			reach.Key("read", "d"),
			reach.Key("read", "e"),
		},
	)
	if want := `write "a" or delete "b" or read "c", or 2 more`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
