package handler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/handler"
)

// post sends one request to a receiver, and returns the status of the answer, which must have the receiver's name.
func (r *receiver) post(action string, token, call int64, validMS int, more string) int {
	body := fmt.Sprintf(`{"action":%q,"token":%d,"call":%d,"valid_ms":%d,"error":"","resource":{"id":"a"%s}}`,
		action, token, call, validMS, more)
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	if answer.Header().Get(handler.InstanceHeader) != r.instance {
		return 0
	}
	return answer.Code
}

// The receiver of docs/webhook.md gets requests that a member sends, and requests that only a disturbed network
// delivers.
func TestTheReceiverDoesNothingThatIsOutdated(t *testing.T) {
	var did []string
	r := &receiver{
		instance: "one",
		known:    map[string]*known{},
		start: func(id string, token int64, resource json.RawMessage) (func(), error) {
			if strings.Contains(string(resource), "fail") {
				return nil, errors.New("no")
			}
			did = append(did, fmt.Sprint("start ", token))
			return func() { did = append(did, fmt.Sprint("stop ", token)) }, nil
		},
	}
	for _, step := range []struct {
		action      string
		token, call int64
		validMS     int
		more        string
		status      int
		does        []string
	}{
		{"handle", 5, 1, 9999, "", 204, []string{"start 5"}},
		{"handle", 5, 1, 9999, "", 204, nil}, // delivered twice
		{"handle", 5, 2, 9999, "", 204, []string{"stop 5", "start 5"}},
		{"handle", 5, 1, 9999, "", 409, nil}, // late
		{"update", 5, 3, 9999, "", 204, []string{"stop 5", "start 5"}},
		{"terminate", 5, 2, 9999, "", 204, nil}, // late
		{"handle", 4, 99, 9999, "", 409, nil},   // of a member that has lost the resource
		{"terminate", 4, 100, 0, "", 204, nil},
		{"handle", 6, 4, 9999, "", 204, []string{"stop 5", "start 6"}}, // the member before died
		{"terminate", 6, 6, 0, "", 204, []string{"stop 6"}},
		{"terminate", 6, 6, 0, "", 204, nil},
		{"handle", 6, 5, 9999, "", 409, nil},                 // its terminate has come before it
		{"handle", 6, 7, 9999, `,"fail":1`, 503, nil},        // it fails, so that no terminate follows
		{"handle", 6, 7, 9999, "", 409, nil},                 // a repeat of it must not begin anything either
		{"handle", 6, 8, 0, "", 503, nil},                    // it has waited for too long
		{"handle", 6, 8, 9999, "", 409, nil},                 // a repeat of it is refused too
		{"handle", 6, 9, 9999, "", 204, []string{"start 6"}}, // the same claim again
		{"terminate_failed", 6, 10, 9999, "", 204, nil},
		{"terminate", 7, 1, 0, "", 204, []string{"stop 6"}}, // of a handle that never came
		{"handle", 6, 11, 9999, "", 409, nil},
		{"check", 6, 12, 9999, "", 410, nil}, // it does not run
		{"handle", 8, 1, 9999, "", 204, []string{"start 8"}},
		{"check", 8, 9, 9999, "", 204, nil},
		{"check", 7, 9, 9999, "", 410, nil}, // it runs under another token
		{"shout", 8, 9, 9999, "", 404, nil}, // nobody knows this action
		{"instance", 0, 3, 0, "", 204, nil},
		{"handle", 8, 2, 9999, "", 204, []string{"stop 8", "start 8"}}, // none of these was a later request
	} {
		did = nil
		if status := r.post(step.action, step.token, step.call, step.validMS, step.more); status != step.status ||
			!slices.Equal(did, step.does) {
			t.Errorf("%s %d, %d: status %d, want %d; did %v, want %v",
				step.action, step.token, step.call, status, step.status, did, step.does)
		}
	}
}

