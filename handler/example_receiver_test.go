package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// receiver is the other end of a Webhook: it starts and stops whatever the resources stand for.
type receiver struct {
	start func(id string, token int64, resource json.RawMessage) (stop func(), err error)

	mu      sync.Mutex // a real one would lock per resource, so that a slow start delays no other
	highest map[string]int64
	running map[string]func()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var msg struct {
		Action   string          `json:"action"`
		Token    int64           `json:"token"`
		Resource json.RawMessage `json:"resource"`
		Error    string          `json:"error"`
	}
	var resource struct {
		ID string `json:"id"`
	}
	if json.NewDecoder(req.Body).Decode(&msg) != nil || json.Unmarshal(msg.Resource, &resource) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	id := resource.ID
	r.mu.Lock()
	defer r.mu.Unlock()

	outdated := msg.Token < r.highest[id] // sent by a member that has lost the resource since
	r.highest[id] = max(r.highest[id], msg.Token)
	switch msg.Action {
	case "handle", "update":
		if outdated {
			http.Error(w, "a newer claim was seen", http.StatusConflict)
			return
		}
		if stop := r.running[id]; stop != nil { // asked again, or the member before never said terminate
			stop()
			delete(r.running, id)
		}
		stop, err := r.start(id, msg.Token, msg.Resource)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		r.running[id] = stop
	case "terminate":
		if stop := r.running[id]; stop != nil && !outdated {
			stop()
			delete(r.running, id)
		}
	}
	w.WriteHeader(http.StatusNoContent) // handle_failed and terminate_failed need nothing else
}

// end of receiver

// A service in any language can handle resources, through webhooks: docs/webhook.md tells what it must do.
func ExampleWebhook() {
	service := httptest.NewServer(&receiver{
		start: func(id string, token int64, resource json.RawMessage) (func(), error) {
			fmt.Println("start", id, "token", token, string(resource))
			return func() { fmt.Println("stop", id) }, nil
		},
		highest: map[string]int64{}, running: map[string]func(){},
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
