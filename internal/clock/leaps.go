package clock

import (
	"sync"
	"time"
)

// look is how often a Leaps compares the clocks, and leap is by how much System must have run ahead meanwhile.
const (
	look = 50 * time.Millisecond
	leap = 20 * time.Millisecond
)

// Leaps tells when System has leapt ahead of Go's timers, because the machine slept. One goroutine looks for all who
// want to know, so that none of them needs a timer of its own for that. The zero value is ready for use, and has a
// goroutine only while somebody wants to know. It is safe for concurrent use.
type Leaps struct {
	mu     sync.Mutex
	last   int
	told   map[int]func()
	end    chan struct{} // closed to end the goroutine
	ending sync.WaitGroup
}

// Tell calls f, on a goroutine of the Leaps, soon after each leap, until forget is called. f must not block.
func (l *Leaps) Tell(f func()) (forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.told) == 0 {
		l.told, l.end = map[int]func(){}, make(chan struct{})
		end := l.end
		l.ending.Go(func() { l.run(end, System(), time.Now) })
	}
	l.last++
	n := l.last
	l.told[n] = f
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.told[n]; !ok {
			return // Close has forgotten it
		}
		if delete(l.told, n); len(l.told) == 0 {
			close(l.end)
		}
	})
}

// Close forgets whatever is to be told, and waits for the goroutine to end. Nobody calls Tell any more.
func (l *Leaps) Close() {
	l.mu.Lock()
	if len(l.told) > 0 {
		clear(l.told)
		close(l.end)
	}
	l.mu.Unlock()
	l.ending.Wait()
}

func (l *Leaps) run(end <-chan struct{}, clock Clock, timers func() time.Time) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	was, began := clock.Now(), timers()
	for {
		select {
		case <-tick.C:
		case <-end:
			return
		}
		now, at := clock.Now(), timers()
		if now-was-at.Sub(began) > leap {
			l.tell()
		}
		was, began = now, at
	}
}

func (l *Leaps) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.told {
		f()
	}
}
