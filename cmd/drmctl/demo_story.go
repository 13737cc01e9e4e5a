package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// story is the sequence of events in the demo.
type story struct {
	stage  *stage
	screen *screen
	keep   bool
	begin  time.Time
	sum    summary
}

// summary is the outcome, which is all that a demo with -o json prints. Times are in seconds.
type summary struct {
	Resources   int      `json:"resources"`
	Handlings   int      `json:"handlings"`
	Moved       int      `json:"moved"`        // resources that moved when a member joined
	LeastMoved  int      `json:"least_moved"`  // resources that had to move then
	Lost        int      `json:"lost"`         // resources of the member that was killed
	TakeoverMin float64  `json:"takeover_min"` // from the kill until the first of these was handled again
	TakeoverMax float64  `json:"takeover_max"` // from the kill until the last of these was handled again
	HandedOver  int      `json:"handed_over"`  // resources of the member that left
	HandoverMax float64  `json:"handover_max"` // the longest time for which nobody handled one of these
	Took        float64  `json:"took"`         // the whole demo
	Faults      []string `json:"faults"`       // resources that were handled twice at once, or not at all
}

// tell runs the whole demo.
func (t *story) tell(ctx context.Context) error {
	for _, act := range []func(context.Context) error{t.open, t.start, t.join, t.kill, t.leave, t.stay, t.finish} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// open starts everything but the members.
func (t *story) open(ctx context.Context) error {
	s := t.stage
	t.sum.Resources = len(s.ids)
	if err := s.build(ctx); err != nil {
		return err
	}
	t.screen.say("etcd at %s, a source with %d resources at %s", s.etcd.Endpoint(), len(s.ids), s.source)
	return nil
}

// start starts the first members, which share the resources.
func (t *story) start(ctx context.Context) error {
	for i := range t.stage.first {
		if _, err := t.stage.join(memberName(i + 1)); err != nil {
			return err
		}
	}
	t.screen.say("%d members start, each a process: drmctl agent", t.stage.first)
	if err := t.stage.settle(ctx); err != nil {
		return err
	}
	t.screen.say("every resource is handled, each by one member:")
	t.screen.shares()
	return nil
}

// join starts another member.
func (t *story) join(ctx context.Context) error {
	before := t.holders()
	a, err := t.stage.join(memberName(t.stage.first + 1))
	if err != nil {
		return err
	}
	t.screen.say("%s joins", a.id)
	if err := t.stage.settle(ctx); err != nil {
		return err
	}
	for r, m := range t.holders() {
		if m != before[r] {
			t.sum.Moved++
		}
		if m == a.id {
			t.sum.LeastMoved++ // only what the newcomer now has had to move
		}
	}
	t.screen.say("%d of %d resources moved; the least possible, what %s has now, is %d",
		t.sum.Moved, len(t.stage.ids), a.id, t.sum.LeastMoved)
	t.screen.shares()
	return nil
}

// kill kills the process of one of the first members.
func (t *story) kill(ctx context.Context) error {
	victim := t.busiest(t.stage.live()[:t.stage.first])
	before := t.holders()
	mark := t.stage.journal.Len()
	at, err := t.stage.kill(victim)
	if err != nil {
		return err
	}
	lost := make(map[string]bool)
	for r, m := range before {
		if m == victim.id {
			lost[r] = true
		}
	}
	t.sum.Lost = len(lost)
	t.screen.say("%s is killed without a word; it handled %d. Its lease of %s has to expire:",
		victim.id, len(lost), t.stage.ttl)
	if err := t.takeover(ctx, victim.id, at, lost, mark); err != nil {
		return err
	}
	if err := t.stage.settle(ctx); err != nil {
		return err
	}
	touched := 0
	for _, e := range t.stage.journal.Events()[mark:] {
		if e.Resource != "" && before[e.Resource] != victim.id {
			touched++
		}
	}
	t.screen.say("all %d are handled again, %.2f to %.2f s after the kill; calls about other resources: %d",
		len(lost), t.sum.TakeoverMin, t.sum.TakeoverMax, touched)
	t.screen.shares()
	return nil
}

// takeover waits until each lost resource is handled again, and reports each.
func (t *story) takeover(ctx context.Context, victim string, at time.Time, lost map[string]bool, mark int) error {
	const shown = 100
	ctx, cancel := context.WithTimeout(ctx, time.Minute+2*t.stage.ttl)
	defer cancel()
	told := 0
	waitingFor := maps.Clone(lost)
	for len(waitingFor) > 0 {
		grown := t.stage.journal.Grown()
		events := t.stage.journal.Events()
		for _, e := range events[mark:] {
			if e.Action != journal.Handle || !waitingFor[e.Resource] {
				continue
			}
			delete(waitingFor, e.Resource)
			took := e.Time.Sub(at).Seconds()
			if told == 0 {
				t.sum.TakeoverMin = took
			}
			t.sum.TakeoverMax = took
			if told++; told <= shown {
				t.screen.more("%.2f s after the kill: %s, handled by %s, is now by %s",
					took, e.Resource, victim, e.Member)
			}
		}
		mark = len(events)
		if len(waitingFor) == 0 {
			break
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("%d resources of %s are still handled by nobody: %w", len(waitingFor), victim, ctx.Err())
		}
	}
	if told > shown {
		t.screen.more("… and %d more", told-shown)
	}
	return nil
}

// leave stops a member gracefully.
func (t *story) leave(ctx context.Context) error {
	leaver := t.busiest(t.stage.live())
	before := t.holders()
	mark := t.stage.journal.Len()
	t.screen.say("%s is asked to leave", leaver.id)
	if err := t.stage.leave(ctx, leaver); err != nil {
		return err
	}
	if err := t.stage.settle(ctx); err != nil {
		return err
	}
	ended := make(map[string]time.Time)
	for _, e := range t.stage.journal.Events()[mark:] {
		switch {
		case e.Action == journal.Terminate && e.Member == leaver.id:
			ended[e.Resource] = e.Time
		case e.Action == journal.Handle && before[e.Resource] == leaver.id && !ended[e.Resource].IsZero():
			t.sum.HandedOver++
			t.sum.HandoverMax = max(t.sum.HandoverMax, e.Time.Sub(ended[e.Resource]).Seconds())
		}
	}
	t.screen.say("it handed over %d resources, and ended; none was handled by nobody for more than %.2f s",
		t.sum.HandedOver, t.sum.HandoverMax)
	t.screen.shares()
	return nil
}

// stay keeps everything running until the user has seen enough.
func (t *story) stay(ctx context.Context) error {
	if !t.keep {
		return nil
	}
	t.screen.say("all stays up until Ctrl-C. In another terminal, try")
	for _, words := range []string{
		"members", "assignments", "lookup " + t.stage.ids[0], "status", "allocate --id mine --wait",
		"drain " + t.stage.live()[0].id + " --wait",
	} {
		t.screen.more("  %s", t.stage.commandLine(words))
	}
	<-ctx.Done()
	return nil
}

// finish stops the members, and checks the journal.
func (t *story) finish(ctx context.Context) error {
	faults := journal.Check(t.stage.journal.Events(), journal.Expect{})
	if !t.keep { // with --keep, the user may have changed what is to be expected
		faults = journal.Check(t.stage.journal.Events(), journal.Expect{Resources: t.stage.ids})
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := t.stage.close(stopping); err != nil {
		return err
	}
	for _, f := range journal.Check(t.stage.journal.Events(), journal.Expect{Resources: []string{}}) {
		if f.Kind == journal.Leftover {
			faults = append(faults, f)
		}
	}
	return t.judge(faults)
}

func (t *story) judge(faults []journal.Fault) error {
	for _, h := range journal.Timeline(t.stage.journal.Events()) {
		t.sum.Handlings += len(h)
	}
	t.sum.Took = time.Since(t.begin).Seconds()
	t.sum.Faults = []string{}
	for _, f := range faults {
		t.sum.Faults = append(t.sum.Faults, f.String())
		t.screen.more("FAULT: %s", f)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d faults: %w", len(faults), errDemoFaults)
	}
	t.screen.say("%d resources, %d handlings: never one by two members at once, never one left out",
		len(t.stage.ids), t.sum.Handlings)
	return nil
}

// errDemoFaults is the error of a demo whose journal shows what should never happen.
var errDemoFaults = errors.New("a resource was handled twice at once, or not at all")

// holders maps each resource to the member that handles it. Where two do, it names the first; finish reports the other.
func (t *story) holders() map[string]string {
	h := make(map[string]string)
	for r, members := range journal.Holders(t.stage.journal.Events()) {
		h[r] = members[0]
	}
	return h
}

// busiest is the member that handles the most resources, the first of them where several do.
func (t *story) busiest(members []*actor) *actor {
	counts := make(map[string]int)
	for _, m := range t.holders() {
		counts[m]++
	}
	return slices.MaxFunc(members, func(a, b *actor) int { return counts[a.id] - counts[b.id] })
}

func memberName(n int) string { return fmt.Sprintf("m%d", n) }
