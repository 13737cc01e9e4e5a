package member

import "sync"

// tasks are the goroutines of what a member does by itself. Any goroutine may start one, until somebody waits for them.
type tasks struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

// run starts f in a goroutine of its own. False says that it did not, because nobody would wait for it any more.
func (t *tasks) run(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.wg.Go(f)
	}
	return !t.over
}

// wait lets no more goroutines begin, and waits for those that run.
func (t *tasks) wait() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.wg.Wait()
}
