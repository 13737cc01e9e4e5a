package etcd_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

func TestAClientThatEtcdHasAnsweredIsReturned(t *testing.T) {
	endpoints := embeddedtest.Client(t).Endpoints()
	c := etcd.Config{Endpoints: endpoints, DialTimeout: 30 * time.Second}
	client, own, err := etcd.Connect(t.Context(), c, "probe", false)
	if err != nil {
		t.Fatal(err)
	}
	if !own || reach.Of(client) == nil {
		t.Errorf("to be closed %t, and explains its errors %t; want both", own, reach.Of(client) != nil)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnEtcdThatDoesNotAnswerIsUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := etcd.Config{Endpoints: []string{silent.Addr().String()}, DialTimeout: 100 * time.Millisecond}
	for _, patient := range []bool{false, true} {
		_, _, err := etcd.Connect(t.Context(), c, "probe", patient)
		if !errors.Is(err, etcd.ErrUnreachable) || !strings.Contains(err.Error(), "connect to etcd: ") ||
			reach.ReasonOf(err) == nil {
			t.Errorf("patient %t: %v, want an ErrUnreachable with a reason", patient, err)
		}
	}
	cause := errors.New("the caller has changed its mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, _, err := etcd.Connect(ctx, c, "probe", true); !errors.Is(err, cause) || errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("with a context that has ended: %v, want its cause", err)
	}
}
