package lease

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// window is how many transactions a Writer may have under way just now. When etcd says that it has too many requests, or
// does not answer in time, half as many go on, and so while its answers take long; as long as it answers, one more for each
// windowful of answers, up to most. (Additive increase, multiplicative decrease: D. Chiu and R. Jain, 1989. Of several
// writers, each ends up with its share.)
//
// Slow answers leave a quarter of most: what is written is what decides that somebody handles a resource, and where etcd is
// slow for another reason than the number of requests, fewer at once would only take longer.
type window struct {
	size, most int
	answered   int           // since size was changed
	slow       time.Duration // an answer takes long if it takes more than this, and slowRatio times the fastest; 0: none does
	fastest    time.Duration // of the answers until none came for a while; 0: there was none
	heard      time.Time     // when the last answer came
	lowered    time.Time     // when size was lowered last
}

const (
	// slowRatio is how many times as long as the fastest an answer takes at least to be a slow one: the way to etcd may be a
	// long one.
	slowRatio = 4
	// windowForgets is after how long without an answer the fastest one says nothing any more.
	windowForgets = time.Minute
)

// answer takes note of how a transaction ended that was sent at that time.
func (w *window) answer(sent, now time.Time, err error) {
	if now.Sub(w.heard) > windowForgets {
		w.fastest = 0
	}
	w.heard = now
	took := now.Sub(sent)
	switch {
	case overloaded(err):
		w.lower(1, now)
		return
	case err == nil && (w.fastest == 0 || took < w.fastest):
		w.fastest = took
	}
	if w.slow > 0 && took > max(w.slow, slowRatio*w.fastest) {
		if sent.After(w.lowered) { // else it waited behind what was sent before that
			w.lower(min(w.size, max(1, w.most/4)), now)
		}
		return
	}
	if w.answered++; w.answered >= w.size && w.size < w.most {
		w.size, w.answered = w.size+1, 0
	}
}

// lower has half as many be under way, and so many at least.
func (w *window) lower(least int, now time.Time) {
	w.size, w.answered, w.lowered = max(least, w.size/2), 0, now
}

// overloaded says whether an error means that etcd has more to do than it can.
func overloaded(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}
