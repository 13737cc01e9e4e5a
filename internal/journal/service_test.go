package journal_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// ask sends a session one request for the resource r, and returns the status of the answer.
func ask(s *journal.Session, action string, token, call int64) int {
	body := fmt.Sprintf(`{"action":%q,"member":"a","token":%d,"call":%d,"resource":{"id":"r"}}`, action, token, call)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	return answer.Code
}

func told(j *journal.Journal) (lines []string) {
	for _, e := range j.Events() {
		lines = append(lines, strings.TrimSpace(fmt.Sprint(e.Action, " ", e.Token)))
	}
	return lines
}

func TestAServiceRunsWhatWasAskedLast(t *testing.T) {
	type step struct {
		action      string
		token, call int64
		status      int
	}
	for _, tt := range []struct {
		name       string
		tokensOnly bool
		steps      []step
		want       []string
	}{
		{
			"in turn",
			false,
			[]step{{"handle", 5, 1, 204}, {"update", 5, 2, 204}, {"terminate", 5, 3, 204}, {"terminate", 5, 4, 204}},
			[]string{"handle 5", "update 5", "terminate 5"},
		},
		{
			"a handle that comes after its terminate",
			false,
			[]step{{"terminate", 5, 2, 204}, {"handle", 5, 1, 409}},
			nil,
		},
		{
			"the same, where only tokens are compared",
			true,
			[]step{{"terminate", 5, 2, 204}, {"handle", 5, 1, 204}},
			[]string{"handle 5"},
		},
		{
			"a terminate that comes after the next handle",
			false,
			[]step{{"handle", 5, 3, 204}, {"terminate", 5, 2, 204}},
			[]string{"handle 5"},
		},
		{"the same request twice", false, []step{{"handle", 5, 1, 204}, {"handle", 5, 1, 204}}, []string{"handle 5"}},
		{
			"a member that has lost the resource",
			false,
			[]step{{"handle", 6, 1, 204}, {"handle", 5, 9, 409}, {"terminate", 5, 10, 204}},
			[]string{"handle 6"},
		},
		{
			"a terminate under a later token",
			false,
			[]step{{"handle", 5, 1, 204}, {"terminate", 6, 2, 204}},
			[]string{"handle 5", "terminate 5"},
		},
		{
			"what runs is begun anew",
			false,
			[]step{{"handle", 5, 1, 204}, {"handle", 5, 2, 204}},
			[]string{"handle 5", "handle 5"},
		},
		{"notifications count", false, []step{{"handle_failed", 5, 2, 204}, {"handle", 5, 1, 409}}, nil},
	} {
		var j journal.Journal
		s := journal.NewService(journal.ServiceConfig{Journal: &j, TokensOnly: tt.tokensOnly}).Session()
		for _, step := range tt.steps {
			if got := ask(s, step.action, step.token, step.call); got != step.status {
				t.Errorf("%s: %+v has status %d", tt.name, step, got)
			}
		}
		if got := told(&j); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAServiceEndsWhatADeadProcessHad(t *testing.T) {
	var j journal.Journal
	service := journal.NewService(journal.ServiceConfig{Journal: &j})
	dead, alive := service.Session(), service.Session()
	ask(dead, "handle", 5, 1)
	dead.End("a", time.Time{})
	if got := ask(dead, "handle", 5, 2); got != 503 {
		t.Errorf("what it sent before it died has status %d", got)
	}
	j.Record(journal.Event{Member: "a", Action: journal.Started})
	ask(alive, "handle", 7, 1)
	if want := []string{"handle 5", "gone 0", "started 0", "handle 7"}; !slices.Equal(told(&j), want) {
		t.Errorf("%v, want %v", told(&j), want)
	}
	if faults := journal.Check(j.Events(), journal.Expect{Resources: []string{"r"}}); len(faults) > 0 {
		t.Error(faults)
	}
}

// A request that waits is carried out after one that was sent later.
func TestAServiceCarriesOutWhatItsSenderGaveUp(t *testing.T) {
	for _, tokensOnly := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var j journal.Journal
			delays := []time.Duration{time.Second, 0} // of the handle, and of its terminate
			service := journal.NewService(
				journal.ServiceConfig{Journal: &j, TokensOnly: tokensOnly, Delay: func() (d time.Duration) {
					d, delays = delays[0], delays[1:]
					return d
				}},
			)
			s := service.Session()
			var wg sync.WaitGroup
			wg.Go(func() { ask(s, "handle", 5, 1) })
			synctest.Wait()
			if n := service.Waiting(); n != 1 {
				t.Fatalf("%d requests wait", n)
			}
			ask(s, "terminate", 5, 2)
			wg.Wait()
			if runs := len(journal.Holders(j.Events())["r"]) > 0; runs != tokensOnly {
				t.Errorf("tokens only: %v; it runs after its terminate: %v", tokensOnly, runs)
			}
		})
	}
}
