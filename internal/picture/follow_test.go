package picture

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// Who only watches does not notice that etcd is gone, so that what is shown would seem to be up to date.
func TestAFollowerNoticesThatEtcdIsGoneWhileNothingChanges(t *testing.T) {
	t.Parallel()
	proxy, err := faultproxy.New(embeddedtest.Server(t).Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{proxy.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	r := &Reader{Client: client, Layout: layout, Timeout: time.Second}
	looks, news, done := make(chan struct{}, 1), make(chan error), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- r.Follow(ctx, time.Millisecond, func(ctx context.Context) error {
			_, err := r.page(ctx, layout.Config(), "", 0, 1)
			if err == nil {
				select {
				case looks <- struct{}{}:
				default:
				}
			}
			return err
		}, func(err error) { news <- err })
	}()
	<-looks
	proxy.BlackHole()
	if err := <-news; !errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("lost: %v", err)
	}
	proxy.Heal()
	if err := <-news; err != nil {
		t.Errorf("back: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the end: %v", err)
	}
}
