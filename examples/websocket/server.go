package main

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"

	"github.com/coder/websocket"
)

// server stands for somebody else's WebSocket server. It wants exactly one connection for each feed, and counts them.
type server struct {
	mu      sync.Mutex
	open    map[string]int    // for each feed: how many connections it has
	most    map[string]int    // for each feed: how many connections it had at most
	token   map[string]int64  // for each feed: the highest fencing token seen
	node    map[string]string // for each feed: the node that connected last
	refused int
}

func newServer() *server {
	return &server{open: map[string]int{}, most: map[string]int{}, token: map[string]int64{}, node: map[string]string{}}
}

// counts returns how many connections each feed has. It leaves out feeds without any.
func (s *server) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := maps.Clone(s.open)
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	return counts
}

// owners returns which node has which feed.
func (s *server) owners() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	owners := map[string]string{}
	for feed, n := range s.open {
		if n > 0 {
			owners[feed] = s.node[feed]
		}
	}
	return owners
}

// ServeHTTP serves one connection.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	feed := r.URL.Path
	if err := s.enter(feed, r.Header); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.leave(feed)
		return // Accept has answered the request already
	}
	for {
		_, message, err := conn.Read(r.Context())
		if err != nil || string(message) == "bye" {
			break
		}
	}
	s.leave(feed) // comes before the answer to the goodbye: whoever waits for that must find the feed free
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// enter counts a connection, unless its node has lost the feed to another one: the token of its claim, which rises with
// each new claim, is lower than one that the server has seen.
func (s *server) enter(feed string, header http.Header) error {
	token, err := strconv.ParseInt(header.Get("DRM-Token"), 10, 64)
	if err != nil {
		return fmt.Errorf("DRM-Token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if token < s.token[feed] {
		s.refused++
		return fmt.Errorf("%s belongs to a newer claim", feed)
	}
	s.token[feed], s.node[feed] = token, header.Get("User-Agent")
	s.open[feed]++
	s.most[feed] = max(s.most[feed], s.open[feed])
	return nil
}

func (s *server) leave(feed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[feed]--
}
