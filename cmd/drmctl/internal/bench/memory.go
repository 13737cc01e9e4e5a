package bench

import (
	"context"
	"runtime"
)

// memory measures how much memory one member needs that holds everything. etcd must run in another process, or its
// memory would count.
func memory(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	n := l.size(200_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	l.handler = newCounter(n)
	before := heap()
	if _, err := l.start(ctx, "member", nil); err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, 1, n); err != nil {
		return nil, false, err
	}
	each := float64(heap()-before) / float64(n)
	f := map[string]float64{
		"resources": float64(n), "data_bytes": dataBytes,
		"bytes_each": each, "bytes_each_beside_data": each - dataBytes,
	}
	return f, f["bytes_each_beside_data"] <= 1024, nil
}

// heap is how many bytes of the heap are in use.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // objects in a sync.Pool survive the first round
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