// When a slow start is done, the receiver checks again whether a later request has come.
func TestTheReceiverEndsWhatWasGivenUpWhileItStarted(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	running := 0 // guarded by the turn
	r := &receiver{known: map[string]*known{}, start: func(string, int64, json.RawMessage) (func(), error) {
		running++
		started <- struct{}{}
		<-goOn
		return func() { running-- }, nil
	}}
	newest := func(want number) {
		for seen := (number{}); seen != want; {
			r.mu.Lock()
			seen = r.known["a"].newest
			r.mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	post := func(want int, action string, token, call int64) {
		if got := r.post(action, token, call, 600_000, ""); got != want {
			t.Errorf("%s %d, %d: status %d, want %d", action, token, call, got, want)
		}
	}
	wg.Go(func() { post(409, "handle", 5, 1) })
	<-started
	wg.Go(func() { post(409, "handle", 5, 2) }) // waits for its turn
	newest(number{5, 2})
	wg.Go(func() { post(204, "terminate", 5, 3) })
	newest(number{5, 3})
	close(goOn)
	wg.Wait()
	if running != 0 {
		t.Errorf("%d run after the terminate", running)
	}
	wg.Go(func() { post(204, "handle", 6, 1) })
	wg.Go(func() { post(204, "handle", 6, 1) }) // delivered twice at the same time
	<-started
	wg.Wait()
	if running != 1 {
		t.Errorf("%d run, want 1", running)
	}
}

// A resource for which nothing runs is forgotten an hour after its last request. One that runs, or has a request in
// progress, is never forgotten.
func TestTheReceiverForgetsWhatCannotMatterAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		r := &receiver{
			known: map[string]*known{},
			start: func(_ string, _ int64, resource json.RawMessage) (func(), error) {
				if strings.Contains(string(resource), "wait") {
					<-goOn
				}
				return func() {}, nil
			},
		}
		post := func(want int, id, action string, token, call int64, more string) {
			t.Helper()
			body := fmt.Sprintf(`{"action":%q,"token":%d,"call":%d,"valid_ms":99999999,"resource":{"id":%q%s}}`,
				action, token, call, id, more)
			answer := httptest.NewRecorder()
			if r.ServeHTTP(
				answer,
				httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)),
			); answer.Code != want {
				t.Errorf("%s of %s %d, %d: status %d, want %d", action, id, token, call, answer.Code, want)
			}
		}
		for n := range 100 {
			post(204, fmt.Sprint("gone-", n), "handle", 5, 1, "")
			post(204, fmt.Sprint("gone-", n), "terminate", 5, 2, "")
		}
		var slow sync.WaitGroup
		slow.Go(func() { post(204, "slow", "handle", 5, 1, `,"x":"wait"`) })
		synctest.Wait()
		post(204, "runs", "handle", 5, 2, "")
		time.Sleep(remember - time.Second)
		post(409, "gone-0", "handle", 5, 1, "") // late, by less than an hour
		time.Sleep(remember / 2)
		post(204, "runs", "handle", 5, 3, "")
		if n := len(r.known); n != 3 {
			t.Errorf("%d are known, want 3: one that runs, one that is being worked on, and one that was asked for", n)
		}
		time.Sleep(2 * remember)
		post(409, "runs", "handle", 5, 2, "")
		post(204, "gone-0", "handle", 5, 1, "") // no longer known
		close(goOn)
		slow.Wait()
	})
}

func TestDocsHaveTheTestedReceivers(t *testing.T) {
	docs := string(must[[]byte](t)(os.ReadFile("../docs/webhook.md")))
	for _, receiver := range []struct{ file, from string }{
		{"example_receiver_test.go", "// receiver is the other end"},
		{"../examples/migration/node/sidecar.mjs", "// earlier says"},
		{"../examples/receivers/receiver.py", "# How long a resource"},
	} {
		source := string(must[[]byte](t)(os.ReadFile(receiver.file)))
		_, code, ok1 := strings.Cut(source, receiver.from)
		code, _, ok2 := strings.Cut(code, " end of receiver")
		code = strings.TrimRight(code, "/# \n")
		if !ok1 || !ok2 || !strings.Contains(docs, receiver.from+code) {
			t.Errorf("docs/webhook.md shows another receiver than %s", receiver.file)
		}
	}
}
