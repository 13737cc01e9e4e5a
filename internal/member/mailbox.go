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
	work   bool // some of the items may change something
	closed bool
	wake   chan struct{} // holds one token while there are items
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post adds work. It returns false if the mailbox is closed, so that nobody will do the work. looks says that the work
// changes nothing.
func (b *mailbox) post(f func(now time.Duration), looks bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.items, b.work = append(b.items, f), b.work || !looks
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns everything that was posted since the last call, in order, and whether some of it may change something.
func (b *mailbox) take() (items []func(now time.Duration), work bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items, work = b.items, b.work
	b.items, b.work = nil, false
	return items, work
}

// close makes post refuse further work, and drops the work that was not taken.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.items = true, nil
}
