package picture

import (
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// sizer says how many values to ask for at once, so that an answer has about so many bytes as it should. The values of
// catalogue entries may be tiny, or 1.5 MB each, and nobody knows before they are read. Any goroutine may use it.
type sizer struct {
	mu      sync.Mutex
	average int // bytes of a value, as the last answers had them; 0: there was none
	last    int // how many values the last answer had
}

const (
	firstValues = 8    // how many values are asked for while nothing is known of their size
	growth      = 4    // how many times as many as the last time are asked for at most
	mostValues  = 5000 // how many values are asked for at once, at most
)

// fit returns how many values of the usual size make that many bytes; at least 1.
func (z *sizer) fit(bytes int) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.average == 0 {
		return firstValues
	}
	return max(1, min(bytes/z.average, z.last*growth, mostValues))
}

// bytes is the size of a value, as the last answers had them; 0: there was none.
func (z *sizer) bytes() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.average
}

// tookAll notes the size of an answer with these values.
func (z *sizer) tookAll(kvs []*mvccpb.KeyValue) {
	bytes := 0
	for _, kv := range kvs {
		bytes += len(kv.Value)
	}
	z.took(len(kvs), bytes)
}

// took notes the size of an answer.
func (z *sizer) took(values, bytes int) {
	if values == 0 {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	average := bytes/values + 1
	if average < z.average { // it falls slowly, since large values may be rare
		average = (3*z.average + average) / 4
	}
	z.average, z.last = average, max(values, z.last/2)
}
