// Package logqueue keeps the sink of a log from holding up whoever logs.
//
// A sink is somebody else's: a pipe that nobody reads, a disk that hangs, code that takes locks. A Queue takes the
// lines and writes them in a goroutine of its own. What finds the queue full is dropped and counted, and the count is
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

// Size is how many lines wait at most.
const Size = 4096

// Queue is the lines of one logger that are not written yet. Its methods are safe for concurrent use.
type Queue struct {
	sink zapcore.Core // for what the queue itself has to say

	mu      sync.Mutex
	lines   []func() // each writes one
	dropped int      // since the last one that was written
	writing bool
	closed  bool
	empty   chan struct{} // closed when nothing waits and nothing is being written; nil: nobody wants to know
}

// Wrap returns a logger that logs what l does, by way of a queue. Neither logging to it nor With waits for l's sink.
//
// The values of fields are read later, in the queue's goroutine: whoever logs must not change them afterwards.
func Wrap(l *zap.Logger) (*zap.Logger, *Queue) {
	q := &Queue{sink: l.Core()}
	return l.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &core{q, c} })), q
}

// Writer returns a writer whose writes go through the queue, in their order with what is logged. Each is a line, or
// some. It reports no error: there is none to know of yet.
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

// Close waits until all that was logged is written, at most so long, and reports whether it was. What is logged
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

// flush waits until nothing waits any more, at most so long.
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

// put adds a line, unless there is no room.
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
			go usercode.Repeat(q.write) // it ends when nothing waits: a logger that is quiet needs no goroutine
		}
	}
}

// write writes the next line, and reports whether there was one. Whatever the sink does, it has the rest all the same.
func (q *Queue) write() bool {
	line := q.take()
	if line == nil {
		return false
	}
	line()
	return true
}

// take returns what is to be written next; nil where the writing is over.
func (q *Queue) take() (line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.lines) > 0:
		line, q.lines[0] = q.lines[0], nil // the room lasts until all are written
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

// tell says how many lines were dropped.
func tell(sink zapcore.Core, dropped int) func() {
	return func() {
		log(sink, zapcore.Entry{
			Level: zapcore.WarnLevel, Time: time.Now(),
			Message: "log lines were dropped: the log's sink did not take them in time",
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

// Sync waits for up to a second until all that was logged is written. It does not sync the sink: that is its owner's.
func (c *core) Sync() error {
	c.queue.flush(time.Second)
	return nil
}
