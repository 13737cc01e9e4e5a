package member

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/membership"
)

// Whoever looks at a start that waits for its id learns every few seconds who has the id, and until when it may take.
func TestAStartThatWaitsForItsIDSaysSoEveryFewSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		board := &health.Board{}
		board.Begin()
		began := time.Now()
		w := idWait{log: zap.New(core), board: board, id: "x", within: time.Minute}
		w.begin(
			membership.Member{ID: "x", Record: membership.Record{Address: "host-7", Started: began.Add(-time.Hour)}},
		)
		last := began
		for range 50 {
			time.Sleep(time.Second)
			synctest.Wait()
			if n := logs.Len(); n > 0 && logs.All()[n-1].Time.After(last) {
				last = logs.All()[n-1].Time
			}
			if silent := time.Since(last); silent > 5*time.Second {
				t.Fatalf("nothing was logged for %v", silent)
			}
		}
		s := board.Status()
		for _, part := range []string{`the member id "x"`, "host-7", "1999-12-31T23:00:00Z", "within 1m0s", "fails"} {
			if !strings.Contains(s.Reason, part) {
				t.Errorf("the reason is without %q: %s", part, s.Reason)
			}
		}
		if !s.Since.Equal(began) || !s.Until.Equal(began.Add(time.Minute)) {
			t.Errorf("it waits from %v until %v", s.Since, s.Until)
		}
		w.end()
		told := logs.Len()
		time.Sleep(time.Minute)
		if logs.Len() != told || strings.Contains(board.Status().Reason, "host-7") {
			t.Errorf("the wait is over, and it still says: %v; %s", logs.All()[told:], board.Status().Reason)
		}
		for _, e := range logs.All() {
			if f := e.ContextMap(); f["address"] != "host-7" || f["until"] == nil || f["at_most"] != time.Minute {
				t.Errorf("fields %v", f)
			}
		}
	})
}

func TestAStartThatMayTakeAnotherIDSaysSo(t *testing.T) {
	w := idWait{id: "x", anyID: true, within: time.Minute}
	if text := w.text(membership.Member{}); !strings.Contains(text, "an unknown address") ||
		!strings.Contains(text, "an unknown time") || !strings.Contains(text, "takes another id") {
		t.Error(text)
	}
}
