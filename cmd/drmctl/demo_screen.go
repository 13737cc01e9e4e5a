package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// screen shows the demo: lines that stay and, on a terminal, a table of the members below them that is redrawn in
// place.
type screen struct {
	stage *stage
	begin time.Time
	live  bool
	width int

	mu    sync.Mutex
	w     io.Writer
	drawn []string // the table that is on the terminal

	quit, ended chan struct{}
}

func newScreen(c *cli.Context, s *stage) *screen {
	v := &screen{stage: s, begin: time.Now(), w: c.App.Writer, quit: make(chan struct{}), ended: make(chan struct{})}
	if !isTable(c) {
		v.w = io.Discard // only the summary is printed
	} else if f, ok := c.App.Writer.(interface{ Fd() uintptr }); ok {
		fd := int(f.Fd())
		width, _, err := term.GetSize(fd)
		if term.IsTerminal(fd) && os.Getenv("TERM") != "dumb" && err == nil && width >= 60 {
			v.live, v.width = true, width
		}
	}
	go v.refresh()
	return v
}

// close stops the redrawing and leaves the last table in place.
func (v *screen) close() {
	close(v.quit)
	<-v.ended
	v.mu.Lock()
	defer v.mu.Unlock()
	v.draw()
}

// refresh redraws the table when something has happened, but only as often as an eye can follow.
func (v *screen) refresh() {
	defer close(v.ended)
	if !v.live {
		return
	}
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-v.quit:
			return
		case <-ticks.C:
			v.mu.Lock()
			v.draw()
			v.mu.Unlock()
		}
	}
}

// say prints a line that stays, with the time since the beginning.
func (v *screen) say(format string, args ...any) {
	v.print(fmt.Sprintf("%5.1fs  %s", time.Since(v.begin).Seconds(), fmt.Sprintf(format, args...)))
}

// more prints a line that belongs to the one before.
func (v *screen) more(format string, args ...any) { v.print("        " + fmt.Sprintf(format, args...)) }

// shares prints the table as lines that stay, unless it is on the terminal already.
func (v *screen) shares() {
	if v.live {
		return
	}
	for _, line := range v.table() {
		v.more("  %s", line)
	}
}

func (v *screen) print(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
	fmt.Fprintln(v.w, line)
	v.draw()
}

// erase removes the table from the terminal. The caller of erase or draw holds the lock.
func (v *screen) erase() {
	if len(v.drawn) > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", len(v.drawn)) // moves up, and clears everything below
		v.drawn = nil
	}
}

func (v *screen) draw() {
	if !v.live {
		return
	}
	lines := v.table()
	if slices.Equal(lines, v.drawn) {
		return
	}
	v.erase()
	for _, line := range lines {
		if runes := []rune(line); len(runes) >= v.width {
			line = string(runes[:v.width-1])
		}
		fmt.Fprintln(v.w, line)
	}
	v.drawn = lines
}

// table shows how many resources each member handles, according to the journal.
func (v *screen) table() []string {
	const widest = 30
	counts, handled, most := make(map[string]int), 0, 1
	for _, members := range journal.Holders(v.stage.journal.Events()) {
		handled++
		for _, m := range members {
			counts[m]++
			most = max(most, counts[m])
		}
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, a := range v.stage.cast() {
		bar := strings.Repeat("█", counts[a.id]*widest/most)
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", a.id, a.state, counts[a.id], bar)
	}
	fmt.Fprintf(w, "all\t\t%d of %d\n", handled, len(v.stage.ids))
	_ = w.Flush() // writes to memory, which cannot fail
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}
