package scenario_test

import (
	"context"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// ledger is a Handler that keeps a journal, for faults after which two members may handle a resource at once: it
// measures what makes a recorder fail the test.
type ledger struct {
	tb testing.TB
	journal.Journal
}

func (l *ledger) Handle(_ context.Context, c drm.Claim) error {
	l.Record(journal.Event{Member: c.Member, Action: journal.Handle, Resource: c.Resource.ID, Token: c.Token})
	return nil
}

func (l *ledger) Terminate(_ context.Context, c drm.Claim) error {
	l.Record(journal.Event{Member: c.Member, Action: journal.Terminate, Resource: c.Resource.ID, Token: c.Token})
	return nil
}

func (l *ledger) HandleFailed(context.Context, drm.Claim, error)    {}
func (l *ledger) TerminateFailed(context.Context, drm.Claim, error) {}

// until waits until ok returns true. It calls ok after each event, and also now and then.
func (l *ledger) until(what string, ok func() bool) {
	l.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		grown := l.Grown()
		if ok() {
			return
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-grown:
		case <-again.C:
		case <-deadline.C:
			l.tb.Fatalf("not in time: %s; held: %v", what, journal.Holders(l.Events()))
		}
		again.Stop()
	}
}

// each reports whether these resources and no others are handled, each by one member.
func (l *ledger) each(want ...string) bool {
	holders := journal.Holders(l.Events())
	for _, id := range want {
		if len(holders[id]) != 1 {
			return false
		}
	}
	return len(holders) == len(want)
}

// since measures what happened from a moment on: the longest time for which nobody handled a resource, how long it took
// until nothing changed any more, how many handlings began, and the overlaps. It fails the test where a token fell.
func (l *ledger) since(from time.Time) (gap, settled time.Duration, handled int, overlaps []journal.Fault) {
	l.tb.Helper()
	events := l.Events()
	for _, f := range journal.Check(events, journal.Expect{}) {
		switch {
		case f.Kind != journal.Overlap:
			l.tb.Error(f)
		case f.Time.After(from):
			overlaps = append(overlaps, f)
		}
	}
	for _, list := range journal.Timeline(events) {
		for i, h := range list {
			if h.From.Before(from) {
				continue
			}
			handled++
			settled = max(settled, h.From.Sub(from))
			if i > 0 && !list[i-1].Open() {
				gap = max(gap, h.From.Sub(list[i-1].To))
			}
		}
	}
	return gap, settled, handled, overlaps
}
