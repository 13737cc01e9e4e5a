package picture

import (
	"context"
	"iter"
	"sync"
)

// inFlight is how many requests a long reading makes at a time, so that etcd is never idle while an answer is looked
// through, and so that what is in memory stays small.
const inFlight = 3

// ahead calls do for 0 to jobs-1, with a few calls in progress at a time, and yields the results in order. It ends with
// the first error, or when the caller breaks off; then no call is left.
func ahead[T any](ctx context.Context, jobs int, do func(context.Context, int) (T, error)) iter.Seq2[T, error] {
	type result struct {
		value T
		err   error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var calls sync.WaitGroup
		defer calls.Wait()
		defer cancel()
		next := 0
		var begun []chan result
		begin := func() {
			n, one := next, make(chan result, 1)
			next++
			begun = append(begun, one)
			calls.Go(func() {
				value, err := do(ctx, n)
				one <- result{value, err}
			})
		}
		for next < min(jobs, inFlight) {
			begin()
		}
		for len(begun) > 0 {
			r := <-begun[0]
			begun = begun[1:]
			if r.err == nil && next < jobs {
				begin()
			}
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
		}
	}
}
