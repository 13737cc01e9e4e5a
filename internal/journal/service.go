package journal

import (
	"cmp"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// ServiceConfig is the configuration of NewService.
type ServiceConfig struct {
	Journal *Journal
	// Delay, if given, returns how long a request waits before it is looked at. By then its sender may have given up
	// and closed the connection; the request is carried out all the same, as real servers do. It is called from any
	// goroutine.
	Delay func() time.Duration
	// TokensOnly makes the Service compare only tokens, and not the numbers of requests under one token. Then it cannot
	// tell that a request comes late.
	TokensOnly bool
}

// Service is a receiver of the webhook protocol that follows docs/webhook.md, for one member (a sidecar). It records in
// the journal what it runs, and not what it is asked: a Handle when a resource begins to run there, a Terminate when it
// ends, and nothing for a request that it refuses.
//
// If a resource that already runs is begun again, the journal has no end of the first run, so that Check finds the
// fault: a member must end a handling before it begins another one.
type Service struct {
	cfg ServiceConfig

	mu      sync.Mutex
	known   map[string]*known
	waiting int // requests that have not been looked at
}

// NewService makes a Service that runs nothing.
func NewService(cfg ServiceConfig) *Service {
	return &Service{cfg: cfg, known: make(map[string]*known)}
}

// number tells which of two requests for one resource was sent later.
type number struct{ token, call int64 }

func (n number) compare(m number) int {
	return cmp.Or(cmp.Compare(n.token, m.token), cmp.Compare(n.call, m.call))
}

// known is what a Service knows of one resource.
type known struct {
	newest  number // the highest number that came
	begun   number // the handle or update that was last begun
	running *Event // the Handle of what runs; nil if nothing runs
}

// Session is how one process of the member reaches the Service.
type Session struct {
	service *Service
	over    bool // Service.mu guards it
}

// Session makes a handler for the requests of one process of the member. Each process needs its own, since a request of
// a dead process may come late, and nobody would end what it began.
func (s *Service) Session() *Session { return &Session{service: s} }

// End says that the process of the member is dead: the Service ends what it runs, refuses requests of that process that
// still come, and records that the member is Gone since then.
func (s *Session) End(member string, at time.Time) {
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	s.over = true
	for _, k := range s.service.known {
		k.running = nil
	}
	s.service.cfg.Journal.Record(Event{Time: at, Member: member, Action: Gone})
}

// Waiting is the number of requests that have not been looked at yet.
func (s *Service) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// message is the part of a request that a Service uses.
type message struct {
	Action   Action `json:"action"`
	Member   string `json:"member"`
	Token    int64  `json:"token"`
	Call     int64  `json:"call"`
	Resource struct {
		ID string `json:"id"`
	} `json:"resource"`
}

// ServeHTTP takes one request of the webhook protocol.
func (s *Session) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var msg message
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<20)).Decode(&msg); err != nil {
		http.Error(w, "not a request of the webhook protocol: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.service.lie()
	w.WriteHeader(s.service.receive(s, msg))
}

// lie waits until it is time to look at a request.
func (s *Service) lie() {
	if s.cfg.Delay == nil {
		return
	}
	s.wait(+1)
	<-time.After(s.cfg.Delay())
	s.wait(-1)
}

func (s *Service) wait(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += more
}

// receive carries out a request, and returns the status of the answer.
func (s *Service) receive(from *Session, msg message) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from.over {
		return http.StatusServiceUnavailable
	}
	k := s.known[msg.Resource.ID]
	if k == nil {
		k = &known{}
		s.known[msg.Resource.ID] = k
	}
	sent := number{msg.Token, msg.Call}
	if s.cfg.TokensOnly {
		sent.call = 0
	}
	outdated := sent.compare(k.newest) < 0
	if !outdated {
		k.newest = sent
	}
	switch msg.Action {
	case Handle, Update:
		return s.begin(k, sent, outdated, msg)
	case Terminate:
		if !outdated && k.running != nil {
			s.cfg.Journal.Record(
				Event{Member: k.running.Member, Action: Terminate, Resource: msg.Resource.ID, Token: k.running.Token},
			)
			k.running = nil
		}
	}
	return http.StatusNoContent
}

// begin carries out a Handle or an Update.
func (s *Service) begin(k *known, sent number, outdated bool, msg message) int {
	switch {
	case outdated:
		return http.StatusConflict
	case !s.cfg.TokensOnly && sent == k.begun && k.running != nil: // the same request came twice
		return http.StatusNoContent
	}
	action := msg.Action
	if k.running == nil {
		action = Handle // an Update of a resource that does not run makes it run all the same
	}
	k.begun = sent
	e := Event{Member: msg.Member, Action: action, Resource: msg.Resource.ID, Token: msg.Token}
	k.running = &e
	s.cfg.Journal.Record(e)
	return http.StatusNoContent
}
