//go:build linux || darwin

package handler

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLinePrefix(t *testing.T) {
	for id, want := range map[string]string{
		"feed-1":          "[feed-1] ",
		"日本/ü:1":          "[日本/ü:1] ",
		"a b":             `["a b"] `,
		"a] [b":           `["a] [b"] `,
		`a"b`:             `["a\"b"] `,
		`a\b`:             `["a\\b"] `,
		"a\u202eb":        `["a\u202eb"] `,
		"\u009b31m":       `["\u009b31m"] `,
		"a\xffb":          `["a\xffb"] `,
		"\u00a0":          `["\u00a0"] `,
		"\x1b[31mred\n\r": `["\x1b[31mred\n\r"] `, // which drm.Resource does not allow
	} {
		if got := linePrefix(id); got != want {
			t.Errorf("%q: got %s, want %s", id, got, want)
		}
	}
}

// shown returns what is written for an output that a process prints in these parts.
func shown(t *testing.T, parts ...string) string {
	t.Helper()
	var to bytes.Buffer
	m := &merger{to: &to}
	l := &lines{prefix: "[a] ", to: m}
	var room []byte
	for _, part := range parts {
		room = l.take([]byte(part), room)
	}
	l.end()
	m.flush(time.Minute)
	return to.String()
}

func TestLinesHaveAPrefixAndABound(t *testing.T) {
	long := strings.Repeat("x", lineMost)
	for name, tc := range map[string]struct {
		parts []string
		want  string
	}{
		"nothing":                {nil, ""},
		"lines":                  {[]string{"one\ntwo\n\n"}, "[a] one\n[a] two\n[a] \n"},
		"in parts":               {[]string{"o", "ne", "\ntw", "o\n"}, "[a] one\n[a] two\n"},
		"the last without end":   {[]string{"one\ntw", "o"}, "[a] one\n[a] two\n"},
		"as long as may be":      {[]string{long + "\n", long, "\n", long}, strings.Repeat("[a] "+long+"\n", 3)},
		"too long":               {[]string{long + "y\nnext\n"}, "[a] " + long + cutMark + "\n[a] next\n"},
		"too long in parts":      {[]string{long, "y", "z", "\nne", "xt\n"}, "[a] " + long + cutMark + "\n[a] next\n"},
		"too long, without end":  {[]string{long, long, long}, "[a] " + long + cutMark + "\n"},
		"cut within a character": {[]string{long[1:] + "ü\n"}, "[a] " + long[1:] + cutMark + "\n"},
		"cut after a character":  {[]string{long[2:] + "üy\n"}, "[a] " + long[2:] + "ü" + cutMark + "\n"},
	} {
		if got := shown(t, tc.parts...); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	// Lines are cut by themselves, however long they are together.
	if got, want := shown(t, strings.Repeat("x\n", 1<<14)), strings.Repeat("[a] x\n", 1<<14); got != want {
		t.Errorf("many lines became %d bytes, want %d", len(got), len(want))
	}
}

// gate is a writer that takes something only while it is open.
type gate struct {
	mu   sync.Mutex
	open sync.Mutex
	text bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	g.open.Lock()
	defer g.open.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(b)
}

// A writer that takes nothing makes the processes wait only for a while, and the lost lines are counted.
func TestAMergerDropsWhatNobodyTakes(t *testing.T) {
	g := &gate{}
	m := &merger{to: g}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	g.open.Lock()
	const count = 1000
	for range count { // put would hang if it waited for the writer
		m.put(line, 1)
	}
	m.mu.Lock()
	held := len(m.waiting)
	m.mu.Unlock()
	if held > mergeRoom {
		t.Errorf("%d bytes wait, want at most %d", held, mergeRoom)
	}
	g.open.Unlock()
	m.flush(time.Minute)
	written := strings.Count(g.text.String(), string(line))
	if want := fmt.Sprintf("%d lines of processes were dropped", count-written); written == 0 || written == count ||
		!strings.Contains(g.text.String(), want) {
		t.Errorf("%d lines were written; want %q in %q", written, want, g.text.String()[max(0, g.text.Len()-100):])
	}
	m.put(line, 1)
	m.flush(time.Minute)
	if !strings.HasSuffix(g.text.String(), string(line)) {
		t.Error("nothing is written afterwards")
	}
}

// A writer that is only slow loses nothing.
func TestAMergerWaitsForAWriterThatIsSlow(t *testing.T) {
	g := &gate{}
	m := &merger{to: g}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				m.put([]byte(strings.Repeat("x", 1023)+"\n"), 1)
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	m.flush(time.Minute)
	if want := 8 * 500 * 1024; g.text.Len() != want {
		t.Errorf("%d bytes were written, want %d", g.text.Len(), want)
	}
}

// worst is a writer whose first Write calls a function of the test.
type worst struct {
	gate
	first func()
	once  sync.Once
}

func (w *worst) Write(b []byte) (int, error) {
	w.once.Do(w.first)
	return w.gate.Write(b)
}

func TestAMergerOutlivesItsWriter(t *testing.T) {
	for name, first := range map[string]func(){"panic": func() { panic("full") }, "goexit": runtime.Goexit} {
		w := &worst{first: first}
		m := &merger{to: w}
		m.put([]byte("one\n"), 1)
		m.flush(time.Minute)
		m.put([]byte("two\n"), 1)
		m.flush(time.Minute)
		if got := w.text.String(); got != "two\n" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
