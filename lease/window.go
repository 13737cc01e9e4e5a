package lease

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// window is how many transactions a Writer may have in progress now. The number is halved when etcd says that it has
// too many requests, does not answer in time, or takes long. It grows by one for each windowful of answers, up to most.
// (This is additive increase, multiplicative decrease: D. Chiu and R. Jain, 1989. Each of several writers ends up with
// its share.)
//
// Slow answers never make the number less than a quarter of most. What a Writer writes decides whether anybody handles
// a resource, and if etcd is slow for another reason than the number of requests, sending fewer at a time would only
// take longer.
type window struct {
	size, most int
	answered   int           // how many answers have come since size was changed
	slow       time.Duration // an answer is slow if it takes longer than this and slowRatio times the fastest; 0: never
	fastest    time.Duration // the fastest answer since the last long time without one; 0: there is none yet
	heard      time.Time     // when the last answer came
	lowered    time.Time     // when size was lowered last
}

const (
	// slowRatio is how many times longer than the fastest answer a slow one takes at least, since etcd may be far away.
	slowRatio = 4
	// windowForgets is how long there must be no answer for the fastest one to be forgotten.
	windowForgets = time.Minute
)

// answer takes note of the outcome of a transaction that was sent at a given time.
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
		if sent.After(w.lowered) { // an earlier one was waiting behind those that were sent before size was lowered
			w.lower(min(w.size, max(1, w.most/4)), now)
		}
		return
	}
	if w.answered++; w.answered >= w.size && w.size < w.most {
		w.size, w.answered = w.size+1, 0
	}
}

// lower halves the number of transactions, but not below least.
func (w *window) lower(least int, now time.Time) {
	w.size, w.answered, w.lowered = max(least, w.size/2), 0, now
}

// overloaded says whether an error means that etcd has more to do than it can manage.
func overloaded(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded)
}
