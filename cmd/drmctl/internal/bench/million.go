package bench

import (
	"context"
	"runtime"
)

// million measures the largest app that one etcd is meant for.
func million(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	f, err := l.kill(ctx, 10, l.size(1_000_000))
	if err != nil {
		return nil, false, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f["memory_mb"] = float64(m.Sys-m.HeapReleased) / (1 << 20)
	if peak := peakMemory(); peak > 0 {
		f["peak_memory_mb"] = float64(peak) / (1 << 20)
	}
	return f, f["others_fenced"] == 0, nil
}
