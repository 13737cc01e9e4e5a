package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

// A handler whose work goes on after Handle, and fails then, keeps the resource.
func TestWhatAHandlerReportsIsShownAndMovesNothing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	claims := make(chan drm.Claim, 1)
	r.onHandle = func(_ context.Context, c drm.Claim) error { claims <- c; return nil }
	m := w.start(w.config("a", r))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	before, err := m.Wait(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	client, c := w.client(), <-claims
	shows := func(state drm.State, message string) {
		t.Helper()
		var got drm.Assignment
		r.until(fmt.Sprintf("x is %s with the error %q", state, message), func() bool {
			if got, err = client.Lookup(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			return got.State == state && got.Error == message
		})
		if got.Token != before.Token || got.Member != "a" {
			t.Errorf("the claim is %+v, was %+v", got, before)
		}
		held := m.Held()
		if len(held) != 1 || held[0].State != state || held[0].Error != message {
			t.Errorf("the member says that it holds %+v", held)
		}
		status, err := client.Status(t.Context())
		if err != nil || status.Active+status.Failed != 1 || status.Failed == 1 != (state == drm.StateFailed) {
			t.Errorf("status %+v, %v", status, err)
		}
	}
	c.Report(errors.New("no connection"))
	shows(drm.StateFailed, "no connection")
	c.Report(nil)
	shows(drm.StateActive, "")
	if calls := r.all(); len(calls) != 1 {
		t.Errorf("the handler was called: %v", calls)
	}
	drm.NewClaim("app", "m", drm.Resource{ID: "x"}, 1, nil).Report(nil) // there is nobody to tell
}

// A claim may be handled twice, one handling after the other. A report of the first says nothing about the second.
func TestAReportOfAnEarlierHandlingIsIgnored(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	claims := make(chan drm.Claim, 2)
	r.onHandle = func(_ context.Context, c drm.Claim) error { claims <- c; return nil }
	m := w.start(w.config("a", r))
	var all []drm.Claim
	for _, data := range []string{`{"v":1}`, `{"v":2}`} {
		if err := m.Allocate(t.Context(), drm.Resource{ID: "x", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
		r.until("it is handled", func() bool { return len(claims) > 0 })
		all = append(all, <-claims)
	}
	if all[0].Token != all[1].Token {
		t.Errorf("the tokens are %d and %d, want the same claim", all[0].Token, all[1].Token)
	}
	r.until("the second handling is held", func() bool { return len(m.Held()) == 1 })
	all[0].Report(errors.New("too late"))
	// The loop answers this after it has looked at the report.
	if held := m.Held(); len(held) != 1 || held[0].State != drm.StateActive {
		t.Errorf("the member says that it holds %+v", held)
	}
}
