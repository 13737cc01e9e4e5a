//go:build unix

package main

import (
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios the receiver of one member is gone for a while.

var readyScenarios = []scenario{
	{"a member's receiver is gone for a while, --ready-url asked every second", true, 1, (*chaos).receiverGone},
}

// shop is a receiver with an address of its own. It can be closed and opened again, like a process that is restarted.
type shop struct {
	c       *chaos
	member  string
	address string
	session *journal.Session // of its present life
	server  *http.Server     // likewise
}

// open begins a life of the receiver, at the same address as the one before.
func (s *shop) open() {
	s.c.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.c.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.c.journal.Record(journal.Event{Member: s.member, Action: journal.Started})
	s.session = s.c.receivers[s.member].Session()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("POST /", s.session)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(listener) }(s.server) // it ends when the server is closed
	s.c.t.Cleanup(func() { _ = s.server.Close() })
}

// close ends this life of the receiver, and all that it runs.
func (s *shop) close() {
	_ = s.server.Close()
	s.session.End(s.member, time.Now())
}

// receiverGone takes away the receiver of one of three members. The others must have its resources within the time that
// the member takes to notice, and it must have the same ones back when its receiver is back.
func (c *chaos) receiverGone() {
	const (
		interval     = time.Second
		unreadyAfter = 3
		slack        = 5 * time.Second // for the handover, on a busy machine
	)
	c.fill(300)
	c.receivers["b"] = journal.NewService(journal.ServiceConfig{Journal: c.journal, Delay: c.late})
	s := &shop{c: c, member: "b", address: "127.0.0.1:0"}
	s.open()
	c.start("a")
	c.start("c")
	url := "http://" + s.address
	c.start("b", "--handler-url", url+"/", "--ready-url", url+"/readyz", "--ready-interval", interval.String())
	c.sessions["b"] = s.session // start has made one that nobody uses
	before := c.all("a", "b", "c")

	gone := c.now()
	s.close()
	c.holders("a and c have everything", func(held map[string]string) bool {
		for _, m := range held {
			if m == "b" {
				return false
			}
		}
		return len(held) == len(c.wanted)
	})
	c.takeover = c.took(gone)
	c.onlyTouched(gone, before, "b")
	if bound := unreadyAfter*interval + slack; c.takeover > bound {
		c.t.Errorf("the others had all after %v, want %v", c.takeover, bound)
	}
	for _, m := range get[[]memberJSON](c.lab, "members") {
		if (m.State == "unready") != (m.ID == "b") || (m.Reason != "") != (m.ID == "b") {
			c.t.Errorf("while the receiver is gone: %+v", m)
		}
	}
	c.lasts(2 * interval) // nothing comes back before the receiver does

	back := c.now()
	s.open()
	c.sessions["b"] = s.session
	after := c.all("a", "b", "c")
	c.onlyTouched(back, before, "b")
	if !maps.Equal(after, before) {
		c.t.Error("not everything is where it was before")
	}
	c.note("the member was asked every %v, and handed over after %d failures; it had its resources back %s after "+
		"its receiver was", interval, unreadyAfter, seconds(c.took(back)))
}
