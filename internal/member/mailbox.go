package member

import (
	"sync"
	"time"
)

// mailbox hands work to the loop. Posting never blocks, because a user's callback, a watch or a lease posts, and none
// of them may wait for the others.
type mailbox struct {
	mu     sync.Mutex
	items  []func(now time.Duration)
	closed bool
	wake   chan struct{} // holds one token while there are items
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post adds work. It returns false if the mailbox is closed, so that nobody will do the work.
func (b *mailbox) post(f func(now time.Duration)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.items = append(b.items, f)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns everything that was posted since the last call, in order.
func (b *mailbox) take() []func(now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

// close makes post refuse further work, and drops the work that was not taken.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.items = true, nil
}
