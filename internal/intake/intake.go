// Package intake lets one goroutine read ahead of another, within bounds: what is read while the reader of the queue is
// busy is taken together. Unlike a channel it is bounded in bytes too, and nothing waits for a part to become full, so
// that an input that pauses holds nothing back.
package intake

import (
	"context"
	"sync"
)

// Queue holds what was put and has not been taken. One goroutine puts, and one takes.
type Queue[T any] struct {
	most, mostBytes int

	mu     sync.Mutex
	items  []T
	bytes  int
	closed bool

	filled, emptied chan struct{} // one token is enough to look again
}

// New makes a queue that holds at most so many items, and so many bytes, or a single item that is larger.
func New[T any](most, bytes int) *Queue[T] {
	return &Queue[T]{
		most: most, mostBytes: bytes, filled: make(chan struct{}, 1), emptied: make(chan struct{}, 1),
	}
}

// Put adds an item, once there is room for it. It returns false if ctx ended first.
func (q *Queue[T]) Put(ctx context.Context, item T, bytes int) bool {
	for !q.add(item, bytes) {
		select {
		case <-q.emptied:
		case <-ctx.Done():
			return false
		}
	}
	signal(q.filled)
	return true
}

func (q *Queue[T]) add(item T, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && (len(q.items) >= q.most || q.bytes+bytes > q.mostBytes) {
		return false
	}
	q.items = append(q.items, item)
	q.bytes += bytes
	return true
}

// Close says that nothing more will be put.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.filled)
}

// Take takes all that there is, once there is anything. It returns false if nothing will come any more, or ctx ended
// first.
func (q *Queue[T]) Take(ctx context.Context) ([]T, bool) {
	for {
		if ctx.Err() != nil {
			return nil, false
		}
		items, closed := q.take()
		if len(items) > 0 {
			signal(q.emptied)
			return items, true
		}
		if closed {
			return nil, false
		}
		select {
		case <-q.filled:
		case <-ctx.Done():
		}
	}
}

func (q *Queue[T]) take() (items []T, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items, q.bytes = q.items, nil, 0
	return items, q.closed
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
