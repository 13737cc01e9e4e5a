//go:build unix

package main

import (
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios the receiver of one member is gone for a while.

var readyScenarios = []scenario{
	{"a member's receiver is gone for a minute, `--ready-url`", true, 1, (*chaos).receiverGone},
	{"a member's receiver killed and back, which only `--ready-url` notices", true, 1, (*chaos).receiverProbed},
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

// beginWithShop lets three members share n resources. The receiver of b is a shop, which b asks every interval whether
// it can work. It names no instance.
func (c *chaos) beginWithShop(n int, interval time.Duration) (*shop, map[string]string) {
	c.t.Helper()
	c.fill(n)
	c.receivers["b"] = journal.NewService(journal.ServiceConfig{Journal: c.journal, Delay: c.late})
	s := &shop{c: c, member: "b", address: embeddedtest.Address(c.t)}
	s.open()
	c.start("a")
	c.start("c")
	url := "http://" + s.address
	c.start("b", "--handler-url", url+"/", "--ready-url", url+"/readyz", "--ready-interval", interval.String())
	c.sessions["b"] = s.session // start has made one that nobody uses
	return s, c.all("a", "b", "c")
}

// handoverSlack is what a handover may take on a busy machine.
const handoverSlack = 5 * time.Second

// receiverGone takes away the receiver of one of three members. The others must have its resources within the time that
// the member takes to notice, and it must have the same ones back when its receiver is back. A connection to the
// receiver is refused, so no answer takes any time.
func (c *chaos) receiverGone() {
	interval, gone := time.Second, 5*time.Second
	if c.long {
		interval, gone = drm.DefaultReadyInterval, time.Minute
	}
	s, before := c.beginWithShop(300, interval)

	fault := c.now()
	s.close()
	c.holders("a and c have everything", func(held map[string]string) bool {
		for _, m := range held {
			if m == "b" {
				return false
			}
		}
		return len(held) == len(c.wanted)
	})
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "b")
	if bound := drm.DefaultUnreadyAfter*interval + handoverSlack; c.takeover > bound {
		c.t.Errorf("the others had all after %v, want %v", c.takeover, bound)
	}
	for _, m := range get[[]memberJSON](c.lab, "members") {
		if (m.State == "unready") != (m.ID == "b") || (m.Reason != "") != (m.ID == "b") {
			c.t.Errorf("while the receiver is gone: %+v", m)
		}
	}
	handedOver := c.journal.Len()
	c.lasts(max(2*interval, gone-time.Since(fault.at)))
	if n := len(c.since(handedOver)); n > 0 {
		c.t.Errorf("%d handlings began or ended before the receiver was back", n)
	}

	back := c.now()
	s.open()
	c.sessions["b"] = s.session
	after := c.all("a", "b", "c")
	c.onlyTouched(back, before, "b")
	if !maps.Equal(after, before) {
		c.t.Error("not everything is where it was before")
	}
	took := c.took(back)
	if bound := drm.DefaultReadyAfter*interval + handoverSlack; took > bound {
		c.t.Errorf("the member had its resources back after %v, want %v", took, bound)
	}
	c.note("gone for %.0f s; the member was asked every %v, and handed over after %d failures; it had its %d "+
		"resources back %s after its receiver was", back.at.Sub(fault.at).Seconds(), interval,
		drm.DefaultUnreadyAfter, len(c.touched(fault, before)), seconds(took))
}

// receiverProbed takes away the receiver of one of three members for so long that one question meets it, or two, but
// not three, after which the member would hand over. The receiver names no instance, so the questions alone tell of it.
// All that it had must be handled again within one interval and 2 s of its return, by the same member and under the
// same tokens.
func (c *chaos) receiverProbed() {
	interval := time.Second
	if c.long {
		interval = drm.DefaultReadyInterval
	}
	s, before := c.beginWithShop(300, interval)
	tokens, began := c.begun("b")
	fault := c.now()
	s.close()
	c.lasts(interval * 3 / 2) // two questions are 9/10 of an interval apart at least
	back := c.now()
	s.open()
	c.sessions["b"] = s.session
	c.all("a", "b", "c")
	again := c.onlyAgain(fault, "b", tokens)
	c.onlyTouched(fault, before, "b")
	c.takeover = c.took(back)
	// Where the machine is slow, handling takes long.
	if bound := interval + max(2*time.Second, time.Second+5*began); c.takeover > bound {
		c.t.Errorf("all was handled again %v after the receiver was back, want %v", c.takeover, bound)
	}
	c.note("asked every %v; gone for %s; %d resources were handled again, the time is from its return; under the same "+
		"tokens, nothing terminated, none of the others touched", interval, seconds(back.at.Sub(fault.at)), again)
}
