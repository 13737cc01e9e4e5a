package handler_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// receiver is the other end of a Webhook: it starts and stops whatever the resources stand for.
type receiver struct {
	// instance names this process in each answer, so that members see when the receiver was restarted, and hand
	// everything over again.
	instance string

	start func(id string, token int64, resource json.RawMessage) (stop func(), err error) // may be slow

	mu    sync.Mutex
	known map[string]*known // by the resource's id
	swept time.Time         // when forget last looked
}

// remember is how long the receiver remembers a resource after the last request, if nothing runs for it: longer than
// any request can be on its way.
const remember = time.Hour

// number is the pair that tells which of two requests for one resource was sent later.
type number struct{ token, call int64 }

func (n number) less(m number) bool {
	return n.token < m.token || n.token == m.token && n.call < m.call
}

// known is what the receiver knows about one resource.
type known struct {
	newest number    // the highest number that has come; receiver.mu guards this field and the next two
	busy   int       // how many requests are being worked on or wait
	last   time.Time // when the last request was done

	turn  sync.Mutex // held by the one request that is worked on; it guards the fields below
	begun number     // the number of the handle or update that was begun last
	stop  func()     // ends what that request started; nil if nothing runs
}

// message is what the receiver needs of the body of a request.
type message struct {
	Action   string          `json:"action"`
	Token    int64           `json:"token"`
	Call     int64           `json:"call"`
	Resource json.RawMessage `json:"resource"`
	ValidMS  int64           `json:"valid_ms"`
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	arrived := time.Now()
	w.Header().Set("DRM-Instance", r.instance)
	var msg message
	var resource struct {
		ID string `json:"id"`
	}
	err := json.NewDecoder(req.Body).Decode(&msg)
	if err == nil && msg.Action == "instance" { // the header of the answer says it
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err != nil || json.Unmarshal(msg.Resource, &resource) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	switch msg.Action {
	case "handle", "update", "terminate", "handle_failed", "terminate_failed":
		r.act(w, resource.ID, msg, arrived)
	case "check":
		if !r.has(resource.ID, msg.Token) {
			http.Error(w, "it does not run here", http.StatusGone)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "not known here", http.StatusNotFound)
	}
}

// act does what a request about a resource asks for.
func (r *receiver) act(w http.ResponseWriter, id string, msg message, arrived time.Time) {
	sent := number{msg.Token, msg.Call}
	k := r.mark(id, sent) // before it waits for anything, so that earlier requests are outdated
	defer r.done(k)
	k.turn.Lock()
	defer k.turn.Unlock()
	switch msg.Action {
	case "handle", "update":
		switch {
		case r.outdated(k, sent):
			http.Error(w, "a newer request was seen", http.StatusConflict)
			return
		case k.begun == sent && k.stop != nil: // the same request came twice, and its work is done
			w.WriteHeader(http.StatusNoContent)
			return
		case k.begun == sent:
			http.Error(w, "it was tried, and failed", http.StatusConflict)
			return
		case time.Since(arrived).Milliseconds() >= msg.ValidMS: // another member may have the resource by now
			k.begun = sent
			http.Error(w, "it waited for too long", http.StatusServiceUnavailable)
			return
		}
		k.end() // it runs for an earlier request
		k.begun = sent
		stop, err := r.start(id, msg.Token, msg.Resource)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		k.stop = stop
		if r.outdated(k, sent) { // a later request came meanwhile, so nobody needs what was started
			k.end()
			http.Error(w, "a newer request was seen", http.StatusConflict)
			return
		}
	case "terminate":
		if !r.outdated(k, sent) {
			k.end()
		}
	}
	w.WriteHeader(http.StatusNoContent) // handle_failed and terminate_failed need nothing else
}

// has reports whether what a member was given under a token works. A real receiver also looks at what runs.
func (r *receiver) has(id string, token int64) bool {
	r.mu.Lock()
	k := r.known[id]
	r.mu.Unlock()
	if k == nil {
		return false
	}
	if !k.turn.TryLock() {
		return true // it is being worked on
	}
	defer k.turn.Unlock()
	return k.stop != nil && k.begun.token == token
}

// mark notes that a request has come, and its number.
func (r *receiver) mark(id string, sent number) *known {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	k := r.known[id]
	if k == nil {
		k = &known{}
		r.known[id] = k
	}
	k.busy++
	if k.newest.less(sent) {
		k.newest = sent
	}
	return k
}

// done notes that a request has been worked on.
func (r *receiver) done(k *known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k.busy--
	k.last = time.Now()
}

// forget drops the resources that can be forgotten. It looks only now and then. The caller holds r.mu.
func (r *receiver) forget() {
	if time.Since(r.swept) < remember/4 {
		return
	}
	r.swept = time.Now()
	for id, k := range r.known {
		if k.busy == 0 && k.stop == nil &&
			time.Since(k.last) >= remember { // nobody has the turn, so stop may be read
			delete(r.known, id)
		}
	}
}

// outdated reports whether a request that was sent later has come.
func (r *receiver) outdated(k *known, sent number) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sent.less(k.newest)
}

func (k *known) end() {
	if k.stop != nil {
		k.stop()
		k.stop = nil
	}
}

// end of receiver

// Through webhooks, a service in any language can handle resources. docs/webhook.md says what it must do.
func ExampleWebhook() {
	service := httptest.NewServer(&receiver{
		instance: rand.Text(),
		start: func(id string, token int64, resource json.RawMessage) (func(), error) {
			fmt.Println("start", id, "token", token, string(resource))
			return func() { fmt.Println("stop", id) }, nil
		},
		known: map[string]*known{},
	})
	defer service.Close()

	hook, err := handler.NewWebhook(handler.WebhookConfig{URL: service.URL})
	if err != nil {
		panic(err)
	}
	defer hook.Close()
	ctx := context.Background()
	resource := drm.Resource{ID: "feed-1", Data: json.RawMessage(`{"id":"feed-1","kind":"rss"}`)}
	old := drm.NewClaim("shop", "m1", resource, 7, nil)
	fmt.Println(hook.Handle(ctx, old))
	newer := drm.NewClaim("shop", "m2", resource, 9, nil)
	fmt.Println(hook.Handle(ctx, newer))
	fmt.Println("late:", hook.Terminate(ctx, old)) // changes nothing
	fmt.Println(hook.Terminate(ctx, newer))
	// Output:
	// start feed-1 token 7 {"id":"feed-1","kind":"rss"}
	// <nil>
	// stop feed-1
	// start feed-1 token 9 {"id":"feed-1","kind":"rss"}
	// <nil>
	// late: <nil>
	// stop feed-1
	// <nil>
}
