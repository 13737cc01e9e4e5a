package scenario_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// service is a receiver of webhooks that can be killed, and started again on its port. An instance knows nothing of
// what an earlier one was given.
type service struct {
	tb     testing.TB
	addr   string
	server *http.Server
	ended  chan struct{}

	mu       sync.Mutex
	instance string
	runs     map[string]int64 // what the instance runs, with its token
	requests []request
	// answer, if set, is called before a request is carried out. If it returns false, the request is not.
	answer func(w http.ResponseWriter, r request, over <-chan struct{}) bool
}

type request struct {
	Instance string `json:"-"` // that got it
	Action   string
	Resource struct{ ID string }
	Token    int64
}

func newService(tb testing.TB, instance string) *service {
	tb.Helper()
	s := &service{tb: tb, addr: embeddedtest.Address(tb)}
	s.start(instance)
	tb.Cleanup(s.kill)
	return s
}

func (s *service) start(instance string) {
	s.tb.Helper()
	var l net.Listener
	await(s.tb, "the port is free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", s.addr)
		return err == nil
	})
	s.mu.Lock()
	s.instance, s.runs = instance, map[string]int64{}
	s.mu.Unlock()
	s.addr, s.ended = l.Addr().String(), make(chan struct{})
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, instance)
	})}
	go func(server *http.Server, ended chan struct{}) {
		defer close(ended)
		_ = server.Serve(l)
	}(s.server, s.ended)
}

func (s *service) kill() {
	s.mu.Lock()
	s.instance = "" // what its requests still do has no effect
	s.mu.Unlock()
	_ = s.server.Close()
	<-s.ended
}

func (s *service) serve(w http.ResponseWriter, r *http.Request, instance string) {
	asked := request{Instance: instance}
	_ = json.NewDecoder(r.Body).Decode(&asked)
	s.mu.Lock()
	s.requests = append(s.requests, asked)
	answer := s.answer
	s.mu.Unlock()
	if instance != unnamed {
		w.Header().Set(handler.InstanceHeader, instance)
	}
	if answer != nil && !answer(w, asked, r.Context().Done()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != instance {
		return
	}
	switch asked.Action {
	case "handle", "update":
		s.runs[asked.Resource.ID] = asked.Token
	case "terminate":
		delete(s.runs, asked.Resource.ID)
	}
	w.WriteHeader(http.StatusNoContent)
}

// unnamed is the instance of a receiver that does not say which one it is.
const unnamed = "unnamed"

func (s *service) answers(answer func(w http.ResponseWriter, r request, over <-chan struct{}) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// running returns what the current instance runs, with the tokens.
func (s *service) running() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.runs)
}

// count counts the requests with an action that an instance got; "" stands for any instance.
func (s *service) count(instance, action string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.Action == action && (instance == "" || r.Instance == instance) {
			n++
		}
	}
	return n
}

func (s *service) webhook() *handler.Webhook {
	s.tb.Helper()
	hook, err := handler.NewWebhook(handler.WebhookConfig{URL: "http://" + s.addr})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(hook.Close)
	return hook
}

// tokensOf returns what a member handles, with the tokens.
func tokensOf(m *drm.Manager) map[string]int64 {
	held := map[string]int64{}
	for _, h := range m.Held() {
		held[h.Resource] = h.Token
	}
	return held
}

