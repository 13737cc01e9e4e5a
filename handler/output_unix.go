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
	// lineMost is how much of a line is shown.
	lineMost = 8 << 10
	// cutMark is at the end of what is shown of a longer one.
	cutMark = " … (cut)"
	// mergeRoom is how much waits to be written at most, and mergePart how much is put there at once.
	mergeRoom, mergePart = 256 << 10, 64 << 10
	// mergePatience is how long a process waits for a writer that does not take anything.
	mergePatience = time.Second
)

// linePrefix is what each line of a resource's processes begins with. An id that could be taken for something else, or
// do something to a terminal, is quoted.
func linePrefix(id string) string {
	if quoted := strconv.Quote(id); quoted != `"`+id+`"` || strings.ContainsAny(id, " []") {
		id = quoted
	}
	return "[" + id + "] "
}

// lines puts a prefix before each line of what one process prints, and cuts those that are too long. One goroutine uses
// it.
type lines struct {
	prefix  string
	partial []byte // of a line whose end has not come
	skip    bool   // the rest of a line that was cut
	to      *merger
	out     []byte // what take has made, until it is put; its room is shared
	count   int
}

// take takes what the process has printed next. room is used for what is made of it, and returned, as it may have
// grown.
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

// emit ends the line.
func (l *lines) emit(more []byte) {
	l.out = append(l.out, l.prefix...)
	l.out = append(l.out, l.partial...)
	l.out = append(l.out, more...)
	l.out = append(l.out, '\n')
	l.count++
	l.partial = l.partial[:0]
	if cap(l.partial) > 1<<10 { // a process that has nothing to say for a while needs no room
		l.partial = nil
	}
}

func (l *lines) put() {
	if l.count > 0 {
		l.to.put(l.out, l.count)
	}
	l.out, l.count = l.out[:0], 0
}

// end is for when the process prints nothing any more: a last line may have no end.
func (l *lines) end() {
	if len(l.partial) > 0 {
		l.emit(nil)
	}
	l.put()
}

// wholeRunes is the text without the beginning of a character at its end.
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

// merger writes the lines of many processes to one writer, which is somebody else's: each Write has whole lines. A
// writer that is slow holds the processes up, as a pipe does; one that takes nothing at all does so for mergePatience,
// and from then on lines are dropped and counted until it takes something.
type merger struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte
	spare   []byte // the room of what was written last
	dropped int    // lines since the last Write
	stuck   bool   // the Write in progress has lasted for mergePatience
	writes  int    // that were begun
	writing bool
	room    chan struct{} // closed at the next Write; nil: nobody waits
	empty   chan struct{} // closed when all is written; nil: nobody waits
}

// put adds whole lines.
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
		go usercode.Repeat(m.write) // it ends when nothing waits: processes that say nothing need no goroutine
	}
}

// wait waits for the next Write to begin, and finds out whether the one before lasts for too long.
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

// write writes what waits, and reports whether anything did. Whatever the writer does, it has the rest all the same.
func (m *merger) write() bool {
	text := m.next()
	if text == nil {
		return false
	}
	_, _ = m.to.Write(text) // nobody is to be told of a failure
	m.mu.Lock()
	m.spare = text[:0]
	m.mu.Unlock()
	return true
}

// next is what is to be written next; nil where that is all.
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

// flush waits until all is written, at most so long.
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
