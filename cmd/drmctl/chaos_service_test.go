//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are faults of the service that the members' webhooks call.

var serviceScenarios = []scenario{
	{"the service fails half of all handles, and a member is killed, TTL 3 s", false, 1, (*chaos).failsHalf},
	{"the service takes twice the TTL (2 s) for each handle", true, 1, (*chaos).takesLong},
	{"the service never answers for one resource", true, 1, (*chaos).hangs},
}

// service makes the receivers call handle with each handle request before they look at it. They refuse the request
// where it returns false.
func (c *chaos) service(handle func(id string, over <-chan struct{}) bool) {
	c.serviceOf(func(_, id string, over <-chan struct{}) bool { return handle(id, over) })
}

// serviceOf is service for a handle that wants to know which member asks.
func (c *chaos) serviceOf(handle func(member, id string, over <-chan struct{}) bool) {
	c.front = func(receiver http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return // the member is gone
			}
			var asked struct {
				Action   string `json:"action"`
				Member   string `json:"member"`
				Resource struct {
					ID string `json:"id"`
				} `json:"resource"`
			}
			if err := json.Unmarshal(body, &asked); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if asked.Action == string(journal.Handle) &&
				!handle(asked.Member, asked.Resource.ID, req.Context().Done()) {
				http.Error(w, "not now", http.StatusServiceUnavailable)
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(body))
			receiver.ServeHTTP(w, req)
		})
	}
}

// failsHalf fails every other handle of each resource.
func (c *chaos) failsHalf() {
	c.ttl = faultTTL
	var mu sync.Mutex
	asked, failed := map[string]int{}, 0
	c.service(func(id string, _ <-chan struct{}) bool {
		mu.Lock()
		defer mu.Unlock()
		asked[id]++
		if asked[id]%2 == 1 {
			failed++
			return false
		}
		return true
	})
	before := c.begin(200, "a", "b")
	fault := c.now()
	fault.at = c.kill("a")
	c.all("b")
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "a")
	mu.Lock()
	defer mu.Unlock()
	c.note("%d handles failed", failed)
}

// takesLong makes each handle take longer than a lease lives.
func (c *chaos) takesLong() {
	c.ttl = 2 * time.Second
	var slow sync.Map // the resources whose handle takes long
	c.service(func(id string, over <-chan struct{}) bool {
		if _, is := slow.Load(id); is {
			select {
			case <-time.After(2 * c.ttl):
			case <-over: // the member does not wait any longer
			}
		}
		return true
	})
	before := c.begin(200, "a", "b")
	began := c.now()
	c.wanted = append(c.wanted, numbered("slow", 20)...)
	for _, id := range numbered("slow", 20) {
		slow.Store(id, true)
	}
	c.source.fill(c.wanted)
	after := c.all("a", "b")
	if touched := c.touched(began, before); len(touched) > 0 {
		c.t.Errorf("%d others were touched", len(touched))
	}
	by := map[string]int{}
	for _, e := range c.since(began.events) {
		by[e.Member]++
		if e.Action != journal.Handle || e.Member != after[e.Resource] {
			c.t.Errorf("%s: %s of %s, which is with %s", e.Resource, e.Action, e.Member, after[e.Resource])
		}
	}
	for id, p := range c.agents {
		if by[id] == 0 {
			c.t.Errorf("%s had none that took long: the test shows nothing", id)
		}
		p.log.mu.Lock()
		if strings.Contains(p.log.text, "lease fenced") {
			c.t.Errorf("%s: %s", id, p.log.text)
		}
		p.log.mu.Unlock()
	}
	c.note("no lease was fenced; %d of %d others were touched", len(c.touched(began, before)), len(before))
}

// hangs has one resource that the service never answers for, until it does.
func (c *chaos) hangs() {
	const bad = "r-001"
	answer := make(chan struct{})
	var mu sync.Mutex
	tries := 0
	c.service(func(id string, over <-chan struct{}) bool {
		if id != bad {
			return true
		}
		mu.Lock()
		tries++
		mu.Unlock()
		select {
		case <-answer:
			return true
		case <-over:
			return false
		}
	})
	c.flags = append(c.flags, "--handler-timeout", "1s")
	c.fill(200)
	c.wanted = slices.DeleteFunc(c.wanted, func(id string) bool { return id == bad }) // for now
	c.start("a")
	c.start("b")
	before := c.all("a", "b")
	hung := c.now()
	c.lasts(3 * time.Second)
	c.allocate("meanwhile")
	c.all("a", "b")
	touched := c.touched(hung, before)
	if len(touched) > 0 {
		c.t.Errorf("%d others were touched", len(touched))
	}
	leaving := c.now()
	c.terminate("b")
	c.all("a")
	c.takeover = c.took(leaving)
	mu.Lock()
	tried := tries
	mu.Unlock()
	close(answer)
	c.wanted = append(c.wanted, bad)
	c.all("a")
	c.note(
		"it was tried %d times; %d of %d others were touched; the time is from SIGTERM to the other member, meanwhile",
		tried, len(touched), len(before))
}
