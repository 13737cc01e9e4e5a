// Package failures logs what fails again and again, without filling the log.
//
// When a service is gone, each of the thousands of resources that need it fails, again and again after pauses, and all
// for the same reason. A Log writes the first failure of a kind at once, in full. For those that follow it writes one
// line in each interval: how many failures there were, for how many resources, and the last one as an example. When a
// kind has not occurred for some intervals, a line says that it has stopped, and the next failure counts as the first
// again.
//
// Two failures are of one kind if their message and call are the same, and their errors differ only in names and
// numbers (see normal).
package failures

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Interval is how often repeated failures are logged.
	Interval = time.Minute
	// quiet is after how many intervals without a failure a kind counts as stopped. The pause between two tries may be
	// a minute, and a try takes time too.
	quiet = 3
	// mostKinds is how many kinds are told apart. Beyond that, failures with the same message and call are one kind.
	mostKinds = 64
	// mostNames is how many resources of a kind are counted in an interval; there may be more than that.
	mostNames = 1024
)

// Failure is one thing that failed.
type Failure struct {
	Message  string        // says what failed; one of few texts
	Level    zapcore.Level // info if it is not set
	Call     string        // the call of the handler: handle, update or terminate; empty if there was none
	Resource string        // the id of the resource that failed; empty if it is about none
	Error    string        // why it failed; empty if the message says everything
	Fields   []zap.Field   // further fields of the first line of the kind
}

// Log writes failures to a logger. Its methods are safe for concurrent use.
type Log struct {
	to *zap.Logger

	mu     sync.Mutex
	kinds  map[key]*kind
	timer  *time.Timer // set while there are kinds
	closed bool
}

type key struct{ message, call, text string }

// kind is what happened to one kind since it was last logged.
type kind struct {
	first  time.Time
	latest time.Time
	all    int                 // failures since first
	since  time.Time           // when the last line was written
	more   int                 // failures since then
	names  map[string]struct{} // the resources of those failures
	last   Failure
	silent int // intervals without a failure
}

// New makes a Log. It has no goroutine; the owner calls Close after the last Add.
func New(to *zap.Logger) *Log { return &Log{to: to, kinds: map[key]*kind{}} }

// Add takes a failure. It waits only for the logger.
func (l *Log) Add(f Failure) {
	if !l.to.Core().Enabled(f.Level) {
		return
	}
	if l.count(f) {
		write(l.to, f.Level, f.Message, append(fieldsOf(f), f.Fields...))
	}
}

// count reports whether the failure is to be logged at once.
func (l *Log) count(f Failure) bool {
	k := key{f.Message, f.Call, normal(f.Error, f.Resource)}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	known := l.kinds[k]
	if known == nil && len(l.kinds) >= mostKinds {
		k.text = ""
		known = l.kinds[k]
	}
	if known == nil {
		l.kinds[k] = &kind{first: now, since: now, latest: now, all: 1, last: f}
		if l.timer == nil {
			l.timer = time.AfterFunc(Interval, l.tick)
		}
		return true
	}
	known.all++
	known.more++
	known.latest, known.last = now, f
	if known.names == nil {
		known.names = map[string]struct{}{}
	}
	if len(known.names) < mostNames && f.Resource != "" {
		known.names[f.Resource] = struct{}{}
	}
	return false
}

// tick logs what happened in an interval.
func (l *Log) tick() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	var lines []func()
	for k, known := range l.kinds {
		if known.more > 0 {
			lines = append(lines, l.again(known))
			continue
		}
		if known.silent++; known.silent < quiet {
			continue
		}
		delete(l.kinds, k)
		if known.all > 1 {
			lines = append(lines, l.stopped(known))
		}
	}
	if len(l.kinds) > 0 {
		l.timer.Reset(Interval)
	} else {
		l.timer = nil
	}
	l.mu.Unlock()
	for _, line := range lines {
		line()
	}
}

// Close logs what has not been logged yet. Failures that are added afterwards are logged at once.
func (l *Log) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	var lines []func()
	for _, known := range l.kinds {
		if known.more > 0 {
			lines = append(lines, l.again(known))
		}
	}
	l.kinds = nil
	l.mu.Unlock()
	for _, line := range lines {
		line()
	}
}

// again makes the line about the failures since the last line, and begins to count anew. The caller holds l.mu.
func (l *Log) again(k *kind) func() {
	now := time.Now()
	f, more, resources, in := k.last, k.more, len(k.names), now.Sub(k.since)
	k.since, k.more, k.silent, k.names = now, 0, 0, nil
	fields := append(fieldsOf(f), zap.Int("more", more))
	if resources > 0 {
		fields = append(fields, zap.Int("resources", resources))
	}
	fields = append(fields, zap.Duration("in", in.Round(time.Second)))
	return func() { write(l.to, f.Level, f.Message+"; more of the same", fields) }
}

// stopped makes the line that says that a kind has not occurred for some time. The caller holds l.mu.
func (l *Log) stopped(k *kind) func() {
	f := k.last
	fields := append(fieldsOf(f), zap.Int("failures", k.all),
		zap.Duration("within", k.latest.Sub(k.first).Round(time.Second)),
		zap.Duration("quiet", time.Since(k.latest).Round(time.Second)))
	return func() { write(l.to, zap.InfoLevel, f.Message+"; no more of the same", fields) }
}

// fieldsOf returns the fields that every line has.
func fieldsOf(f Failure) []zap.Field {
	fields := make([]zap.Field, 0, 8)
	if f.Call != "" {
		fields = append(fields, zap.String("call", f.Call))
	}
	if f.Resource != "" {
		fields = append(fields, zap.String("resource", f.Resource))
	}
	if f.Error != "" {
		fields = append(fields, zap.String("error", f.Error))
	}
	return fields
}

func write(to *zap.Logger, level zapcore.Level, message string, fields []zap.Field) {
	if ce := to.Check(level, message); ce != nil {
		ce.Write(fields...)
	}
}
