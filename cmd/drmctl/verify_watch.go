package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// ownerJSON is part of the JSON contract. Each is printed on one line.
type ownerJSON struct {
	Resource string `json:"resource"`
	Before   string `json:"before"`
	Member   string `json:"member"`
	Token    int64  `json:"token"`
	Revision int64  `json:"revision"`
	Fell     bool   `json:"fell"`
}

// watch is what verify --watch does. One goroutine reports changes of ownership, another one violations.
type watch struct {
	c   *cli.Context
	end context.CancelCauseFunc // ends it, where the output fails

	mu      sync.Mutex
	known   map[violationKey]bool // violations that the last look found, which are not printed again
	seen    int                   // number of violations so far
	fell    int                   // number of times that a token fell
	failing bool                  // whether the last look failed
}

// violationKey is what makes two violations the same.
type violationKey struct {
	kind             drm.ViolationKind
	resource, member string
	token            int64
	detail           string
}

func keyOf(v drm.Violation) violationKey {
	k := violationKey{v.Kind, v.Resource, v.Member, v.Token, ""}
	switch {
	case v.Kind == drm.ViolationUnassigned: // the expected member may change, and it stays the same violation
		k.member = ""
	case v.Resource == "" && v.Member == "": // only the detail names the key
		k.detail = v.Detail
	}
	return k
}

// watchApp prints changes of ownership and new violations until it is interrupted. The exit code is 1 if there was any
// violation, including those in found, or a token fell.
func watchApp(c *cli.Context, client *drm.Client, found []drm.Violation) error {
	ctx, cancel := context.WithCancelCause(c.Context) // the command timeout does not bound it
	w := &watch{c: c, end: cancel}
	w.fresh(found)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		w.lookAgain(ctx, client)
	}()
	err := following(c, func(_ context.Context, lost func(error)) error {
		return client.FollowOwners(ctx, w.changed, lost)
	})
	cancel(nil)
	<-looked
	if w.seen > 0 {
		err = errors.Join(err, fmt.Errorf("%d violations", w.seen))
	}
	if w.fell > 0 {
		err = errors.Join(err, fmt.Errorf("%d tokens fell", w.fell))
	}
	return err
}

// fresh returns those of the found violations that are new, and remembers them all.
func (w *watch) fresh(found []drm.Violation) []drm.Violation {
	var news []drm.Violation
	now := make(map[violationKey]bool, len(found))
	for _, v := range found {
		k := keyOf(v)
		if !w.known[k] && !now[k] {
			news = append(news, v)
		}
		now[k] = true
	}
	w.known = now
	w.seen += len(news)
	return news
}

// lookAgain looks for violations at intervals.
func (w *watch) lookAgain(ctx context.Context, client *drm.Client) {
	tick := time.NewTicker(w.c.Duration(flagEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found, err := client.VerifySettled(ctx, w.c.Duration(flagSettle))
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		switch {
		case err == nil:
			for _, v := range w.fresh(found) {
				w.violation(v)
			}
		case !w.failing && !errors.Is(err, drm.ErrUnreachable): // lost notes that etcd cannot be reached
			note(w.c, "cannot look for violations, and goes on trying: %v", err)
		}
		w.failing = err != nil
		w.mu.Unlock()
	}
}

// violation prints a new violation.
func (w *watch) violation(v drm.Violation) {
	w.printed(output.Event(printer(w.c), toViolationJSON(v), violationName(v), func(p *output.Page) {
		p.Line("violation %s  resource %s  member %s  token %d  %s",
			v.Kind, cell(v.Resource), cell(v.Member), v.Token, cell(v.Detail))
	}))
}

// printed ends the watch if what it prints cannot be written.
func (w *watch) printed(err error) {
	if err != nil {
		w.end(err)
	}
}

// changed prints a change of ownership.
func (w *watch) changed(o drm.OwnerChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	mark := ""
	if o.Fell {
		w.fell++
		mark = " FELL"
	}
	w.printed(output.Event(printer(w.c), ownerJSON(o), o.Resource, func(p *output.Page) {
		p.Line("revision %d  resource %s  %s -> %s  token %d%s", o.Revision, cell(o.Resource),
			cell(o.Before), cell(o.Member), o.Token, mark)
	}))
}
