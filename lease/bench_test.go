package lease_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/lease"
)

// BenchmarkClaims compares claims with the best that etcd can do: as many plain puts, in as many transactions at a
// time. Compare the ops/s of one run with each other. `go test -run '^$' -bench Claims -benchtime 100000x ./lease`
func BenchmarkClaims(b *testing.B) {
	const inFlight, perTxn = 4, 127
	client := embeddedtest.Client(b)
	round := 0
	keys := func(n int) []string {
		round++
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("/drm/app/shards/%04x/claims/%d-%d", i%1024, round, i)
		}
		return keys
	}
	value := `{"member":"worker-17","state":"claimed","since":"2020-01-02T03:04:05Z"}`
	grant := func(b *testing.B) clientv3.LeaseID {
		resp, err := client.Grant(b.Context(), 3600)
		if err != nil {
			b.Fatal(err)
		}
		return resp.ID
	}
	rate := func(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s") }

	b.Run("raw puts", func(b *testing.B) {
		id := grant(b)
		keys := keys(b.N)
		b.ResetTimer()
		var group errgroup.Group
		group.SetLimit(inFlight)
		for len(keys) > 0 {
			batch := keys[:min(perTxn, len(keys))]
			keys = keys[len(batch):]
			group.Go(func() error {
				ops := make([]clientv3.Op, len(batch))
				for i, key := range batch {
					ops[i] = clientv3.OpPut(key, value, clientv3.WithLease(id))
				}
				_, err := client.Txn(b.Context()).Then(ops...).Commit()
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		rate(b)
	})

	for _, test := range []struct {
		name     string
		shuffled bool
		conflict int // one key in so many conflicts; 0: none
	}{{"claims", false, 0}, {"claims in random order", true, 0}, {"claims with 1 in 100 taken", false, 100}} {
		b.Run(test.name, func(b *testing.B) {
			bench := newBench(b, client, lease.WriterOptions{MaxInFlight: inFlight})
			id := bench.lease(b)
			ops := make([]lease.Op, b.N)
			for i, key := range keys(b.N) {
				ops[i] = lease.Op{Key: key, Group: i % 1024, Value: []byte(value), Lease: id}
				if test.conflict > 0 && i%test.conflict == 0 {
					if _, err := client.Put(b.Context(), key, ""); err != nil {
						b.Fatal(err)
					}
				}
			}
			if test.shuffled {
				rand.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
			}
			b.ResetTimer()
			bench.writer.Submit(ops...)
			for n := 0; n < b.N; {
				for _, r := range <-bench.results {
					n++
					if r.Err != nil || r.Applied == (r.Found.CreateRevision != 0) {
						b.Fatalf("%+v", r)
					}
				}
			}
			rate(b)
			b.StopTimer()
			bench.writer.Close()
		})
	}
}
