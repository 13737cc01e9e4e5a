package lease

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// window is how many transactions a Writer may have under way just now. When etcd says that it has too many requests, or
// does not answer in time, half as many go on; as long as it answers, one more for each windowful of answers, up to most. (Additive
// increase, multiplicative decrease: D. Chiu and R. Jain, 1989. Of several writers, each ends up with its share.)
type window struct {
	size, most int
	answered   int // since size was changed
}

// answer takes note of how a transaction ended.
func (w *window) answer(err error) {
	if overloaded(err) {
		w.size, w.answered = max(1, w.size/2), 0
		return
	}
	if w.answered++; w.answered >= w.size && w.size < w.most {
		w.size, w.answered = w.size+1, 0
	}
}

// overloaded says whether an error means that etcd has more to do than it can.
func overloaded(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}
