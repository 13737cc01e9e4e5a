package member

import "sync"

// tasks are the goroutines of what a member does by itself. Any goroutine may start one, until wait is called.
type tasks struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

// run starts f in a goroutine of its own. It returns false, and does not start f, once wait was called.
func (t *tasks) run(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.wg.Go(f)
	}
	return !t.over
}

// wait lets no more goroutines start, and waits for those that run.
func (t *tasks) wait() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.wg.Wait()
}
