//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios a member's receiver dies, and comes back without what it was given.

var receiverScenarios = []scenario{
	{"a member's receiver killed and back at once, then killed and back after 1 s", true, 1, (*chaos).receiverRestarts},
}

// named makes each server of a receiver a life of its own, which has a name.
func (c *chaos) named() {
	var lives atomic.Int64
	c.front = func(receiver http.Handler) http.Handler {
		name := fmt.Sprint("life ", lives.Add(1))
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(handler.InstanceHeader, name)
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return // the member is gone
			}
			var asked struct{ Action string }
			if err := json.Unmarshal(body, &asked); err == nil && asked.Action == "instance" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(body))
			receiver.ServeHTTP(w, req)
		})
	}
}

// killReceiver closes the port and all connections of a member's receiver. What it ran has ended.
func (c *chaos) killReceiver(id string) {
	c.t.Helper()
	_ = c.hooks[id].Listener.Close()
	c.hooks[id].CloseClientConnections()
	c.sessions[id].End(id, time.Now())
}

// reviveReceiver starts the receiver again, at its address.
func (c *chaos) reviveReceiver(id string) {
	c.t.Helper()
	c.journal.Record(journal.Event{Member: id, Action: journal.Started})
	c.sessions[id] = c.receivers[id].Session()
	hook := &httptest.Server{Config: &http.Server{Handler: c.front(c.sessions[id])}} //nolint:gosec // for a test only
	eventually(c.t, func() (err error) {
		hook.Listener, err = net.Listen("tcp", c.hooks[id].Listener.Addr().String())
		return err
	})
	hook.Start()
	c.t.Cleanup(hook.Close)
	c.hooks[id] = hook
}

// begun returns the tokens under which everything is handled so far, and the time between the first and the last handle
// of a member.
func (c *chaos) begun(member string) (tokens map[string]int64, took time.Duration) {
	tokens = map[string]int64{}
	var first time.Time
	for _, e := range c.since(0) {
		tokens[e.Resource] = e.Token
		if e.Action == journal.Handle && e.Member == member {
			if first.IsZero() {
				first = e.Time
			}
			took = e.Time.Sub(first)
		}
	}
	return tokens, took
}

// onlyAgain fails the test where, since the mark, anything happened but that a member handled again, under the same
// tokens. It returns how many times it did.
func (c *chaos) onlyAgain(m mark, member string, tokens map[string]int64) (again int) {
	c.t.Helper()
	for _, e := range c.since(m.events) {
		if e.Action != journal.Handle || e.Member != member || e.Token != tokens[e.Resource] {
			c.t.Errorf("%s of %s by %s under token %d, which had %d", e.Action, e.Resource, e.Member, e.Token,
				tokens[e.Resource])
		}
		again++
	}
	return again
}

// receiverRestarts kills a receiver, and expects that all it had is handled again within 2 s of its return: by the same
// member under the same token, without a terminate, and nothing else. A second restart within a minute is heeded a
// second later.
func (c *chaos) receiverRestarts() {
	c.named()
	before := c.begin(400, "a", "b")
	tokens, began := c.begun("a")
	most := max(2*time.Second, time.Second+5*began) // where the machine is slow, handling takes long
	var tooks []string
	for n, away := range []time.Duration{0, time.Second} {
		fault := c.now()
		c.killReceiver("a")
		c.lasts(away)
		c.reviveReceiver("a")
		back := c.now()
		c.all("a", "b")
		again := c.onlyAgain(fault, "a", tokens)
		c.onlyTouched(fault, before, "a")
		took := c.took(back)
		if want := most + time.Duration(n)*time.Second; took > want {
			c.t.Errorf("all was handled again %v after the receiver was back, want %v", took, want)
		}
		c.takeover = max(c.takeover, took)
		tooks = append(tooks, fmt.Sprintf("%d resources in %s", again, seconds(took)))
	}
	c.note("%s, and then %s, after its return; under the same tokens, nothing terminated, none of the others touched",
		tooks[0], tooks[1])
}
