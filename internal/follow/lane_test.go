package follow_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// With one stream the prefixes would resume one after the other, each taking a round trip.
func TestAfterALostConnectionPrefixesDoNotWaitForEachOther(t *testing.T) {
	const n, delay = 320, 20 * time.Millisecond
	proxy, err := faultproxy.New(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	h := newHub(t, dial(t, proxy.Endpoint()), follow.Options{})
	apart := newMirror(newPrefix())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.FollowApart(ctx, apart.prefix, apart)
	}()
	t.Cleanup(func() { cancel(); <-done })
	mirrors := []*mirror{apart}
	for range n {
		m := newMirror(newPrefix())
		start(t, h, m.prefix, m)
		mirrors = append(mirrors, m)
	}
	write := func(value string) {
		t.Helper()
		var writers errgroup.Group
		writers.SetLimit(16)
		for _, m := range mirrors {
			writers.Go(func() error {
				_, err := client.Put(t.Context(), m.prefix+"x", value)
				return err
			})
		}
		if err := writers.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, m := range mirrors {
			m.has(t, m.prefix+"x", value)
		}
	}
	write("before") // now all prefixes are watched

	proxy.Delay(delay)
	proxy.Reset()
	began := time.Now()
	write("after")
	took, inTurn := time.Since(began), n*2*delay
	t.Logf("%d prefixes heard the news %v after the connection was lost; in turn it would have been %v", n, took,
		inTurn)
	if took > inTurn/2 {
		t.Errorf("%d prefixes needed %v to hear the news, with round trips of %v", n, took, 2*delay)
	}
}
