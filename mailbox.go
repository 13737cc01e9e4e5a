package drm

import "sync"

// mailbox hands work to the one goroutine that owns the core. Posting never blocks: whoever posts may be a user's
// callback, a watch or a lease, and none of them may wait for the others.
type mailbox struct {
	mu     sync.Mutex
	items  []func()
	closed bool
	wake   chan struct{} // holds one token while there are items
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post adds work; false means that nobody will do it any more.
func (b *mailbox) post(f func()) bool {
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

// take returns all that was posted, in order.
func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

// close refuses further work and returns what was not taken.
func (b *mailbox) close() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	items := b.items
	b.items = nil
	return items
}
