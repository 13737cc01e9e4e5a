//go:build linux || darwin

package handler

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

const (
	// lineMost is how many bytes of a line are shown.
	lineMost = 8 << 10
	// cutMark is shown in place of the rest of a longer line.
	cutMark = " … (cut)"
	// mergeRoom is how many bytes may wait to be written, and mergePart how many are added to them at once.
	mergeRoom, mergePart = 256 << 10, 64 << 10
	// mergePatience is how long a process waits for a writer that takes nothing.
	mergePatience = time.Second
)

// linePrefix returns the beginning of each line of a resource's processes. The id is quoted if it could be misread, or
// has characters that affect a terminal.
func linePrefix(id string) string {
	if quoted := strconv.Quote(id); quoted != `"`+id+`"` || strings.ContainsAny(id, " []") {
		id = quoted
	}
	return "[" + id + "] "
}

// lines puts a prefix before each line of one process's output, and cuts lines that are too long. Only one goroutine
// may use it.
type lines struct {
	prefix  string
	partial []byte // the beginning of a line that has no end yet
	skip    bool   // the line was cut, and its rest is left out
	to      *merger
	out     []byte // whole lines that have not been put; its memory belongs to the caller of take
	count   int    // of the lines in out
}

// take processes the next part of the output. It builds the lines in the memory of room, and returns that memory, which
// may have grown.
func (l *lines) take(text, room []byte) []byte {
	l.out = room[:0]
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		switch {
		case l.skip:
		case len(l.partial)+len(line) > lineMost:
			l.partial = append(l.partial, line[:lineMost-len(l.partial)]...)
			l.partial = append(wholeRunes(l.partial), cutMark...)
			l.emit(nil)
			l.skip = true
		case whole:
			l.emit(line)
		default:
			l.partial = append(l.partial, line...)
		}
		if whole {
			l.skip = false
		}
		if text = rest; len(l.out) >= mergePart {
			l.put()
		}
	}
	l.put()
	room, l.out = l.out, nil
	return room
}

// emit ends the line that partial and more make up.
func (l *lines) emit(more []byte) {
	l.out = append(l.out, l.prefix...)
	l.out = append(l.out, l.partial...)
	l.out = append(l.out, more...)
	l.out = append(l.out, '\n')
	l.count++
	l.partial = l.partial[:0]
	if cap(l.partial) > 1<<10 { // a process that prints nothing for a while needs no memory
		l.partial = nil
	}
}

// put passes the whole lines to the merger.
func (l *lines) put() {
	if l.count > 0 {
		l.to.put(l.out, l.count)
	}
	l.out, l.count = l.out[:0], 0
}

// end must be called after the last output. It passes on a last line that has no end.
func (l *lines) end() {
	if len(l.partial) > 0 {
		l.emit(nil)
	}
	l.put()
}

// wholeRunes returns the text without an incomplete character at its end.
func wholeRunes(text []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if at := len(text) - n; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return text[:at]
			}
			break
		}
	}
	return text
}

// merger writes the lines of many processes to one writer of the user. Each Write has whole lines. A slow writer makes
// the processes wait, as a pipe would. If a Write lasts longer than mergePatience, lines are dropped and counted until
// the next Write.
type merger struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte
	spare   []byte // the memory of the last Write, to be used again
	dropped int    // how many lines were dropped since the last Write
	stuck   bool   // the Write in progress has lasted for mergePatience
	writes  int    // how many were begun
	writing bool
	room    chan struct{} // closed at the next Write; nil if nobody waits for that
	empty   chan struct{} // closed when all is written; nil if nobody waits for that
}

// put adds whole lines. It may wait until there is room for them.
func (m *merger) put(text []byte, count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.waiting) > 0 && len(m.waiting)+len(text) > mergeRoom {
		if m.stuck {
			m.dropped += count
			return
		}
		m.wait()
	}
	m.waiting = append(m.waiting, text...)
	if !m.writing {
		m.writing = true
		go usercode.Repeat(m.write) // ends when nothing waits, so that silent processes need no goroutine
	}
}

// wait waits until the next Write begins or mergePatience has passed, and notes in stuck which it was. The caller holds
// m.mu, which is free meanwhile.
func (m *merger) wait() {
	if m.room == nil {
		m.room = make(chan struct{})
	}
	room, writes := m.room, m.writes
	m.mu.Unlock()
	late := time.NewTimer(mergePatience)
	select {
	case <-room:
	case <-late.C:
	}
	late.Stop()
	m.mu.Lock()
	m.stuck = m.stuck || m.writes == writes
}

// write makes one Write of the waiting lines, and returns false if there were none. If the writer panics,
// usercode.Repeat calls write again for the lines that have come meanwhile.
func (m *merger) write() bool {
	text := m.next()
	if text == nil {
		return false
	}
	_, _ = m.to.Write(text) // there is nobody to report an error to
	m.mu.Lock()
	m.spare = text[:0]
	m.mu.Unlock()
	return true
}

// next returns the lines for the next Write, or nil if none wait.
func (m *merger) next() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = false
	m.writes++
	if m.dropped > 0 {
		m.waiting = fmt.Appendf(m.waiting, "%d lines of processes were dropped: nothing took them in time\n", m.dropped)
		m.dropped = 0
	}
	if m.room != nil {
		close(m.room)
		m.room = nil
	}
	if len(m.waiting) > 0 {
		text := m.waiting
		m.waiting, m.spare = m.spare, nil
		return text
	}
	m.waiting, m.spare, m.writing = nil, nil, false
	if m.empty != nil {
		close(m.empty)
		m.empty = nil
	}
	return nil
}

// flush waits until all is written, but no longer than patience.
func (m *merger) flush(patience time.Duration) {
	m.mu.Lock()
	if !m.writing {
		m.mu.Unlock()
		return
	}
	if m.empty == nil {
		m.empty = make(chan struct{})
	}
	empty := m.empty
	m.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-empty:
	case <-late.C:
	}
}
