package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// betweenNotes is how long there is between two lines about the progress of a wait, where there is no terminal to draw
// on. The first one comes that late too: most waits are over by then.
const betweenNotes = 10 * time.Second

// teller shows the progress of a wait on stderr. Its methods are safe for concurrent use.
type teller interface {
	tell(p drm.DrainProgress)
	end() // nothing is shown any more
}

// newTeller returns what shows the progress of a wait for a member, which what names.
func newTeller(c *cli.Context, what string) teller {
	if file, ok := c.App.ErrWriter.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			width = 80
		}
		return newBar(file, what, width, inColor(c, file))
	}
	return &noter{what: what, note: func(text string) { note(c, "%s", text) }, last: time.Now(), now: time.Now}
}

// noter prints the progress as a line from time to time.
type noter struct {
	what string
	note func(text string)
	now  func() time.Time

	mu   sync.Mutex
	last time.Time // when the last line was printed, or the wait began
}

func (n *noter) tell(p drm.DrainProgress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := n.now(); now.Sub(n.last) >= betweenNotes {
		n.last = now
		n.note(n.what + ": " + progressWords(p))
	}
}

func (n *noter) end() {}

// bar draws the progress on a terminal.
type bar struct {
	writer  progress.Writer
	tracker *progress.Tracker
	width   int
	done    chan struct{} // closed when nothing is drawn any more
}

// barUpdates is how often the bar is drawn.
const barUpdates = 200 * time.Millisecond

func newBar(out io.Writer, what string, width int, color bool) *bar {
	b := &bar{
		writer: progress.NewWriter(), width: width, done: make(chan struct{}),
		tracker: &progress.Tracker{Message: what, AutoStopDisabled: true, RemoveOnCompletion: true},
	}
	b.writer.SetOutputWriter(out)
	b.writer.SetUpdateFrequency(barUpdates)
	b.writer.SetTerminalWidth(width)
	b.writer.SetTrackerLength(min(30, max(5, width/4)))
	style := b.writer.Style()
	if !color {
		style.Colors = progress.StyleColors{}
	}
	style.Visibility = progress.StyleVisibility{Tracker: true, Value: true, Pinned: true}
	style.Options.PercentFormat = "%3.0f%%"
	b.writer.AppendTracker(b.tracker)
	go func() {
		defer close(b.done)
		b.writer.Render()
	}()
	return b
}

func (b *bar) tell(p drm.DrainProgress) {
	if p.Left >= 0 {
		b.tracker.UpdateTotal(int64(p.Left + p.Gone))
		b.tracker.SetValue(int64(p.Gone))
	}
	b.writer.SetPinnedMessages(excerpt.Runes(output.Line(progressWords(p)), max(b.width-1, 20)))
}

func (b *bar) end() {
	b.writer.SetPinnedMessages()
	b.tracker.MarkAsDone()
	for { // a Stop before the first drawing would be lost
		b.writer.Stop()
		select {
		case <-b.done:
			return
		case <-time.After(barUpdates):
		}
	}
}

// progressWords say how far a wait is.
func progressWords(p drm.DrainProgress) string {
	var words []string
	if p.Left >= 0 {
		words = append(words, humanize.Comma(int64(p.Left))+" left")
	}
	if p.Rate > 0 {
		words = append(words, fmt.Sprintf("%.1f a second", p.Rate))
	}
	if p.Remaining > 0 {
		words = append(words, fmt.Sprintf("about %v to go", p.Remaining.Round(time.Second)))
	}
	text := strings.Join(words, ", ")
	switch {
	case p.Slowest != "":
		text += fmt.Sprintf("; slowest: %q: %s", p.Slowest, p.Why)
	case p.Waiting != "":
		text += "; " + p.Waiting
	}
	if text = strings.TrimPrefix(text, "; "); text == "" {
		return "nothing is known yet"
	}
	return text
}

// watcher waits for the effect of an order about a member, and tells of the progress.
type watcher = func(
	ctx context.Context, client *drm.Client, member string, tell func(drm.DrainProgress),
) error

// watchDrain is a watcher.
func watchDrain(ctx context.Context, client *drm.Client, member string, tell func(drm.DrainProgress)) error {
	return client.WatchDrain(ctx, member, tell)
}

// watchUndrain is a watcher.
func watchUndrain(ctx context.Context, client *drm.Client, member string, tell func(drm.DrainProgress)) error {
	return client.WatchUndrain(ctx, member, func(waiting string) {
		tell(drm.DrainProgress{Left: -1, Waiting: waiting})
	})
}

// waitShown waits for the effect of an order about a member with its progress on stderr. Where the wait ends before
// that, the error says what became of the order.
func waitShown(c *cli.Context, client *drm.Client, member string, wait watcher) error {
	shown := newTeller(c, c.Command.Name+" "+cell(member))
	err := waiting(c, c.Command.Name+"ed", func(ctx context.Context) error {
		return wait(ctx, client, member, shown.tell)
	})
	shown.end()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; %s", err, orderStands(c, client, member))
}

// longestLook bounds how long a command that ends looks whether its order stands.
const longestLook = 2 * time.Second

// orderStands says whether a member is drained by order.
func orderStands(c *cli.Context, client *drm.Client, member string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), longestLook)
	defer cancel()
	orders, err := client.Orders(ctx)
	if err != nil {
		return fmt.Sprintf("whether a drain of %s stands is not known: drmctl members tells", cell(member))
	}
	for _, o := range ordersOf(orders, drm.OrderDrain) {
		if o.Member == member {
			return fmt.Sprintf("the drain of %s stands; drmctl undrain %s takes it back", cell(member), cell(member))
		}
	}
	return fmt.Sprintf("no drain of %s stands", cell(member))
}
