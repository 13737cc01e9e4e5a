// Package logqueue keeps a slow sink of a log from delaying whoever logs.
//
// A sink is somebody else's: a pipe that nobody reads, a disk that hangs, code that takes locks. A Queue takes the
// lines and writes them in its own goroutine. A line that finds the queue full is dropped and counted, and the count is
// logged when the sink works again.
package logqueue

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/usercode"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Size is how many lines may wait.
const Size = 4096

// Queue holds the lines of one logger that are not written yet. Its methods are safe for concurrent use.
type Queue struct {
	sink zapcore.Core // takes the queue's own warning about dropped lines

	mu      sync.Mutex
	lines   []func() // each one writes a line
	dropped int      // lines dropped since a line was last written
	writing bool
	closed  bool
	// empty is closed when no line waits or is being written. It is nil if nobody wants to know.
	empty chan struct{}
}

// Wrap returns a logger that does what l does, by way of a queue. Neither logging to it nor With waits for l's sink.
//
// The queue's goroutine reads the values of fields later, so whoever logs must not change them afterwards.
func Wrap(l *zap.Logger) (*zap.Logger, *Queue) {
	q := &Queue{sink: l.Core()}
	return l.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &core{q, c} })), q
}

// Writer returns a writer whose writes go through the queue, in order with what is logged. Each write is one or more
// whole lines. It never returns an error, since nothing is written yet.
func (q *Queue) Writer(w io.Writer) io.Writer { return &writer{q, w} }

type writer struct {
	queue *Queue
	to    io.Writer
}

func (w *writer) Write(b []byte) (int, error) {
	text := bytes.Clone(b)
	w.queue.put(func() { _, _ = w.to.Write(text) })
	return len(b), nil
}

// Close waits up to patience until everything that was logged is written, and reports whether it was. What is logged
// afterwards is dropped.
func (q *Queue) Close(patience time.Duration) bool {
	written := q.flush(patience)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if !written {
		q.lines = nil
	}
	return written
}

// flush waits up to patience until no line waits any more.
func (q *Queue) flush(patience time.Duration) bool {
	q.mu.Lock()
	if !q.writing {
		q.mu.Unlock()
		return true
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	empty := q.empty
	q.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-empty:
		return true
	case <-timer.C:
		return false
	}
}

// put adds a line if there is room.
func (q *Queue) put(line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
	case len(q.lines) >= Size:
		q.dropped++
	default:
		q.lines = append(q.lines, line)
		if !q.writing {
			q.writing = true
			go usercode.Repeat(q.write) // it ends when no line waits: a logger that is quiet needs no goroutine
		}
	}
}

// write writes the next line, and reports whether there was one. Whatever the sink does with one line, it still gets
// the rest.
func (q *Queue) write() bool {
	line := q.take()
	if line == nil {
		return false
	}
	line()
	return true
}

// take returns what is to be written next, or nil if the writing is over.
func (q *Queue) take() (line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.lines) > 0:
		line, q.lines[0] = q.lines[0], nil // the slice is freed when all lines are written
		q.lines = q.lines[1:]
		return line
	case q.dropped > 0 && !q.closed:
		line = tell(q.sink, q.dropped)
		q.dropped = 0
		return line
	}
	q.lines, q.writing = nil, false
	if q.empty != nil {
		close(q.empty)
		q.empty = nil
	}
	return nil
}

// tell makes the line that says how many lines were dropped.
func tell(sink zapcore.Core, dropped int) func() {
	return func() {
		log(sink, zapcore.Entry{
			Level: zapcore.WarnLevel, Time: time.Now(),
			Message: "log lines dropped, since the log's sink did not take them in time",
		}, zap.Int("dropped", dropped))
	}
}

func log(to zapcore.Core, line zapcore.Entry, fields ...zapcore.Field) {
	if ce := to.Check(line, nil); ce != nil {
		ce.Write(fields...)
	}
}

// core is a zapcore.Core whose entries go through a queue.
type core struct {
	queue *Queue
	to    zapcore.Core
}

func (c *core) Enabled(l zapcore.Level) bool { return c.to.Enabled(l) }

func (c *core) With(fields []zapcore.Field) zapcore.Core { return &core{c.queue, c.to.With(fields)} }

func (c *core) Check(line zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(line.Level) {
		return ce.AddCore(line, c)
	}
	return ce
}

func (c *core) Write(line zapcore.Entry, fields []zapcore.Field) error {
	c.queue.put(func() { log(c.to, line, fields...) })
	return nil
}

// Sync waits for up to a second until everything that was logged is written. It does not sync the sink, whose owner
// does that.
func (c *core) Sync() error {
	c.queue.flush(time.Second)
	return nil
}