func TestAReceiverThatRestartsIsToldAgain(t *testing.T) {
	t.Parallel()
	s, other := newService(t, "one"), newRecorder(t)
	hook := s.webhook()
	w := newWorld(t)
	a, b := w.start(w.config("a", hook)), w.start(w.config("b", other))
	const n = 40
	for i := range n {
		w.allocate(fmt.Sprint("r", i))
	}
	await(t, "all are handled", func() bool { return len(a.Held())+len(b.Held()) == n })
	before, others := tokensOf(a), len(other.all())
	if !maps.Equal(before, s.running()) {
		t.Fatalf("it runs %v, want %v", s.running(), before)
	}

	let := make(chan struct{})
	s.kill()
	s.answers(func(_ http.ResponseWriter, r request, over <-chan struct{}) bool {
		if r.Action == "handle" {
			select {
			case <-let:
			case <-over:
			}
		}
		return true
	})
	s.start("two")
	client := w.client()
	await(t, "the claims say that nobody handles it", func() bool {
		all, err := client.Assignments(t.Context(), drm.AssignmentFilter{})
		return err == nil && s.count("two", "handle") > 0 && !slices.ContainsFunc(all, func(x drm.Assignment) bool {
			return x.Member == "a" && x.State != drm.StateClaimed
		})
	})
	close(let)
	await(t, "the new instance runs everything", func() bool {
		return maps.Equal(s.running(), before) && maps.Equal(tokensOf(a), before)
	})
	if handles, ends := s.count("two", "handle"), s.count("", "terminate"); handles != len(before) || ends != 0 {
		t.Errorf("%d handles of %d resources, and %d terminates", handles, len(before), ends)
	}
	if got := len(other.all()); got != others {
		t.Errorf("the other member has made %d calls", got-others)
	}
	gone := slices.Sorted(maps.Keys(before))[0]
	if err := a.Deallocate(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	await(t, "the new instance ends one", func() bool { return s.count("two", "terminate") == 1 })
}

// A receiver dies while it is asked to handle something. Nobody knows whether its successor has got that request, so
// this one resource may be terminated there; it is handled there in the end.
func TestAHandleThatMeetsTheEndOfTheReceiverIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := newService(t, "one")
	hook := s.webhook()
	w := newWorld(t)
	a := w.start(w.config("a", hook))
	w.allocate("before")
	await(t, "one is handled", func() bool { return len(a.Held()) == 1 })
	arrived := make(chan struct{}, 100)
	s.answers(func(_ http.ResponseWriter, r request, over <-chan struct{}) bool {
		if r.Action == "handle" && r.Instance == "one" {
			arrived <- struct{}{}
			<-over
		}
		return true
	})
	w.allocate("meanwhile")
	<-arrived
	s.kill()
	s.start("two")
	await(t, "the new instance runs both", func() bool { return len(s.running()) == 2 && len(a.Held()) == 2 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.Action == "terminate" && r.Resource.ID == "before" {
			t.Errorf("%s was told to end %s", r.Instance, r.Resource.ID)
		}
	}
}

// A receiver that sends no name is sent what it was always sent.
func TestAReceiverThatSaysNothingIsNotToldAgain(t *testing.T) {
	t.Parallel()
	s := newService(t, unnamed)
	hook := s.webhook()
	w := newWorld(t)
	a := w.start(w.config("a", hook))
	w.allocate("r")
	await(t, "it is handled", func() bool { return len(a.Held()) == 1 })
	s.kill()
	s.start(unnamed)
	<-time.After(3 * time.Second) // more than twice the time in which others are asked
	s.mu.Lock()
	if n := len(s.requests); n != 1 {
		t.Errorf("%d requests, want the handle alone: %v", n, s.requests)
	}
	s.mu.Unlock()
	if _, err := a.Reannounce(); err != nil {
		t.Fatal(err)
	}
	await(t, "it is handled again", func() bool { return len(s.running()) == 1 })
}

// Receivers that share a URL, and have names of their own, take turns. Everything stays handled by somebody, and what
// goes away is ended.
func TestReceiversThatTakeTurnsAreNotToldAgainAllTheTime(t *testing.T) {
	t.Parallel()
	for what, name := range map[string]func(n int) string{
		"two":                    func(n int) string { return fmt.Sprint(n % 2) },
		"twenty":                 func(n int) string { return fmt.Sprint(n % 20) },
		"another name each time": func(n int) string { return fmt.Sprint(n) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			receiversTakeTurns(t, name)
		})
	}
}

func receiversTakeTurns(t *testing.T, name func(n int) string) {
	s := newService(t, unnamed)
	var mu sync.Mutex
	turns := 0
	s.answers(func(w http.ResponseWriter, _ request, _ <-chan struct{}) bool {
		mu.Lock()
		defer mu.Unlock()
		turns++
		w.Header().Set(handler.InstanceHeader, name(turns))
		return true
	})
	hook := s.webhook()
	w := newWorld(t)
	a := w.start(w.config("a", hook))
	const n = 10
	for i := range n {
		w.allocate(fmt.Sprint("r", i))
	}
	await(t, "all are handled", func() bool { return len(s.running()) == n })
	began := time.Now()
	<-time.After(4 * time.Second)
	// Without the growing pauses, each answer to a question would lead to n handles, and each of these to n more.
	most := n * (int(time.Since(began)/time.Second)*2 + 4)
	if got := s.count("", "handle"); got > most {
		t.Errorf("%d handles in %v, want at most %d", got, time.Since(began), most)
	}
	// That they take turns is seen when a name comes back. Where none does, only the number of changes tells, and each
	// question makes one.
	await(t, "it is seen that they take turns", func() bool {
		mu.Lock()
		back := turns > 23 && name(0) == name(20)
		mu.Unlock()
		return back || s.count("", "instance") >= 20
	})
	for i := range n {
		if err := a.Deallocate(t.Context(), fmt.Sprint("r", i)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all are ended", func() bool { return len(s.running()) == 0 && len(w.keysWith("/claims/")) == 0 })
}

// Resources come and go while the receiver is killed and started again and again. In the end its last instance runs
// what its member handles, and nothing else.
func TestAReceiverThatRestartsOftenRunsWhatItsMemberHandles(t *testing.T) {
	t.Parallel()
	s := newService(t, "0")
	hook := s.webhook()
	w := newWorld(t)
	a := w.start(w.config("a", hook))
	const n = 30
	wanted := map[string]bool{}
	change := func(i int) {
		id := fmt.Sprint("r", i%n)
		if wanted[id] = !wanted[id]; wanted[id] {
			w.allocate(id)
		} else if err := a.Deallocate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		change(i)
	}
	next := 0
	for life := range 6 {
		for range 7 {
			change(next)
			next += 11
		}
		s.kill()
		for range 3 {
			change(next)
			next += 11
		}
		s.start(fmt.Sprint(life + 1))
		for range 5 {
			change(next)
			next += 11
		}
	}
	maps.DeleteFunc(wanted, func(_ string, is bool) bool { return !is })
	ids := slices.Sorted(maps.Keys(wanted))
	await(t, "the last instance runs what is wanted", func() bool {
		return slices.Equal(slices.Sorted(maps.Keys(s.running())), ids) && maps.Equal(s.running(), tokensOf(a))
	})
}
