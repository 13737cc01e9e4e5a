package reshard_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/reshard"
	"github.com/distributed-resource-manager/drm/shard"
)

// BenchmarkReshard doubles the shards of an app with 100,000 resources, on etcd that calls fsync.
func BenchmarkReshard(b *testing.B) {
	const resources, batch = 100_000, 100
	server := embeddedtest.ServerOf(b, func(c *embedded.Config) { c.UnsafeNoFsync = false })
	etcd := embeddedtest.Client(b, server.Endpoint())
	layout := keys.New("/drm", "app")
	shards := 1024
	if _, err := appconfig.Open(b.Context(), etcd, layout, shards, shards); err != nil {
		b.Fatal(err)
	}
	data := strings.Repeat("x", 200)
	for from := 0; from < resources; from += batch {
		var ops []clientv3.Op
		for i := from; i < from+batch; i++ {
			id := fmt.Sprintf("resource-%06d", i)
			ops = append(ops, clientv3.OpPut(layout.Resource(shard.Of(id, shards), id),
				fmt.Sprintf(`{"from_source":true,"data":{"id":%q,"x":%q}}`, id, data)))
		}
		if _, err := etcd.Txn(b.Context()).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		shards = 3072 - shards // 1024 and 2048 by turns
		j := &reshard.Job{Client: etcd, Layout: layout, Timeout: time.Minute, To: shards}
		if _, err := j.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
