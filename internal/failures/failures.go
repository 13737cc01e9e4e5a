// Package failures logs what fails again and again.
//
// When a service is gone, each of the thousands of resources that need it fails, each again after a pause, and all for
// the same reason. A Log writes the first failure of a kind at once, in full. Of those that follow it writes one line
// an interval: how many there were, of how many resources, and the last of them as an example. When a kind has not come
// for some intervals, a line says that it has stopped, and the next one is a first one again.
//
// Two failures are of one kind where their message and call are the same, and their errors are but for the names and
// numbers in them (see normal).
package failures

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Interval is how often what has failed again is told.
	Interval = time.Minute
	// quiet is after how many intervals without a failure a kind has stopped. The pauses between two tries are as long
	// as a minute, and a try may take its time too.
	quiet = 3
	// mostKinds is how many kinds are told apart. Beyond that, what has the same message and call is one kind.
	mostKinds = 64
	// mostNames is how many resources of a kind are counted in an interval; there may be more then.
	mostNames = 1024
)

// Failure is one thing that failed.
type Failure struct {
	Message  string        // says what failed; one of few
	Level    zapcore.Level // info if not set
	Call     string        // of the handler: handle, update, terminate; empty where it was none
	Resource string        // that it is about, by its id; empty where it is about none
	Error    string        // why; empty where the message says it all
	Fields   []zap.Field   // what else the first line of the kind has
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

// kind is what came of one kind since it was last told of.
type kind struct {
	first  time.Time
	latest time.Time
	all    int                 // since first
	since  time.Time           // the last line
	more   int                 // since then
	names  map[string]struct{} // of the resources since then
	last   Failure
	silent int // intervals without any
}

// New makes a Log. It has no goroutine; Close is due when no more is to come.
func New(to *zap.Logger) *Log { return &Log{to: to, kinds: map[key]*kind{}} }

// Add takes a failure. It does not wait for anything but the logger.
func (l *Log) Add(f Failure) {
	if !l.to.Core().Enabled(f.Level) {
		return
	}
	if l.count(f) {
		write(l.to, f.Level, f.Message, append(fieldsOf(f), f.Fields...))
	}
}

// count reports whether the failure is to be written at once.
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

// tick tells what there was in an interval.
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

// Close tells what has not been told yet. What is added afterwards is written at once.
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

// again makes the line of those that came since the last one, and begins to count anew. l.mu is held.
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

// stopped makes the line that says that a kind has not come for some time. l.mu is held.
func (l *Log) stopped(k *kind) func() {
	f := k.last
	fields := append(fieldsOf(f), zap.Int("failures", k.all),
		zap.Duration("within", k.latest.Sub(k.first).Round(time.Second)),
		zap.Duration("quiet", time.Since(k.latest).Round(time.Second)))
	return func() { write(l.to, zap.InfoLevel, f.Message+"; no more of the same", fields) }
}

// fieldsOf are those that every line has.
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
